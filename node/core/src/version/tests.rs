use proptest::prelude::*;

use super::*;

fn actor(n: u8) -> ActorId {
    ActorId {
        device: [n; 16],
        epoch: u32::from(n % 2),
    }
}

/// Sequence numbers of actors 0, 1 and 2; 0 for none.
fn version(sequences: [u64; 3]) -> VectorClock {
    let dots = (0..).zip(sequences);
    dots.map(|(n, sequence)| Dot {
        actor: actor(n),
        sequence,
    })
    .collect()
}

fn versions() -> impl Strategy<Value = VectorClock> {
    prop::array::uniform3(0_u64..4).prop_map(version)
}

#[test]
fn versions_are_ordered_by_what_they_have_seen() {
    use Ordering::{Equal, Greater, Less};
    for (a, b, expected) in [
        ([0, 0, 0], [0, 0, 0], Some(Equal)),
        ([0, 0, 0], [1, 0, 0], Some(Less)),
        ([1, 2, 0], [1, 2, 0], Some(Equal)),
        ([1, 2, 0], [1, 3, 0], Some(Less)),
        ([1, 2, 1], [1, 2, 0], Some(Greater)),
        ([1, 0, 0], [0, 1, 0], None),
        ([2, 1, 0], [1, 2, 0], None),
        ([1, 0, 0], [1, 1, 1], Some(Less)),
    ] {
        let (a, b) = (version(a), version(b));
        assert_eq!(a.partial_cmp(&b), expected, "{a} ? {b}");
        assert_eq!(a.happens_before(&b), expected == Some(Less), "{a} ? {b}");
        assert_eq!(a.is_concurrent(&b), expected.is_none(), "{a} ? {b}");
    }
}

#[test]
fn texts_that_are_not_the_one_spelling_of_a_version_are_refused() {
    let hex = "000102030405060708090a0b0c0d0e0f";
    for text in [
        "x".to_owned(),
        hex.to_owned(),
        format!("{hex}:"),
        format!("{hex}:0"),
        format!("{hex}:01"),
        format!("{hex}:+1"),
        format!("{hex}:18446744073709551616"),
        format!("{hex}-0:1"),
        format!("{hex}-4294967296:1"),
        format!("{}:1", hex.to_uppercase()),
        format!("{}:1", &hex[1..]),
        format!("+{}:1", &hex[1..]),
        format!("{hex}:1,"),
        format!("{hex}:1,{hex}:2"),
        format!(" {hex}:1"),
        format!("é{}:1", &hex[2..]),
    ] {
        assert!(text.parse::<VectorClock>().is_err(), "{text:?}");
    }
}

#[test]
fn a_version_text_with_too_many_actors_is_refused() {
    let entry = |n: usize| format!("{n:032x}:1");
    let entries: Vec<String> = (0..=MAX_VERSION_ENTRIES).map(entry).collect();
    assert!(entries[1..].join(",").parse::<VectorClock>().is_ok());
    assert_eq!(
        entries.join(",").parse::<VectorClock>(),
        Err(ParseVersionError::TooLong)
    );
}

proptest! {
    #[test]
    fn merge_is_the_least_version_that_has_seen_both(a in versions(), b in versions(), c in versions()) {
        let mut ab = a.clone();
        ab.merge(&b);
        prop_assert!(a <= ab && b <= ab);
        if a <= c && b <= c {
            prop_assert!(ab <= c);
        }
        let mut ba = b.clone();
        ba.merge(&a);
        prop_assert_eq!(&ab, &ba);
        let mut again = ab.clone();
        again.merge(&b);
        prop_assert_eq!(again, ab);
    }

    #[test]
    fn happens_before_is_a_strict_partial_order(a in versions(), b in versions(), c in versions()) {
        prop_assert!(!a.happens_before(&a));
        prop_assert!(!(a.happens_before(&b) && b.happens_before(&a)));
        if a.happens_before(&b) && b.happens_before(&c) {
            prop_assert!(a.happens_before(&c));
        }
    }

    #[test]
    fn a_version_covers_exactly_the_writes_up_to_its_entries(a in versions(), n in 0_u8..3, sequence in 1_u64..6) {
        let dot = Dot { actor: actor(n), sequence };
        prop_assert_eq!(a.covers(&dot), sequence <= a.get(&dot.actor));
        let mut recorded = a.clone();
        recorded.record(dot);
        prop_assert!(recorded.covers(&dot) && a <= recorded);
    }

    #[test]
    fn text_reads_back(a in versions()) {
        prop_assert_eq!(a.to_string().parse::<VectorClock>(), Ok(a));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f:,\\-]{0,80}") {
        if let Ok(version) = text.parse::<VectorClock>() {
            let again = version.to_string().parse::<VectorClock>();
            prop_assert_eq!(again, Ok(version));
        }
    }
}
