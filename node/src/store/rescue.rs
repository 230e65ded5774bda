//! Entries that were cut from the log, in the `rescue` family, until a leader has them.
//!
//! ```text
//! cut           -> epoch, index -> the entry as it stood     in the batch that cuts it
//! a snapshot    -> the same, of all that is not shared       before it takes the store's place
//! first         <- in order of epoch and index, a piece at a time
//! ```
//! The openings of epochs are not kept: there is nothing in them to lose.

use std::sync::Arc;

use percolate_core::identity::Index;
use percolate_core::log::{Entry, Piece, Place, SharedEntry};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};

use super::codec;
use super::engine;
use super::error::StoreError;
use super::keys::{Family, Fields};
use super::oplog;

/// Payload bytes that are set aside at once: a longer end of the log is cut in several steps, the
/// last entries first, each of which leaves a log and what was cut from it.
pub(super) const STEP_BYTES: usize = 16 << 20;

/// Above every key an entry can have.
const END: [u8; 17] = [0xff; 17];

fn key(place: Place) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&place.epoch.to_be_bytes());
    key[8..].copy_from_slice(&place.index.to_be_bytes());
    key
}

fn decode(key: &[u8], value: &[u8]) -> Result<Entry, StoreError> {
    let refused = |reason: &str| StoreError::undecodable(Family::Rescue, key, reason);
    let mut fields = Fields(key);
    let place = (|| {
        let (epoch, index) = (fields.u64()?, fields.u64()?);
        fields.end(Place { epoch, index })
    })()
    .ok_or_else(|| refused("its key has another width"))?;
    let entry = oplog::decode(&oplog::key(place.index), value)
        .map_err(|error| refused(&error.to_string()))?;
    if entry.head.place() != place {
        return Err(refused("it belongs to another epoch"));
    }
    Ok(entry)
}

/// Put all entries after `after` aside in `batch`; how many there are to keep.
pub(super) fn set_aside(
    db: &DB,
    batch: &mut WriteBatch,
    after: Index,
) -> Result<usize, StoreError> {
    let (mut from, mut kept) = (after + 1, 0);
    loop {
        let entries = oplog::read(db, from, STEP_BYTES)?;
        let Some(last) = entries.last() else {
            return Ok(kept);
        };
        from = last.head.index + 1;
        kept += put(db, batch, &entries);
    }
}

/// Keep what clients asked for; how much that is.
fn put(db: &DB, batch: &mut WriteBatch, entries: &[SharedEntry]) -> usize {
    let family = engine::family(db, Family::Rescue);
    let mut kept = 0;
    for entry in entries
        .iter()
        .filter(|entry| !codec::is_opening(&entry.payload))
    {
        batch.put_cf(family, key(entry.head.place()), oplog::encode(entry));
        kept += 1;
    }
    kept
}

pub(super) fn forget(db: &DB, batch: &mut WriteBatch, places: &[Place]) {
    let family = engine::family(db, Family::Rescue);
    for place in places {
        batch.delete_cf(family, key(*place));
    }
}

/// The first entries, at least one if there is one, stopping before their payloads exceed `max_bytes`.
pub(super) fn first(db: &DB, max_bytes: usize) -> Result<Piece, StoreError> {
    let mut piece = Piece::default();
    let mut bytes = 0;
    for row in db.iterator_cf(engine::family(db, Family::Rescue), IteratorMode::Start) {
        let (key, value) = row.map_err(StoreError::engine("read what was cut"))?;
        let entry = decode(&key, &value)?;
        bytes += entry.payload.len();
        if !piece.entries.is_empty() && bytes > max_bytes {
            return Ok(piece);
        }
        piece.entries.push(Arc::new(entry));
    }
    piece.is_last = true;
    Ok(piece)
}

/// Where to cut before the log is cut after `after`, the last place first, so that no more than
/// `max_bytes` are set aside at once; a single entry may have more.
pub(super) fn steps(db: &DB, after: Index, max_bytes: usize) -> Result<Vec<Index>, StoreError> {
    let (mut steps, mut bytes) = (Vec::new(), 0);
    for row in db.iterator_cf(engine::family(db, Family::Oplog), IteratorMode::End) {
        let (key, value) = row.map_err(StoreError::engine("read the end of the log"))?;
        let entry = oplog::decode(&key, &value)?;
        if entry.head.index <= after {
            break;
        }
        if bytes > 0 && bytes + entry.payload.len() > max_bytes {
            steps.push(entry.head.index);
            bytes = 0;
        }
        bytes += entry.payload.len();
    }
    Ok(steps)
}

/// `copy` takes the place of `own`, of which everything up to `shared` is in the leader's log too: what
/// is kept aside there, and what may stand nowhere else, is kept aside in `copy`, and nothing else. May
/// be repeated. Not synced.
pub(super) fn move_over(own: &DB, copy: &DB, shared: Index) -> Result<(), StoreError> {
    let family = engine::family(copy, Family::Rescue);
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(family, b"".as_slice(), END.as_slice());
    let mut bytes = 0;
    let aside = own.iterator_cf(engine::family(own, Family::Rescue), IteratorMode::Start);
    for row in aside {
        let (key, value) = row.map_err(StoreError::engine("read what was cut"))?;
        bytes += value.len();
        batch.put_cf(family, key, value);
        flush(copy, &mut batch, &mut bytes)?;
    }
    let start = oplog::key(shared + 1);
    let log = own.iterator_cf(
        engine::family(own, Family::Oplog),
        IteratorMode::From(&start, Direction::Forward),
    );
    for row in log {
        let (key, value) = row.map_err(StoreError::engine("read the log"))?;
        bytes += value.len();
        put(copy, &mut batch, &[Arc::new(oplog::decode(&key, &value)?)]);
        flush(copy, &mut batch, &mut bytes)?;
    }
    copy.write(batch)
        .map_err(StoreError::engine("keep what was cut"))
}

/// Write what has gathered, if it is much.
fn flush(db: &DB, batch: &mut WriteBatch, bytes: &mut usize) -> Result<(), StoreError> {
    if *bytes < STEP_BYTES {
        return Ok(());
    }
    *bytes = 0;
    db.write(std::mem::take(batch))
        .map_err(StoreError::engine("keep what was cut"))
}

#[cfg(test)]
mod tests {
    use percolate_core::log::{Chain, Head};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_read_back_as_written(epoch: u64, index: u64, chain: [u8; 16], payload: Vec<u8>) {
            let entry = Entry { head: Head { epoch, index, chain: Chain(chain) }, payload };
            let at = key(entry.head.place());
            let value = oplog::encode(&entry);
            prop_assert_eq!(decode(&at, &value).unwrap(), entry);
            let elsewhere = key(Place { epoch: epoch.wrapping_add(1), index });
            prop_assert!(decode(&elsewhere, &value).is_err());
            prop_assert!(decode(&at[1..], &value).is_err());
        }

        #[test]
        fn keys_sort_as_places_do(a: (u64, u64), b: (u64, u64)) {
            let place = |(epoch, index)| Place { epoch, index };
            prop_assert_eq!(key(place(a)).cmp(&key(place(b))), place(a).cmp(&place(b)));
            prop_assert!(key(place(a)).as_slice() < END.as_slice());
        }
    }
}
