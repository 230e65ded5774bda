//! What a replica makes of committed entries: values under a few keys, each write once.
//!
//! ```text
//! entry ─▶ a client's write? ─▶ identity known? no: the value ─▶ hash of the state at this index
//! ```
//! A retried write carries its first identity, and is recognised as `apply` recognises an
//! idempotency key: looked up in the replicated state before anything is written. What else is in
//! the log moves the index and the hash, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use percolate_core::identity::Index;
use percolate_core::log::Entry;

use super::history::{NOTHING, Value};

/// Names what values are written under.
pub(super) type Key = u8;

/// A client's write as it stands in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    /// The same however often it is tried.
    pub(super) identity: u64,
    pub(super) key: Key,
    pub(super) value: Value,
}

impl Write {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![self.key];
        bytes.extend(self.identity.to_be_bytes());
        bytes.extend(self.value.to_be_bytes());
        bytes
    }

    /// `None` for all that is no client's write: opening entries of epochs, and load.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first()?;
        let (identity, value) = rest.split_at_checked(8)?;
        Some(Self {
            identity: u64::from_be_bytes(identity.try_into().ok()?),
            key: *key,
            value: u64::from_be_bytes(value.try_into().ok()?),
        })
    }
}

/// The visible state of one replica.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) applied: Index,
    values: BTreeMap<Key, Value>,
    known: BTreeSet<u64>,
    /// Over every state so far, in order.
    pub(super) hash: u64,
}

impl Store {
    /// The value that took effect, if one did.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<Value> {
        self.applied = entry.head.index;
        let write = Write::decode(&entry.payload).filter(|write| self.known.insert(write.identity));
        if let Some(write) = write {
            self.values.insert(write.key, write.value);
        }
        self.digest(&entry.head.index.to_be_bytes());
        self.digest(&entry.payload);
        for (key, value) in self.values.clone() {
            self.digest(&[key]);
            self.digest(&value.to_be_bytes());
        }
        write.map(|write| write.value)
    }

    pub(super) fn read(&self, key: Key) -> Value {
        self.values.get(&key).copied().unwrap_or(NOTHING)
    }

    fn digest(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash = self.hash.rotate_left(7) ^ 0x5eed;
    }
}
