//! Committed entries become visible: items, feed, answers and the applied head in one batch.
//!
//! ```text
//! entry -> begins an epoch? -> if after a loss, another actor writes from here on
//!       -> Transaction -> rescued, and had its turn before? -> nothing
//!                      -> known idempotency key? -> the first answer again
//!                      -> core::apply (reads through the batch) -> items, changes -> answer remembered
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;

use percolate_core::apply::{self, ReadItems};
use percolate_core::identity::{Epoch, Incarnation, Index};
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
use super::{Durable, epochs, idempotency, items, oplog};

/// What applying some entries comes to.
pub(super) struct Applied {
    pub(super) batch: WriteBatch,
    pub(super) head: Head,
    /// The latest epoch before which entries were given up.
    pub(super) loss: Epoch,
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
    let (mut head, mut loss) = (durable.applied, durable.loss);
    let mut tallies = Vec::with_capacity(entries.len());
    let mut outcomes = Vec::with_capacity(entries.len());
    oplog::check_order(entries, head)?;
    for entry in entries {
        if entry.head.index > durable.last.index {
            return Err(StoreError::NotInLog {
                index: entry.head.index,
                last: durable.last.index,
            });
        }
        epochs::note_end(&mut pending, head, entry.head.epoch);
        if codec::is_opening(&entry.payload) {
            outcomes.push(Outcome::Applied(Vec::new()));
            if !entry.payload.is_empty() {
                loss = entry.head.epoch;
                pending.put_fact(meta::LOSS, &loss);
            }
        } else {
            let actor = actor(durable.incarnation, loss, entry.head.index)?;
            outcomes.push(apply_entry(&mut pending, actor, entry)?);
        }
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
        loss,
        outcomes,
        tallies,
    })
}

/// Who writes what stands in the log: its indices are this actor's.
fn actor(
    incarnation: Option<Incarnation>,
    loss: Epoch,
    index: Index,
) -> Result<ActorId, StoreError> {
    let incarnation = incarnation.ok_or(StoreError::NoIncarnation { index })?;
    Ok(ActorId {
        device: incarnation.0.to_be_bytes(),
        epoch: u32::try_from(loss).unwrap_or(u32::MAX),
    })
}

fn apply_entry(
    pending: &mut Pending,
    actor: ActorId,
    entry: &Entry,
) -> Result<Outcome, StoreError> {
    let index = entry.head.index;
    let transaction = codec::decode_transaction(index, &entry.payload)?;
    let is_rescued = match transaction.origin() {
        Some(origin) if !epochs::take_turn(pending, origin.place, entry.head.epoch)? => {
            return Ok(refused(RefusalCode::Known));
        }
        origin => origin.is_some(),
    };
    let Some(key) = transaction.idempotency_key().cloned() else {
        return perform(pending, actor, index, transaction);
    };
    let fingerprint = codec::fingerprint(transaction.operations());
    if let Some(record) = idempotency::find(pending, &key)? {
        return Ok(match record.replay(&fingerprint) {
            Replay::Answer(_) if is_rescued => refused(RefusalCode::Known),
            Replay::Answer(outcome) => outcome.clone(),
            Replay::KeyReused => refused(RefusalCode::KeyReused),
        });
    }
    let hlc = transaction.hlc();
    let outcome = perform(pending, actor, index, transaction)?;
    if is_rescued && matches!(outcome, Outcome::Refused(_)) {
        // It has no effect, and its client was told nothing: a retry is a write of its own.
        return Ok(outcome);
    }
    let record = IdempotencyRecord {
        index,
        hlc,
        fingerprint,
        outcome,
    };
    idempotency::remember(pending, &key, &record)?;
    Ok(record.outcome)
}

fn refused(code: RefusalCode) -> Outcome {
    Outcome::Refused(Refusal {
        operation: 0,
        code,
        current: None,
    })
}

fn perform(
    pending: &mut Pending,
    actor: ActorId,
    index: Index,
    transaction: Transaction,
) -> Result<Outcome, StoreError> {
    let before = Before {
        pending,
        stored: RefCell::default(),
    };
    let dot = Dot {
        actor,
        sequence: index,
    };
    let applied = apply::apply(transaction, dot, &before)?;
    let stored = before.stored.into_inner();
    for (ordinal, (key, item)) in (0..).zip(applied.writes) {
        let position = Position { index, ordinal };
        items::write(pending, &key, item, position, stored.get(&key));
    }
    Ok(applied.outcome)
}

/// The items as they are before a transaction. Everything it writes was read here first, so where
/// that changed last and how it is stored is known and need not be read again.
struct Before<'p, 'db> {
    pending: &'p Pending<'db>,
    stored: RefCell<BTreeMap<ItemKey, (Position, Vec<u8>)>>,
}

impl ReadItems for Before<'_, '_> {
    type Error = StoreError;

    fn read(&self, key: &ItemKey) -> Result<Option<Item>, StoreError> {
        let Some((found, bytes)) = items::find(self.pending, &key.to_bytes())? else {
            return Ok(None);
        };
        let mut stored = self.stored.borrow_mut();
        stored.insert(key.clone(), (found.position, bytes));
        Ok(Some(found.item))
    }
}
