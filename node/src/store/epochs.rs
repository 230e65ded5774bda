//! How far the entries of each epoch have had their turn, in the `idempotency` family: by this a
//! rescued entry takes effect once, however often and by how many replicas it is offered.
//!
//! ```text
//! 'e' epoch -> index
//! an entry of a later epoch is applied -> all up to the one before it were in the log
//! a rescued entry is applied           -> all up to it were in the log, or were rescued
//! ```
//! An epoch has one leader, whose entries have each an index of their own; those that are rescued come
//! in that order, without gaps (see `percolate_core::replica`). So one number for each epoch tells all.
//! Part of the replicated state, and so the same on every replica.

use percolate_core::identity::{Epoch, Index};
use percolate_core::log::{Head, Place};

use super::error::StoreError;
use super::keys::{Family, Fields};
use super::pending::Pending;

const BY_EPOCH: u8 = b'e';

/// An entry of epoch `next` follows `last`: if that ended its epoch, note how far it came.
pub(super) fn note_end(pending: &mut Pending, last: Head, next: Epoch) -> Result<(), StoreError> {
    if last.index > 0 && last.epoch < next {
        put(pending, last.place())?;
    }
    Ok(())
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
        put(pending, place)?;
    }
    Ok(is_first)
}

fn find(pending: &Pending, epoch: Epoch) -> Result<Index, StoreError> {
    let key = by_epoch(epoch);
    let Some(value) = pending.get(Family::Idempotency, &key)? else {
        return Ok(0);
    };
    decode(&value)
        .ok_or_else(|| StoreError::undecodable(Family::Idempotency, &key, "it has another width"))
}

fn put(pending: &mut Pending, place: Place) -> Result<(), StoreError> {
    let key = by_epoch(place.epoch);
    let old = pending.get(Family::Idempotency, &key)?;
    let value = place.index.to_be_bytes().to_vec();
    pending.put(Family::Idempotency, key, old.as_deref(), value);
    Ok(())
}

fn by_epoch(epoch: Epoch) -> Vec<u8> {
    [&[BY_EPOCH][..], &epoch.to_be_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<Index> {
    let mut fields = Fields(bytes);
    let index = fields.u64()?;
    fields.end(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn turns_read_back_as_written(epoch: u64, index: u64) {
            prop_assert_eq!(decode(&index.to_be_bytes()), Some(index));
            prop_assert_eq!(by_epoch(epoch)[0], BY_EPOCH);
            prop_assert_eq!(&by_epoch(epoch)[1..], &epoch.to_be_bytes());
        }
    }
}
