//! A disk that carries out writes in order, and at a crash forgets those that were not synced. What
//! is cut from its log it keeps aside, in the same write.

use std::collections::{BTreeMap, VecDeque};

use percolate_core::identity::{Epoch, Incarnation, Index};
use percolate_core::log::{Head, Piece, Place, ReadLog, SharedEntry};
use percolate_core::replica::{Persist, Restored, Ticket};

/// The state one sequence of writes leads to.
#[derive(Debug, Clone, Default)]
struct Contents {
    incarnation: Option<Incarnation>,
    promised_epoch: Epoch,
    /// All that ever were: trimmed ones only for whoever judges.
    entries: Vec<SharedEntry>,
    /// So many are trimmed.
    trimmed: usize,
    /// Cut, and to be given to a leader.
    aside: BTreeMap<Place, SharedEntry>,
}

impl Contents {
    fn write(&mut self, write: &Persist) {
        self.incarnation = write.incarnation.or(self.incarnation);
        self.promised_epoch = write.promised_epoch;
        if let Some(kept) = write.truncate_after {
            let cut = usize::try_from(kept).expect("small");
            self.keep_aside(self.entries[cut.min(self.entries.len())..].to_vec());
            self.entries.truncate(cut);
        }
        self.entries.extend(write.append.iter().cloned());
        for place in &write.forget {
            self.aside.remove(place);
        }
    }

    fn keep_aside(&mut self, cut: Vec<SharedEntry>) {
        let cut = cut.into_iter().filter(|entry| !entry.payload.is_empty());
        self.aside
            .extend(cut.map(|entry| (entry.head.place(), entry)));
    }
}

/// One replica's disk: what is synced, what the process sees, and the writes between the two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    synced: Contents,
    visible: Contents,
    pending: VecDeque<Persist>,
    applied: Index,
    /// All that was ever cut from what was synced.
    pub(crate) cut: Vec<SharedEntry>,
    /// Broken: what is cut is gone.
    pub(crate) loses_cuts: bool,
}

/// Entries in one piece: fewer than are cut now and then, so that it takes several.
const PIECE: usize = 16;

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
            if let Some(kept) = write.truncate_after {
                let kept = usize::try_from(kept).expect("small");
                let cut = self.synced.entries.iter().skip(kept);
                self.cut.extend(cut.cloned());
            }
            self.synced.write(&write);
            if self.loses_cuts {
                self.synced.aside.clear();
            }
            ticket = Some(write.ticket);
        }
        ticket
    }

    /// Drop the beginning of the log, up to what is applied at most.
    pub(crate) fn trim(&mut self, index: Index) {
        let index = usize::try_from(index.min(self.applied)).expect("small");
        for contents in [&mut self.synced, &mut self.visible] {
            contents.trimmed = contents.trimmed.max(index);
        }
    }

    /// Put what `other` has applied in place of this disk's log. The promise stays, and so does what
    /// is kept aside; with it now all that is not known to be committed, and what was given up.
    pub(crate) fn install(&mut self, other: &Self, given_up: bool) {
        self.crash();
        let mut own = usize::try_from(self.applied).expect("small");
        if given_up {
            let both = self.synced.entries.iter().zip(&other.visible.entries);
            let shared = both.take_while(|(own, theirs)| own.head == theirs.head);
            own = own.min(shared.count());
        }
        let replaced = self.synced.entries.split_off(own);
        self.cut.extend(replaced.iter().cloned());
        self.synced.keep_aside(replaced);
        if self.loses_cuts {
            self.synced.aside.clear();
        }
        let applied = usize::try_from(other.applied).expect("small");
        self.synced = Contents {
            incarnation: other.visible.incarnation,
            promised_epoch: self.synced.promised_epoch,
            entries: other.visible.entries[..applied].to_vec(),
            trimmed: applied,
            aside: std::mem::take(&mut self.synced.aside),
        };
        self.visible = self.synced.clone();
        self.applied = other.applied;
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
        assert!(
            self.synced.trimmed as Index <= self.applied,
            "what is trimmed stays applied"
        );
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored {
            incarnation: self.synced.incarnation,
            promised_epoch: self.synced.promised_epoch,
            last: self.last().index,
            applied: self.applied,
            set_aside: !self.synced.aside.is_empty(),
        }
    }

    /// How many entries are kept aside.
    pub(crate) fn kept_aside(&self) -> usize {
        self.synced.aside.len()
    }

    /// All entries of the log that are synced, also those trimmed.
    pub(crate) fn synced_entries(&self) -> &[SharedEntry] {
        &self.synced.entries
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
    fn base(&self) -> Head {
        let trimmed = self.visible.trimmed as Index;
        self.entry(trimmed)
            .map_or_else(Head::default, |entry| entry.head)
    }

    fn last(&self) -> Head {
        self.visible
            .entries
            .last()
            .map_or_else(Head::default, |entry| entry.head)
    }

    fn head(&self, index: Index) -> Option<Head> {
        let base = self.base();
        if index <= base.index {
            (index == base.index).then_some(base)
        } else {
            self.entry(index).map(|entry| entry.head)
        }
    }

    fn read(&self, from: Index, _max_bytes: usize) -> Vec<SharedEntry> {
        let from = usize::try_from(from).expect("small").saturating_sub(1);
        if from < self.visible.trimmed {
            return Vec::new();
        }
        self.visible
            .entries
            .iter()
            .skip(from)
            .take(4)
            .cloned()
            .collect()
    }

    fn set_aside(&self, _max_bytes: usize) -> Piece {
        let kept = self.synced.aside.values();
        Piece {
            entries: kept.take(PIECE).cloned().collect(),
            is_last: self.synced.aside.len() <= PIECE,
        }
    }
}
