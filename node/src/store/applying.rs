//! Committed entries become visible: items, feed, answers and the applied head in one batch.
//!
//! ```text
//! entry -> Transaction -> known idempotency key? -> the first answer again
//!                      -> core::apply (reads through the batch) -> items, changes -> answer remembered
//! ```

use percolate_core::apply::{self, ReadItems};
use percolate_core::identity::Incarnation;
use percolate_core::log::{Entry, Head, SharedEntry};
use percolate_core::model::{Item, ItemKey};
use percolate_core::operation::{
    IdempotencyRecord, Outcome, Refusal, RefusalCode, Replay, Transaction,
};
use percolate_core::version::{ActorId, Dot};
use rocksdb::{DB, WriteBatch};

use super::codec;
use super::error::StoreError;
use super::keys::Position;
use super::meta;
use super::pending::Pending;
use super::state_hash::{StateHash, Tally};
use super::{Durable, idempotency, items};

/// What applying some entries comes to.
pub(super) struct Applied {
    pub(super) batch: WriteBatch,
    pub(super) head: Head,
    /// One for each entry.
    pub(super) outcomes: Vec<Outcome>,
    /// The hash of the state after each entry.
    pub(super) tallies: Vec<Tally>,
}

/// Apply `entries` after what `durable` says is applied, to a state of `hash`. Nothing is written yet.
pub(super) fn apply(
    db: &DB,
    durable: &Durable,
    hash: StateHash,
    entries: &[SharedEntry],
) -> Result<Applied, StoreError> {
    let mut pending = Pending::new(db, hash);
    let mut head = durable.applied;
    let mut tallies = Vec::with_capacity(entries.len());
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        if !entry.follows(head) {
            return Err(StoreError::NotNext {
                index: entry.head.index,
                last: head.index,
            });
        }
        if entry.head.index > durable.last.index {
            return Err(StoreError::NotInLog {
                index: entry.head.index,
                last: durable.last.index,
            });
        }
        outcomes.push(apply_entry(&mut pending, durable.incarnation, entry)?);
        head = entry.head;
        let (index, hash) = (head.index, pending.hash());
        tallies.push(Tally { index, hash });
    }
    pending.put_fact(meta::APPLIED, &head);
    let (index, hash) = (head.index, pending.hash());
    pending.put_fact(meta::STATE_HASH, &Tally { index, hash });
    Ok(Applied {
        batch: pending.into_batch(),
        head,
        outcomes,
        tallies,
    })
}

fn apply_entry(
    pending: &mut Pending,
    incarnation: Option<Incarnation>,
    entry: &Entry,
) -> Result<Outcome, StoreError> {
    // The entry with which a leader begins its epoch.
    if entry.payload.is_empty() {
        return Ok(Outcome::Applied(Vec::new()));
    }
    let index = entry.head.index;
    let incarnation = incarnation.ok_or(StoreError::NoIncarnation { index })?;
    let transaction = codec::decode_transaction(index, &entry.payload)?;
    let Some(key) = transaction.idempotency_key().cloned() else {
        return perform(pending, incarnation, index, transaction);
    };
    let fingerprint = codec::fingerprint(transaction.operations());
    if let Some(record) = idempotency::find(pending, &key)? {
        return Ok(match record.replay(&fingerprint) {
            Replay::Answer(outcome) => outcome.clone(),
            Replay::KeyReused => Outcome::Refused(Refusal {
                operation: 0,
                code: RefusalCode::KeyReused,
                current: None,
            }),
        });
    }
    let hlc = transaction.hlc();
    let outcome = perform(pending, incarnation, index, transaction)?;
    let record = IdempotencyRecord {
        index,
        hlc,
        fingerprint,
        outcome,
    };
    idempotency::remember(pending, &key, &record)?;
    Ok(record.outcome)
}

fn perform(
    pending: &mut Pending,
    incarnation: Incarnation,
    index: u64,
    transaction: Transaction,
) -> Result<Outcome, StoreError> {
    let actor = ActorId {
        device: incarnation.0.to_be_bytes(),
        epoch: 0,
    };
    let applied = apply::apply(
        transaction,
        Dot {
            actor,
            sequence: index,
        },
        pending,
    )?;
    for (ordinal, (key, item)) in (0..).zip(applied.writes) {
        items::write(pending, &key, item, Position { index, ordinal })?;
    }
    Ok(applied.outcome)
}

impl ReadItems for Pending<'_> {
    type Error = StoreError;

    fn read(&self, key: &ItemKey) -> Result<Option<Item>, StoreError> {
        let stored = items::find(self, &key.to_bytes())?;
        Ok(stored.map(|stored| stored.item))
    }
}
