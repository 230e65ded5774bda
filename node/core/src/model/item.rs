//! An item of any kind, as it is stored under its key.

use thiserror::Error;

use super::causal::Causal;
use super::edge::Edge;
use super::entity::Entity;
use super::key::Kind;
use super::lww::Stamp;
use super::moment::Moment;
use super::resource::Resource;
use crate::clock::Hlc;
use crate::version::VectorClock;

/// One item's state, live or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A document.
    Resource(Causal<Resource>),
    /// A thing.
    Entity(Causal<Entity>),
    /// A relation.
    Edge(Causal<Edge>),
    /// An event.
    Moment(Causal<Moment>),
}

/// Two states of different kinds were taken for states of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a {found} was given where a {expected} is stored")]
pub struct KindMismatch {
    /// The kind of the key.
    pub expected: Kind,
    /// The kind of the value.
    pub found: Kind,
}

/// Does the same with the state, whatever its kind.
macro_rules! of_any_kind {
    ($item:expr, $state:ident => $do:expr) => {
        match $item {
            Item::Resource($state) => $do,
            Item::Entity($state) => $do,
            Item::Edge($state) => $do,
            Item::Moment($state) => $do,
        }
    };
}

impl Item {
    /// The kind of the item.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Resource(_) => Kind::Resource,
            Self::Entity(_) => Kind::Entity,
            Self::Edge(_) => Kind::Edge,
            Self::Moment(_) => Kind::Moment,
        }
    }

    /// Whether the item is deleted: what is left is a tombstone.
    pub fn is_deleted(&self) -> bool {
        of_any_kind!(self, state => state.is_deleted())
    }

    /// All writes this state has seen.
    pub fn version(&self) -> &VectorClock {
        of_any_kind!(self, state => state.version())
    }

    /// The time of the latest write or delete.
    pub fn updated_at(&self) -> Hlc {
        of_any_kind!(self, state => state.updated_at())
    }

    /// The latest delete, even if the item was written again since.
    pub fn last_delete(&self) -> Option<Stamp> {
        of_any_kind!(self, state => state.last_delete())
    }

    /// The state after a delete.
    #[must_use]
    pub fn deleted(&self, stamp: Stamp) -> Self {
        match self {
            Self::Resource(state) => Self::Resource(Causal::deleted(state, stamp)),
            Self::Entity(state) => Self::Entity(Causal::deleted(state, stamp)),
            Self::Edge(state) => Self::Edge(Causal::deleted(state, stamp)),
            Self::Moment(state) => Self::Moment(Causal::deleted(state, stamp)),
        }
    }

    /// How many concurrent writes it holds; 0 for a tombstone, and 1 unless writers did not know of
    /// each other.
    pub fn siblings(&self) -> usize {
        of_any_kind!(self, state => state.siblings().len())
    }
}
