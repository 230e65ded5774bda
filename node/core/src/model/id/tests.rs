use super::*;

#[test]
fn ids_are_short_visible_and_stay_in_their_directory() {
    for (id, is_id) in [
        ("a", true),
        ("notes/2024/ümlaut.md", true),
        ("a..b", true),
        ("...", true),
        (".hidden", true),
        ("a b", true),
        ("/leading", true),
        (&"x".repeat(256), true),
        (&"x".repeat(257), false),
        (&"é".repeat(128), true),
        (&"é".repeat(129), false),
        ("", false),
        (".", false),
        ("..", false),
        ("../etc/passwd", false),
        ("a/../b", false),
        ("a/./b", false),
        ("a/..", false),
        ("a\\..\\b", false),
        ("nul\0", false),
        ("new\nline", false),
        ("del\u{7f}", false),
        ("c1\u{85}", false),
    ] {
        assert_eq!(ItemId::new(id).is_ok(), is_id, "{id:?}");
    }
}

#[test]
fn names_may_look_like_paths() {
    for (name, is_name) in [("..", true), ("a/b", true), ("", false), ("tab\t", false)] {
        assert_eq!(Name::new(name).is_ok(), is_name, "{name:?}");
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    for (id, message) in [
        ("", "id is empty"),
        ("a\tb", "id has the control character U+0009 at byte 1"),
        (
            "a/../b",
            "id \"a/../b\" has a segment that is \".\" or \"..\"",
        ),
    ] {
        let refusal = ItemId::new(id).err().map(|error| error.to_string());
        assert_eq!(refusal.as_deref(), Some(message));
    }
}
