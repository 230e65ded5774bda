//! The log as the replica sees it: what is on disk, and in front of it what was handed to the
//! disk and is not there yet. The newest entries stay in memory for followers and for apply.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use percolate_core::identity::Index;
use percolate_core::log::{Head, Piece, ReadLog, SharedEntry};
use percolate_core::replica::Persist;

use crate::store::{Store, StoreError};

/// Payload bytes of durable and applied entries kept in memory, so that a follower a little behind
/// is served without reading the disk. Small: it is memory of every replica of every tenant.
const KEPT_BYTES: usize = 2 << 20;

/// Payload bytes of durable entries kept in memory until they are applied. Beyond this they are read
/// from the disk again: a replica that copies its log faster than it can apply it, as one that was
/// away does, would otherwise hold all that it was away for.
const UNAPPLIED_BYTES: usize = 8 << 20;

/// The log in front of the store's oplog.
pub(super) struct Tail {
    store: Arc<Store>,
    /// Contiguous and ending with `last`; older entries are in the store.
    recent: VecDeque<SharedEntry>,
    recent_bytes: usize,
    last: Head,
    /// Entries up to here are gone, or about to.
    base: Head,
    /// A read of the store failed: nothing this log says can be trusted any more.
    failed: AtomicBool,
}

impl Tail {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let durable = store.durable();
        Self {
            store,
            recent: VecDeque::new(),
            recent_bytes: 0,
            last: durable.last,
            base: durable.base,
            failed: AtomicBool::new(false),
        }
    }

    /// Show `write` from now on, though it is not on disk yet.
    pub(super) fn extend(&mut self, write: &Persist) {
        if let Some(after) = write.truncate_after {
            while self
                .recent
                .back()
                .is_some_and(|entry| entry.head.index > after)
            {
                let cut = self.recent.pop_back();
                self.recent_bytes -= cut.map_or(0, |entry| entry.payload.len());
            }
            self.last = self.recent.back().map_or_else(
                || self.stored_head(after).unwrap_or_default(),
                |entry| entry.head,
            );
        }
        for entry in &write.append {
            self.recent_bytes += entry.payload.len();
            self.last = entry.head;
            self.recent.push_back(Arc::clone(entry));
        }
    }

    /// Forget the oldest entries in memory, beyond what is kept anyway: those up to `applied`, or if
    /// they are far too many those up to `durable`.
    pub(super) fn forget(&mut self, applied: Index, durable: Index) {
        while let Some(entry) = self.recent.front() {
            let is_applied = entry.head.index <= applied && self.recent_bytes > KEPT_BYTES;
            let is_durable = entry.head.index <= durable && self.recent_bytes > UNAPPLIED_BYTES;
            if !is_applied && !is_durable {
                return;
            }
            let gone = self.recent.pop_front();
            self.recent_bytes -= gone.map_or(0, |entry| entry.payload.len());
        }
    }

    /// Show nothing up to `index` any more; the store may drop it.
    pub(super) fn trim(&mut self, index: Index) {
        if let Some(base) = self.head(index) {
            self.base = base;
        }
    }

    /// Whether the store could not be read.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn stored_head(&self, index: Index) -> Option<Head> {
        self.checked(self.store.head(index)).flatten()
    }

    fn checked<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        result
            .inspect_err(|error| {
                tracing::error!(%error, "the oplog cannot be read");
                self.failed.store(true, Ordering::Relaxed);
            })
            .ok()
    }

    fn in_memory(&self, index: Index) -> Option<usize> {
        let first = self.recent.front()?.head.index;
        usize::try_from(index.checked_sub(first)?)
            .ok()
            .filter(|position| *position < self.recent.len())
    }
}

impl ReadLog for Tail {
    fn base(&self) -> Head {
        self.base
    }

    fn last(&self) -> Head {
        self.last
    }

    fn head(&self, index: Index) -> Option<Head> {
        if index <= self.base.index {
            return (index == self.base.index).then_some(self.base);
        }
        if index > self.last.index {
            return None;
        }
        match self.in_memory(index) {
            Some(position) => Some(self.recent[position].head),
            None => self.stored_head(index),
        }
    }

    fn read(&self, from: Index, max_bytes: usize) -> Vec<SharedEntry> {
        if from > self.last.index || from <= self.base.index {
            return Vec::new();
        }
        let Some(position) = self.in_memory(from) else {
            let mut stored = self
                .checked(self.store.read(from, max_bytes))
                .unwrap_or_default();
            // Entries that are being replaced may still be on disk: memory knows better.
            let first = self
                .recent
                .front()
                .map_or(self.last.index + 1, |entry| entry.head.index);
            stored.retain(|entry| entry.head.index < first);
            return stored;
        };
        let mut bytes = 0;
        let fits = |entry: &&SharedEntry| {
            let first = bytes == 0;
            bytes += entry.payload.len() + 1;
            first || bytes <= max_bytes
        };
        self.recent
            .range(position..)
            .take_while(fits)
            .cloned()
            .collect()
    }

    fn set_aside(&self, max_bytes: usize) -> Piece {
        self.checked(self.store.set_aside(max_bytes))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use percolate_core::identity::ReplicaId;
    use percolate_core::log::Entry;

    use super::*;
    use crate::store::LogChange;

    const ENTRY_BYTES: usize = 1 << 20;
    const LAST: Index = 24;

    fn entries() -> Vec<SharedEntry> {
        let mut last = Head::default();
        let mut entry = |number: u8| {
            let entry = Entry::after(last, 1, vec![number; ENTRY_BYTES]);
            last = entry.head;
            Arc::new(entry)
        };
        (1..=LAST)
            .map(|index| entry(u8::try_from(index).expect("small")))
            .collect()
    }

    /// A replica that catches up logs faster than it applies: memory must not grow with the difference.
    #[test]
    fn what_is_on_the_disk_does_not_stay_in_memory_and_is_read_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Store::open(directory.path(), ReplicaId(1)).expect("a store"));
        let mut tail = Tail::new(Arc::clone(&store));
        let entries = entries();
        let persist = Persist {
            ticket: 1,
            incarnation: None,
            promised_epoch: 1,
            truncate_after: None,
            append: entries.clone(),
            forget: Vec::new(),
        };
        tail.extend(&persist);
        tail.forget(0, 0);
        assert_eq!(tail.recent.len(), entries.len(), "none is on the disk yet");
        let change = LogChange {
            promise: Some(1),
            append: entries.clone(),
            ..LogChange::default()
        };
        store.persist(&change).expect("written");
        tail.forget(0, LAST);
        assert!(
            tail.recent_bytes <= UNAPPLIED_BYTES,
            "{}",
            tail.recent_bytes
        );
        tail.forget(LAST, LAST);
        assert!(tail.recent_bytes <= KEPT_BYTES, "{}", tail.recent_bytes);
        let mut read = Vec::new();
        while (read.len() as Index) < LAST {
            let next = tail.read(read.len() as Index + 1, 2 * ENTRY_BYTES);
            assert!(!next.is_empty(), "nothing after {}", read.len());
            read.extend(next);
        }
        assert_eq!(read, entries);
    }
}
