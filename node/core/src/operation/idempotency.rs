//! How a retried transaction is recognised: its key, what is remembered of the first try, and for
//! how long.
//!
//! The store keeps one record per key in the replicated state, looks a transaction's key up before
//! it applies it, and answers a retry from the record without applying anything. What to forget is
//! decided from the times in the log alone, so every replica forgets the same.

use thiserror::Error;

use super::outcome::Outcome;
use crate::clock::Hlc;
use crate::model::limits::MAX_IDEMPOTENCY_KEY_BYTES;

/// How long a key is remembered, in milliseconds between the entries' times: a day covers a client
/// that gives up for the night and tries again.
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 60 * 60 * 1000;

/// How many keys a tenant's database remembers: about 20 MiB at most, and more than a day's single
/// writes of a person or a team.
pub const IDEMPOTENCY_KEYS_PER_TENANT: usize = 100_000;

/// The client's name for a transaction: 1 to 255 bytes of visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

/// Why a text is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidIdempotencyKey {
    /// Too short or too long.
    #[error("idempotency key has {bytes} bytes, allowed are 1 to {MAX_IDEMPOTENCY_KEY_BYTES}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// It travels in a header.
    #[error("idempotency key has the byte {byte:#04x}, allowed is visible ASCII")]
    Byte {
        /// The byte.
        byte: u8,
    },
}

/// What is remembered of a transaction that had a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The log index at which it was applied.
    pub index: u64,
    /// The time of that entry.
    pub hlc: Hlc,
    /// A hash of what was asked for.
    pub fingerprint: [u8; 32],
    /// The first answer.
    pub outcome: Outcome,
}

/// What a known key means for the transaction that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay<'a> {
    /// A retry: give this answer again.
    Answer(&'a Outcome),
    /// Something else was asked under the same key: refuse it, as the client would take the first
    /// answer for its own.
    KeyReused,
}

impl IdempotencyKey {
    /// Checks a text.
    pub fn new(key: impl Into<String>) -> Result<Self, InvalidIdempotencyKey> {
        let key = key.into();
        let bytes = key.len();
        if bytes == 0 || bytes > MAX_IDEMPOTENCY_KEY_BYTES {
            return Err(InvalidIdempotencyKey::Length { bytes });
        }
        match key.bytes().find(|byte| !byte.is_ascii_graphic()) {
            Some(byte) => Err(InvalidIdempotencyKey::Byte { byte }),
            None => Ok(Self(key)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IdempotencyRecord {
    /// What to do with a transaction that asks for what hashes to `fingerprint`.
    pub fn replay(&self, fingerprint: &[u8; 32]) -> Replay<'_> {
        if self.fingerprint == *fingerprint {
            Replay::Answer(&self.outcome)
        } else {
            Replay::KeyReused
        }
    }
}

/// How many of the oldest records to forget when the entry of time `now` has been applied.
/// `recorded` gives the times of all records, oldest index first, `count` how many there are.
///
/// Reads only as far as it has to: each entry usually forgets one record or none.
pub fn expired(recorded: impl IntoIterator<Item = Hlc>, count: usize, now: Hlc) -> usize {
    let surplus = count.saturating_sub(IDEMPOTENCY_KEYS_PER_TENANT);
    let is_old = |hlc: Hlc| now.wall_ms().saturating_sub(hlc.wall_ms()) > IDEMPOTENCY_TTL_MS;
    let forgotten = recorded
        .into_iter()
        .enumerate()
        .take_while(|&(n, hlc)| n < surplus || is_old(hlc));
    forgotten.count()
}

#[cfg(test)]
mod tests;
