//! What clients ask for: operations, and transactions of them that happen as a whole or not at all.
//!
//! Log entries carry transactions, not their results: what an operation does is decided by
//! [`crate::apply`] when the entry is committed, in the same way on every replica.

mod idempotency;
mod outcome;
mod size;

use std::collections::BTreeMap;

use thiserror::Error;

pub use idempotency::{
    IDEMPOTENCY_KEYS_PER_TENANT, IDEMPOTENCY_TTL_MS, IdempotencyKey, IdempotencyRecord,
    InvalidIdempotencyKey, Replay, expired,
};
pub use outcome::{Effect, Outcome, Refusal, RefusalCode, Written};

use crate::clock::Hlc;
use crate::log::Place;
use crate::model::limits::MAX_OPERATIONS;
use crate::model::{ItemId, ItemKey, Json, Name};
use crate::version::VectorClock;

/// Operations that happen as a whole or not at all; the content of one log entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    hlc: Hlc,
    origin: Option<Origin>,
    idempotency_key: Option<IdempotencyKey>,
    operations: Vec<Operation>,
}

/// Where a rescued transaction comes from: the log of a leader that was replaced before it could
/// acknowledge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its first place, by which it is recognised however often it is offered.
    pub place: Place,
    /// When it was accepted there: newer writes stand.
    pub hlc: Hlc,
}

/// Why operations do not make a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidTransaction {
    /// There is nothing to do.
    #[error("transaction has no operations")]
    Empty,
    /// More than one apply should do.
    #[error("transaction has {operations} operations, the limit is {MAX_OPERATIONS}")]
    TooManyOperations {
        /// How many there are.
        operations: usize,
    },
}

/// One change to one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What to do.
    pub action: Action,
    /// What must hold for it to be done.
    pub precondition: Option<Precondition>,
}

/// What to do to an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a resource, or change its metadata, or supersede its content.
    PutResource(PutResource),
    /// Create an entity or replace its properties.
    PutEntity(PutEntity),
    /// Change some of an entity's properties or labels.
    PatchEntity(PatchEntity),
    /// Create an edge or replace its properties.
    PutEdge(PutEdge),
    /// Record a moment.
    PutMoment(PutMoment),
    /// Delete an item; erase a moment.
    Delete(ItemKey),
}

/// What must hold of the item when the operation is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// It exists with exactly this version (`If-Match: "<version>"`). For a resource this also
    /// allows to replace the content.
    Version(VectorClock),
    /// It exists (`If-Match: *`).
    Exists,
    /// It does not exist or is deleted (`If-None-Match: *`).
    Absent,
}

/// A document as it is put.
#[derive(Clone, PartialEq)]
pub struct PutResource {
    /// Its id.
    pub id: ItemId,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Its media type. `None` keeps the one that is there; a new resource gets `text/plain`.
    pub content_type: Option<Name>,
    /// Its metadata, all of it. `None` keeps what is there.
    pub metadata: Option<BTreeMap<Name, Json>>,
}

/// An entity as it is put.
#[derive(Clone, Debug, PartialEq)]
pub struct PutEntity {
    /// Its id.
    pub id: ItemId,
    /// What kind of thing it is.
    pub entity_type: Name,
    /// Its properties, all of them: others are removed.
    pub properties: BTreeMap<Name, Json>,
    /// Its labels, all of them. `None` keeps those that are there.
    pub labels: Option<Vec<Name>>,
}

/// A change to some of an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchEntity {
    /// Its id.
    pub id: ItemId,
    /// Properties to set (`Some`) or remove (`None`); others stay.
    pub properties: BTreeMap<Name, Option<Json>>,
    /// What to do with the labels.
    pub labels: PatchLabels,
}

/// A change to an entity's labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PatchLabels {
    /// They stay.
    #[default]
    Keep,
    /// These and no others.
    Replace(Vec<Name>),
    /// Some more, some fewer; others stay. A label in both is added.
    Change {
        /// Labels to add.
        add: Vec<Name>,
        /// Labels to take off.
        remove: Vec<Name>,
    },
}

/// An edge as it is put.
#[derive(Clone, Debug, PartialEq)]
pub struct PutEdge {
    /// Where it starts.
    pub src: ItemId,
    /// What it says.
    pub edge_type: ItemId,
    /// Where it ends.
    pub dst: ItemId,
    /// About the relation, as one value.
    pub properties: BTreeMap<Name, Json>,
}

/// A moment as it is put.
#[derive(Clone, Debug, PartialEq)]
pub struct PutMoment {
    /// Its id.
    pub id: ItemId,
    /// When it happened, in microseconds since 1970.
    pub timestamp_us: i64,
    /// What happened.
    pub content: String,
    /// Fields about it.
    pub metadata: BTreeMap<Name, Json>,
}

impl Transaction {
    /// Checks the number of operations.
    pub fn new(
        hlc: Hlc,
        idempotency_key: Option<IdempotencyKey>,
        operations: Vec<Operation>,
    ) -> Result<Self, InvalidTransaction> {
        match operations.len() {
            0 => Err(InvalidTransaction::Empty),
            count if count > MAX_OPERATIONS => {
                Err(InvalidTransaction::TooManyOperations { operations: count })
            }
            _ => Ok(Self {
                hlc,
                origin: None,
                idempotency_key,
                operations,
            }),
        }
    }

    /// The same as the present leader accepts it at `now`, cut from another's log at `place`. What
    /// was rescued before keeps its first place and time.
    #[must_use]
    pub fn rescued(self, place: Place, now: Hlc) -> Self {
        let first = Origin {
            place,
            hlc: self.hlc,
        };
        Self {
            hlc: now,
            origin: self.origin.or(Some(first)),
            ..self
        }
    }

    /// When the leader in whose log it stands accepted it: never falls along a log.
    pub fn hlc(&self) -> Hlc {
        self.hlc
    }

    /// Where it comes from, if it was rescued.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The client's name for it, by which a retry is recognised.
    pub fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        self.idempotency_key.as_ref()
    }

    /// What it does, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What it does, in order, to be consumed.
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }
}

impl Operation {
    /// The item it changes.
    pub fn key(&self) -> ItemKey {
        self.action.key()
    }
}

impl Action {
    /// The item it changes.
    pub fn key(&self) -> ItemKey {
        match self {
            Self::PutResource(put) => ItemKey::Resource(put.id.clone()),
            Self::PutEntity(put) => ItemKey::Entity(put.id.clone()),
            Self::PatchEntity(patch) => ItemKey::Entity(patch.id.clone()),
            Self::PutEdge(put) => ItemKey::Edge {
                src: put.src.clone(),
                edge_type: put.edge_type.clone(),
                dst: put.dst.clone(),
            },
            Self::PutMoment(put) => ItemKey::Moment(put.id.clone()),
            Self::Delete(key) => key.clone(),
        }
    }
}

impl From<Action> for Operation {
    fn from(action: Action) -> Self {
        Self {
            action,
            precondition: None,
        }
    }
}

impl std::fmt::Debug for PutResource {
    /// Without the content: it may be large, and private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutResource")
            .field("id", &self.id)
            .field("content_bytes", &self.content.len())
            .field("content_type", &self.content_type)
            .field("metadata", &self.metadata)
            .finish()
    }
}
