use proptest::prelude::*;

use super::*;
use crate::model::arbitrary;

#[test]
fn bytes_that_are_no_key_are_refused() {
    for (bytes, expected) in [
        (&b""[..], InvalidKey::Empty),
        (b"\0a", InvalidKey::Kind(0)),
        (b"\x05a", InvalidKey::Kind(5)),
        (b"\x02\xFF", InvalidKey::Encoding),
        (b"\x03a\0b", InvalidKey::EdgeParts(2)),
        (b"\x03a\0b\0c\0d", InvalidKey::EdgeParts(4)),
    ] {
        assert_eq!(ItemKey::from_bytes(bytes), Err(expected), "{bytes:?}");
    }
    for bytes in [&b"\x01"[..], b"\x01a\0", b"\x03a\0\0c", b"\x02.."] {
        let read = ItemKey::from_bytes(bytes);
        assert!(matches!(read, Err(InvalidKey::Id(_))), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn bytes_read_back(key in arbitrary::key()) {
        prop_assert_eq!(ItemKey::from_bytes(&key.to_bytes()), Ok(key));
    }

    #[test]
    fn bytes_sort_as_keys_do(a in arbitrary::key(), b in arbitrary::key()) {
        prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
    }

    #[test]
    fn edges_of_a_source_and_only_they_have_its_prefix(key in arbitrary::key(), src in arbitrary::id()) {
        let is_from_src = matches!(&key, ItemKey::Edge { src: from, .. } if *from == src);
        prop_assert_eq!(key.to_bytes().starts_with(&ItemKey::edges_from(&src)), is_from_src);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![0_u8..5, any::<u8>()], 0..20)) {
        if let Ok(key) = ItemKey::from_bytes(&bytes) {
            prop_assert_eq!(key.to_bytes(), bytes);
        }
    }
}
