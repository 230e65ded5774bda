//! What a committed transaction does to the store.
//!
//! ```text
//! Transaction, dot ─▶ for each operation: read the item ─▶ decide ─▶ the item's next state
//!                     any refused: no writes, and the outcome says which and why
//!                     all done:    stored item ∪ next state (`merge`) ─▶ writes
//! ```
//!
//! Deterministic: the same transaction, dot and items give the same writes on every replica.
//! Reading, writing and remembering idempotency keys is the store's; this decides.
//!
//! Every operation of a transaction writes under the same dot. Operations on the same item build on
//! each other's result, and only the last state is merged, so no two states share a dot.
//!
//! A rescued transaction is late: it writes under the time at which it was first accepted, and only
//! if nothing newer stands in its way ([`late`]).

mod draft;
mod edge;
mod entity;
mod late;
mod moment;
mod resource;

use draft::Draft;

use crate::model::{Item, ItemKey, Kind, KindMismatch, Stamp};
use crate::operation::{
    Action, Operation, Outcome, Precondition, Refusal, RefusalCode, Transaction, Written,
};
use crate::version::{Dot, VectorClock};

/// The items as they are before the transaction.
pub trait ReadItems {
    /// What can go wrong when reading.
    type Error: From<KindMismatch>;

    /// The item under a key, live or deleted.
    fn read(&self, key: &ItemKey) -> Result<Option<Item>, Self::Error>;
}

/// What to store, and what to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Items to store, each once, in the order of their keys, all of them read before. Empty if the transaction was refused
    /// or changed nothing.
    pub writes: Vec<(ItemKey, Item)>,
    /// The answer.
    pub outcome: Outcome,
}

/// Applies a transaction that was committed under `dot`: the tenant's actor and the entry's index.
pub fn apply<R: ReadItems>(
    transaction: Transaction,
    dot: Dot,
    items: &R,
) -> Result<Applied, R::Error> {
    let origin = transaction.origin();
    let hlc = origin.map_or(transaction.hlc(), |origin| origin.hlc);
    let mut draft = Draft::new(items, Stamp { hlc, dot }, origin.is_some());
    let mut results = Vec::with_capacity(transaction.operations().len());
    for (n, operation) in (0..).zip(transaction.into_operations()) {
        match perform(&mut draft, operation)? {
            Ok(written) => results.push(written),
            Err((code, current)) => return Ok(refused(n, code, current)),
        }
    }
    if let Some(current) = draft.overtaken_by() {
        return Ok(refused(0, RefusalCode::Overtaken, Some(current)));
    }
    Ok(Applied {
        writes: draft.into_writes()?,
        outcome: Outcome::Applied(results),
    })
}

fn refused(operation: u32, code: RefusalCode, current: Option<VectorClock>) -> Applied {
    Applied {
        writes: Vec::new(),
        outcome: Outcome::Refused(Refusal {
            operation,
            code,
            current,
        }),
    }
}

/// What one operation did, or why it did nothing and which version it met.
type Performed = Result<Written, (RefusalCode, Option<VectorClock>)>;

fn perform<R: ReadItems>(
    draft: &mut Draft<'_, R>,
    operation: Operation,
) -> Result<Performed, R::Error> {
    let item = draft.open(&operation.key())?;
    let current = item.live().map(|live| live.version().clone());
    if let Err(code) = permit(&operation, item.current()) {
        return Ok(Err((code, current)));
    }
    if matches!(operation.precondition, Some(Precondition::Version(_))) {
        item.is_known_to_its_writer();
    }
    let written = match operation.action {
        Action::PutResource(put) => {
            let may_supersede = matches!(operation.precondition, Some(Precondition::Version(_)));
            item.write(|now, stamp| resource::put(now, put, may_supersede, stamp))?
        }
        Action::PutEntity(put) => item.write(|now, stamp| entity::put(now, put, stamp))?,
        Action::PatchEntity(patch) => item.write(|now, stamp| entity::patch(now, patch, stamp))?,
        Action::PutEdge(put) => item.write(|now, stamp| edge::put(now, put, stamp))?,
        Action::PutMoment(put) => item.write(|now, stamp| moment::put(now, put, stamp))?,
        Action::Delete(_) => item.delete(),
    };
    Ok(written.map_err(|code| (code, current)))
}

/// Refuses what may not be done to the item as it is, whatever the operation's content.
fn permit(operation: &Operation, item: Option<&Item>) -> Result<(), RefusalCode> {
    let live = item.filter(|item| !item.is_deleted());
    let needs_item = matches!(operation.action, Action::PatchEntity(_) | Action::Delete(_));
    if needs_item && live.is_none() {
        return Err(RefusalCode::NotFound);
    }
    let holds = match &operation.precondition {
        None => true,
        Some(Precondition::Version(version)) => live.is_some_and(|item| item.version() == version),
        Some(Precondition::Exists) => live.is_some(),
        Some(Precondition::Absent) => live.is_none(),
    };
    if !holds {
        return Err(RefusalCode::VersionMismatch);
    }
    let is_erased = item.is_some_and(|item| item.kind() == Kind::Moment && item.is_deleted());
    if is_erased {
        return Err(RefusalCode::MomentImmutable);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
