//! How far the entries of each epoch have had their turn, in the `meta` family: by this a rescued entry
//! takes effect once, however often and by how many replicas it is offered.
//!
//! ```text
//! epoch -> index
//! an entry of a later epoch is applied -> all up to the one before it were in the log
//! a rescued entry is applied           -> all up to it were in the log, or were rescued
//! ```
//! An epoch has one leader, whose entries have each an index of their own; those that are rescued come
//! in that order, without gaps (see `percolate_core::replica`). So one number for each epoch tells all.
//! What entries of the log come to, and so the same on every replica that has kept it from its beginning;
//! but no line of the state that replicas compare: a store that an older version began has none of the
//! epochs that ended then, and one that is filled anew from the log has them all.

use percolate_core::identity::{Epoch, Index};
use percolate_core::log::{Head, Place};

use super::error::StoreError;
use super::pending::Pending;

const PREFIX: &[u8] = b"turns/";

/// An entry of epoch `next` follows `last`: if that ended its epoch, note how far it came.
pub(super) fn note_end(pending: &mut Pending, last: Head, next: Epoch) {
    if last.index > 0 && last.epoch < next {
        put(pending, last.place());
    }
}

/// Whether the entry that was made at `place`, rescued in epoch `now`, has its turn only now. It has
/// had it then.
pub(super) fn take_turn(
    pending: &mut Pending,
    place: Place,
    now: Epoch,
) -> Result<bool, StoreError> {
    // A leader has all that it has made itself in its log.
    let is_first = place.epoch < now && find(pending, place.epoch)? < place.index;
    if is_first {
        put(pending, place);
    }
    Ok(is_first)
}

fn find(pending: &Pending, epoch: Epoch) -> Result<Index, StoreError> {
    Ok(pending.fact(&key(epoch))?.unwrap_or(0))
}

fn put(pending: &mut Pending, place: Place) {
    pending.put_fact(&key(place.epoch), &place.index);
}

fn key(epoch: Epoch) -> Vec<u8> {
    [PREFIX, &epoch.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::meta::Fact;

    proptest! {
        #[test]
        fn turns_read_back_as_written(epoch: u64, index: u64) {
            prop_assert_eq!(Index::decode(&index.encode()), Some(index));
            let key = key(epoch);
            prop_assert_eq!(key.strip_prefix(PREFIX), Some(&epoch.to_be_bytes()[..]));
        }
    }
}
