//! Entries of the replicated log in the `oplog` family: `index -> epoch, index, chain, payload`.
//!
//! The index stands in the value too, so that a value under the wrong key is seen at once. Reads
//! verify that entries follow one another; a gap is an error and never skipped.

use std::sync::Arc;

use percolate_core::identity::Index;
use percolate_core::log::{Chain, Entry, Head, SharedEntry};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};

use super::engine;
use super::error::StoreError;
use super::keys::{Family, Fields};

/// First byte of every value.
const FORMAT: u8 = 1;

/// Bytes before the payload.
const HEADER_BYTES: usize = 1 + 8 + 8 + 16;

/// Above every key an entry can have: end of the range that a cut removes.
const END: [u8; 9] = [0xff; 9];

pub(super) fn key(index: Index) -> [u8; 8] {
    index.to_be_bytes()
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entry.payload.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&entry.head.epoch.to_be_bytes());
    bytes.extend_from_slice(&entry.head.index.to_be_bytes());
    bytes.extend_from_slice(&entry.head.chain.0);
    bytes.extend_from_slice(&entry.payload);
    bytes
}

/// The head in `value`, and the payload behind it; `key` must be where it was found.
fn split<'a>(key: &[u8], value: &'a [u8]) -> Result<(Head, &'a [u8]), StoreError> {
    let refused = |reason: &str| StoreError::undecodable(Family::Oplog, key, reason);
    let mut fields = Fields(value);
    if fields.u8() != Some(FORMAT) {
        return Err(refused("it has another format"));
    }
    let head = (|| {
        Some(Head {
            epoch: fields.u64()?,
            index: fields.u64()?,
            chain: Chain(fields.array()?),
        })
    })()
    .ok_or_else(|| refused("it is cut short"))?;
    if head.index.to_be_bytes() != key {
        return Err(refused("it belongs to another index"));
    }
    Ok((head, fields.rest()))
}

pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Entry, StoreError> {
    let (head, payload) = split(key, value)?;
    Ok(Entry {
        head,
        payload: payload.to_vec(),
    })
}

/// The head of the entry at `index`, also that of `base`, which is not there any more.
pub(super) fn head(db: &DB, base: Head, index: Index) -> Result<Option<Head>, StoreError> {
    if index <= base.index {
        return Ok((index == base.index).then_some(base));
    }
    let key = key(index);
    let value = db
        .get_pinned_cf(engine::family(db, Family::Oplog), key)
        .map_err(StoreError::reading("read an entry"))?;
    value
        .map(|value| split(&key, &value).map(|(head, _)| head))
        .transpose()
}

/// The last entry's head; `base` when there is none.
pub(super) fn last(db: &DB, base: Head) -> Result<Head, StoreError> {
    let mut backwards = db.iterator_cf(engine::family(db, Family::Oplog), IteratorMode::End);
    let Some(item) = backwards.next() else {
        return Ok(base);
    };
    let (key, value) = item.map_err(StoreError::reading("find the last entry"))?;
    split(&key, &value).map(|(head, _)| head)
}

/// Entries from `from` on, at least one if there is one, stopping before their payloads exceed
/// `max_bytes`. Each is checked to follow the one before it.
pub(super) fn read(db: &DB, from: Index, max_bytes: usize) -> Result<Vec<SharedEntry>, StoreError> {
    let start = key(from);
    let forwards = db.iterator_cf(
        engine::family(db, Family::Oplog),
        IteratorMode::From(&start, Direction::Forward),
    );
    let mut entries: Vec<SharedEntry> = Vec::new();
    let mut bytes = 0;
    for (item, expected) in forwards.zip(from..) {
        let (key, value) = item.map_err(StoreError::reading("read the oplog"))?;
        let payload_bytes = value.len().saturating_sub(HEADER_BYTES);
        if !entries.is_empty() && bytes + payload_bytes > max_bytes {
            break;
        }
        let entry = decode(&key, &value)?;
        if entry.head.index != expected {
            return Err(StoreError::Gap { missing: expected });
        }
        if let Some(previous) = entries
            .last()
            .filter(|previous| !entry.follows(previous.head))
        {
            return Err(StoreError::Broken {
                index: expected,
                last: previous.head.index,
            });
        }
        bytes += payload_bytes;
        entries.push(Arc::new(entry));
    }
    Ok(entries)
}

/// Whether `entries` go on after `last`. They were hashed where they came from, each after the one before
/// it; that they are of this log the first one shows.
pub(super) fn check_order(entries: &[SharedEntry], last: Head) -> Result<(), StoreError> {
    let mut previous = last;
    for (position, entry) in entries.iter().enumerate() {
        let is_next = match position {
            0 => entry.follows(previous),
            _ => entry.comes_after(previous),
        };
        if !is_next {
            return Err(StoreError::NotNext {
                index: entry.head.index,
                last: previous.index,
            });
        }
        previous = entry.head;
    }
    Ok(())
}

/// Add `entries` to `batch`, checked to extend `last`; returns the new last head.
pub(super) fn append(
    db: &DB,
    batch: &mut WriteBatch,
    last: Head,
    entries: &[SharedEntry],
) -> Result<Head, StoreError> {
    check_order(entries, last)?;
    let family = engine::family(db, Family::Oplog);
    for entry in entries {
        batch.put_cf(family, key(entry.head.index), encode(entry));
    }
    Ok(entries.last().map_or(last, |entry| entry.head))
}

/// Remove every entry after `index` in `batch`.
pub(super) fn cut_after(db: &DB, batch: &mut WriteBatch, index: Index) {
    // One range instead of a delete per entry: a rejoining leader may have a long suffix to lose.
    batch.delete_range_cf(
        engine::family(db, Family::Oplog),
        key(index + 1).as_slice(),
        END.as_slice(),
    );
}

/// Remove every entry up to `index` in `batch`.
pub(super) fn trim(db: &DB, batch: &mut WriteBatch, index: Index) {
    batch.delete_range_cf(
        engine::family(db, Family::Oplog),
        key(0).as_slice(),
        key(index + 1).as_slice(),
    );
}

/// Give the room of trimmed entries back at once where whole files hold nothing else; compaction
/// sees to the rest. Only once the trim is durable.
pub(super) fn drop_trimmed_files(db: &DB, index: Index) -> Result<(), StoreError> {
    db.delete_file_in_range_cf(engine::family(db, Family::Oplog), key(0), key(index))
        .map_err(StoreError::engine("drop trimmed files"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_read_back_as_written(epoch: u64, index: u64, chain: [u8; 16], payload: Vec<u8>) {
            let entry = Entry { head: Head { epoch, index, chain: Chain(chain) }, payload };
            let bytes = encode(&entry);
            prop_assert_eq!(bytes.len(), HEADER_BYTES + entry.payload.len());
            prop_assert_eq!(decode(&key(index), &bytes).unwrap(), entry);
        }

        #[test]
        fn keys_sort_as_indexes_do(a: u64, b: u64) {
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert!(key(a).as_slice() < END.as_slice());
        }
    }

    #[test]
    fn what_was_not_written_so_is_refused() {
        let good = encode(&Entry::after(Head::default(), 1, b"payload".to_vec()));
        let other_format = [&[9], &good[1..]].concat();
        for (name, key, value) in [
            ("another format", key(1), other_format),
            ("cut short", key(1), good[..HEADER_BYTES - 1].to_vec()),
            ("empty", key(1), Vec::new()),
            ("under another key", key(2), good.clone()),
        ] {
            assert!(
                matches!(decode(&key, &value), Err(StoreError::Undecodable { .. })),
                "{name}"
            );
        }
    }
}
