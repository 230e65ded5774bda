//! A disk that carries out writes in order, and at a crash forgets those that were not synced.

use std::collections::VecDeque;

use percolate_core::identity::{Epoch, Incarnation, Index};
use percolate_core::log::{Head, ReadLog, SharedEntry};
use percolate_core::replica::{Persist, Restored, Ticket};

/// The state one sequence of writes leads to.
#[derive(Debug, Clone, Default)]
struct Contents {
    incarnation: Option<Incarnation>,
    promised_epoch: Epoch,
    entries: Vec<SharedEntry>,
}

impl Contents {
    fn write(&mut self, write: &Persist) {
        self.incarnation = write.incarnation.or(self.incarnation);
        self.promised_epoch = write.promised_epoch;
        if let Some(kept) = write.truncate_after {
            self.entries.truncate(usize::try_from(kept).expect("small"));
        }
        self.entries.extend(write.append.iter().cloned());
    }
}

/// One replica's disk: what is synced, what the process sees, and the writes between the two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    synced: Contents,
    visible: Contents,
    pending: VecDeque<Persist>,
    applied: Index,
}

impl Disk {
    pub(crate) fn write(&mut self, write: Persist) {
        self.visible.write(&write);
        self.pending.push_back(write);
    }

    /// Sync the oldest pending writes, at most `count`; the last one's ticket.
    pub(crate) fn sync(&mut self, count: usize) -> Option<Ticket> {
        let mut ticket = None;
        for _ in 0..count {
            let Some(write) = self.pending.pop_front() else {
                break;
            };
            self.synced.write(&write);
            ticket = Some(write.ticket);
        }
        ticket
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn apply(&mut self, index: Index) {
        self.applied = self.applied.max(index);
    }

    /// The power fails: unsynced writes are gone, and so is what was applied beyond the log
    /// (applied entries are replayed from it).
    pub(crate) fn crash(&mut self) {
        self.pending.clear();
        self.visible = self.synced.clone();
        self.applied = self.applied.min(self.last().index);
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored {
            incarnation: self.synced.incarnation,
            promised_epoch: self.synced.promised_epoch,
            last: self.last().index,
            applied: self.applied,
        }
    }

    /// Writes that are not synced yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn synced_entry(&self, index: Index) -> Option<&SharedEntry> {
        self.synced
            .entries
            .get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&SharedEntry> {
        self.visible
            .entries
            .get(usize::try_from(index).ok()?.checked_sub(1)?)
    }
}

impl ReadLog for Disk {
    fn last(&self) -> Head {
        self.visible
            .entries
            .last()
            .map_or_else(Head::default, |entry| entry.head)
    }

    fn head(&self, index: Index) -> Option<Head> {
        if index == 0 {
            Some(Head::default())
        } else {
            self.entry(index).map(|entry| entry.head)
        }
    }

    fn read(&self, from: Index, _max_bytes: usize) -> Vec<SharedEntry> {
        let from = usize::try_from(from).expect("small").saturating_sub(1);
        self.visible
            .entries
            .iter()
            .skip(from)
            .take(4)
            .cloned()
            .collect()
    }
}
