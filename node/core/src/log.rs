//! Entries of the oplog and what the replica needs to know of a log.
//!
//! ```text
//! proposal (bytes) -> Entry {epoch, index, chain} -> oplog -> followers, apply
//! ```
//! What a payload means is none of this module's business; see `operation`.

#[cfg(test)]
pub(crate) mod memory;

use std::sync::Arc;

use crate::identity::{Epoch, Index};

/// Hash over an entry and, through its predecessor's, over all of the log before it.
///
/// Two logs with the same chain at an index are equal up to it: log matching, divergence and
/// byte-equality checks all compare it. BLAKE3 cut to 128 bits: replicas guard against faults
/// here, not against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Chain(pub [u8; 16]);

/// Names a prefix of a log: the last entry it contains. The empty log is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Head {
    /// Epoch of the last entry.
    pub epoch: Epoch,
    /// Index of the last entry.
    pub index: Index,
    /// Chain of the last entry.
    pub chain: Chain,
}

/// Names one entry for good, in whichever log it stands: an epoch has one leader, which puts one
/// entry at each index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The epoch in which the entry was made.
    pub epoch: Epoch,
    /// Where it was put then.
    pub index: Index,
}

impl Head {
    /// The name of the last entry itself.
    pub fn place(self) -> Place {
        Place {
            epoch: self.epoch,
            index: self.index,
        }
    }
}

/// One place in the oplog. Immutable once made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the entry stands, and the hash of everything up to and with it.
    pub head: Head,
    /// An encoded transaction; empty for the entry with which a leader begins its epoch.
    pub payload: Vec<u8>,
}

/// An entry shared between log, transport and apply without copying its payload.
pub type SharedEntry = Arc<Entry>;

impl Entry {
    /// The entry that follows `previous` with `payload` in `epoch`.
    pub fn after(previous: Head, epoch: Epoch, payload: Vec<u8>) -> Self {
        let index = previous.index + 1;
        let chain = chain_after(previous.chain, epoch, index, &payload);
        Self {
            head: Head {
                epoch,
                index,
                chain,
            },
            payload,
        }
    }

    /// Whether this entry has its place after `previous`. Enough for entries of one process, which were looked at with
    /// [`Entry::follows`] where they came from: that hashes all of the payload.
    pub fn comes_after(&self, previous: Head) -> bool {
        self.head.index == previous.index + 1 && self.head.epoch >= previous.epoch
    }

    /// Whether this entry is what it claims to be after `previous`.
    pub fn follows(&self, previous: Head) -> bool {
        self.comes_after(previous)
            && self.head.chain
                == chain_after(
                    previous.chain,
                    self.head.epoch,
                    self.head.index,
                    &self.payload,
                )
    }
}

fn chain_after(previous: Chain, epoch: Epoch, index: Index, payload: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(&epoch.to_be_bytes());
    hasher.update(&index.to_be_bytes());
    hasher.update(payload);
    let mut chain = Chain::default();
    chain.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    chain
}

/// What the replica reads of its log. Shows every write it was told of, durable yet or not.
pub trait ReadLog {
    /// What the log begins after: the last entry trimmed from its beginning, all of which were
    /// committed. The default head while nothing was.
    fn base(&self) -> Head;

    /// The last entry's head; the base while the log is empty.
    fn last(&self) -> Head;

    /// The head of the entry at `index`, also that of the base; `None` outside the log.
    fn head(&self, index: Index) -> Option<Head>;

    /// Entries from `from` on, in order, at least one if there is one, stopping before their
    /// payloads exceed `max_bytes`. None if the entry at `from` was trimmed.
    fn read(&self, from: Index, max_bytes: usize) -> Vec<SharedEntry>;

    /// The first of the entries that were cut from this log and are kept until a leader has them,
    /// in the order of their places, at least one if there is one. Unlike all else here only what
    /// is on disk.
    fn set_aside(&self, max_bytes: usize) -> Piece;
}

/// Some of the entries that were cut from a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// In the order of their places.
    pub entries: Vec<SharedEntry>,
    /// Whether no more are kept.
    pub is_last: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_follows_exactly_its_predecessor() {
        let first = Entry::after(Head::default(), 1, b"a".to_vec());
        let second = Entry::after(first.head, 1, b"b".to_vec());
        assert!(second.follows(first.head));
        assert!(!second.follows(Head::default()));
        let changed = Entry {
            payload: b"c".to_vec(),
            ..second.clone()
        };
        assert!(
            !changed.follows(first.head),
            "a changed payload breaks the chain"
        );
        let lower = Entry::after(second.head, 0, Vec::new());
        assert!(!lower.follows(second.head), "epochs never fall along a log");
    }
}
