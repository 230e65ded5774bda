//! Where each item last changed, in the `changes` family: `index, ordinal -> item key`.
//!
//! Read from any position on, it is the feed of what changed since, with each item once. An item's
//! record holds its position, so that the next change finds the old line to remove.

use super::keys::{Fields, Position};

pub(super) fn key(position: Position) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&position.index.to_be_bytes());
    key[8..].copy_from_slice(&position.ordinal.to_be_bytes());
    key
}

/// The position at the front of `fields`.
pub(super) fn take(fields: &mut Fields) -> Option<Position> {
    Some(Position {
        index: fields.u64()?,
        ordinal: fields.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_read_back_and_sort_in_order_of_change(a: (u64, u32), b: (u64, u32)) {
            let [a, b] = [a, b].map(|(index, ordinal)| Position { index, ordinal });
            let mut bytes = key(a).to_vec();
            prop_assert_eq!(take(&mut Fields(&bytes)), Some(a));
            bytes.pop();
            prop_assert_eq!(take(&mut Fields(&bytes)), None);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }
    }
}
