//! What a replica makes of committed entries: values under a few keys, each write once.
//!
//! ```text
//! entry ─▶ rescued? ─▶ took effect before, or something newer stands: nothing
//!             └─▶ a client's write? ─▶ identity known? no: the value ─▶ hash of the state at this index
//! ```
//! A retried write carries its first identity, and is recognised as `apply` recognises an
//! idempotency key: looked up in the replicated state before anything is written. A rescued one also
//! carries its first place, and has effect only where nothing newer stands. What else is in
//! the log moves the index and the hash, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use percolate_core::identity::{Epoch, Index};
use percolate_core::log::{Entry, Place};

use super::history::{NOTHING, Value};
use super::rescue::{Breakage, Rescued};

/// Names what values are written under.
pub(super) type Key = u8;

/// A client's write as it stands in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    /// The same however often it is tried.
    pub(super) identity: u64,
    pub(super) key: Key,
    pub(super) value: Value,
    /// The time of the replica that was asked, which may be wrong.
    pub(super) time: u64,
}

impl Write {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![self.key];
        for number in [self.identity, self.value, self.time] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    /// `None` for all that is no client's write: opening entries of epochs, and load.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first()?;
        let (numbers, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let [identity, value, time] = *numbers else {
            return None;
        };
        Some(Self {
            identity: u64::from_be_bytes(identity),
            key: *key,
            value: u64::from_be_bytes(value),
            time: u64::from_be_bytes(time),
        })
    }
}

/// What an entry came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// The value that took effect, if one did.
    pub(super) value: Option<Value>,
    /// Of a rescued entry: whether it took effect.
    pub(super) merged: Option<bool>,
    /// What the entry asks for has taken effect before.
    pub(super) is_repeated: bool,
}

/// The visible state of one replica.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) applied: Index,
    epoch: Epoch,
    values: BTreeMap<Key, Value>,
    /// When each value was written; never falls.
    times: BTreeMap<Key, u64>,
    known: BTreeSet<u64>,
    /// How far the entries of each epoch that ended have had their turn, here or where they were cut.
    until: BTreeMap<Epoch, Index>,
    /// What has taken effect.
    done: BTreeSet<Vec<u8>>,
    /// Over every state so far, in order.
    pub(super) hash: u64,
}

impl Store {
    pub(super) fn apply(&mut self, entry: &Entry, breakage: Breakage) -> Effect {
        self.applied = entry.head.index;
        if entry.head.epoch > self.epoch {
            self.until.insert(self.epoch, entry.head.index - 1);
            self.epoch = entry.head.epoch;
        }
        let effect = match Rescued::decode(&entry.payload) {
            Some(rescued) => self.rescue(&rescued, breakage),
            None => self.perform(&entry.payload, None),
        };
        self.digest(&entry.head.index.to_be_bytes());
        self.digest(&entry.payload);
        for (key, value) in self.values.clone() {
            self.digest(&[key]);
            self.digest(&value.to_be_bytes());
            self.digest(&self.times[&key].to_be_bytes());
        }
        effect
    }

    fn rescue(&mut self, rescued: &Rescued, breakage: Breakage) -> Effect {
        let Place { epoch, index } = rescued.place;
        let until = self.until.entry(epoch).or_default();
        let known = epoch >= self.epoch || *until >= index;
        if known && breakage != Breakage::PlacesForgotten {
            return Effect {
                merged: Some(false),
                ..Effect::default()
            };
        }
        *until = index;
        self.perform(&rescued.payload, Some(rescued.place))
    }

    fn perform(&mut self, payload: &[u8], late: Option<Place>) -> Effect {
        let Some(write) = Write::decode(payload) else {
            let is_repeated = !payload.is_empty() && !self.done.insert(payload.to_vec());
            return Effect {
                merged: late.map(|_| true),
                is_repeated,
                value: None,
            };
        };
        let newest = self.times.get(&write.key).copied().unwrap_or(0);
        let overtaken = late.is_some() && newest > write.time;
        let known = self.known.contains(&write.identity);
        if !overtaken {
            self.known.insert(write.identity); // else a retry is a write of its own
        }
        if known || overtaken {
            return Effect {
                merged: late.map(|_| false),
                ..Effect::default()
            };
        }
        // A write that is not late has seen what is there, whatever its clock says.
        let time = if late.is_some() {
            write.time
        } else {
            write.time.max(newest + 1)
        };
        self.values.insert(write.key, write.value);
        self.times.insert(write.key, time);
        Effect {
            value: Some(write.value),
            merged: late.map(|_| true),
            is_repeated: false,
        }
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
