//! One item's state with its causal past: the merge that all kinds share.
//!
//! ```text
//! write:  all siblings ──▶ one sibling, named by the write's dot; the version takes the dot
//! delete: all siblings ──▶ none;                               the version takes the dot
//! join:   a sibling stays if both have it, or if the other's version has not seen it
//! ```
//!
//! A sibling that one side lacks although its version covers it was superseded or deleted there, and
//! goes. Siblings are never dropped for any other reason, which is what makes the join associative: a
//! value that loses to another is still there when that other is deleted. (`Lww` alone would forget
//! it, and nodes that met the three in different orders would differ for ever.)
//!
//! A delete therefore removes what its writer saw; an edit made at the same time keeps the item.
//! The number of siblings is bounded by the actors that wrote without knowing of each other; any later
//! write makes it one again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;

use super::item::Item;
use super::key::Kind;
use super::lww::Stamp;
use crate::clock::Hlc;
use crate::version::{Dot, VectorClock};

/// What one kind of item holds in a sibling.
pub trait Body: Clone + PartialEq + Sized {
    /// The kind it is the body of.
    const KIND: Kind;
    /// Whether a delete also removes what its writer did not see.
    const DELETE_IS_FINAL: bool = false;

    /// Wraps a state into an item.
    fn into_item(state: Causal<Self>) -> Item;

    /// The state in an item, if it is of this kind.
    fn of_item(item: &Item) -> Option<&Causal<Self>>;

    /// What readers see of two concurrent siblings. Commutative, associative and idempotent.
    #[must_use]
    fn join(self, other: Self) -> Self;
}

/// One item's state. Without siblings it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Causal<T> {
    version: VectorClock,
    updated_at: Hlc,
    last_delete: Option<Stamp>,
    siblings: BTreeMap<Dot, T>,
}

/// Why parts do not make an item.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidItem {
    /// A version covers all that was written.
    #[error("item holds the write {dot}, which its version does not cover")]
    Uncovered {
        /// The write.
        dot: Dot,
    },
    /// A final delete leaves nothing.
    #[error("{kind} was erased but still has content")]
    Erased {
        /// The item's kind.
        kind: Kind,
    },
}

impl<T: Body> Causal<T> {
    /// Puts an item together from its stored parts.
    pub fn from_parts(
        version: VectorClock,
        updated_at: Hlc,
        last_delete: Option<Stamp>,
        siblings: BTreeMap<Dot, T>,
    ) -> Result<Self, InvalidItem> {
        let mut dots = siblings
            .keys()
            .chain(last_delete.as_ref().map(|delete| &delete.dot));
        if let Some(&dot) = dots.find(|dot| !version.covers(dot)) {
            return Err(InvalidItem::Uncovered { dot });
        }
        if T::DELETE_IS_FINAL && last_delete.is_some() && !siblings.is_empty() {
            return Err(InvalidItem::Erased { kind: T::KIND });
        }
        Ok(Self {
            version,
            updated_at,
            last_delete,
            siblings,
        })
    }

    /// The state after a write: `body` replaces all that `previous` held.
    pub fn written(previous: Option<&Self>, stamp: Stamp, body: T) -> Self {
        Self {
            siblings: BTreeMap::from([(stamp.dot, body)]),
            ..Self::advanced(previous, stamp)
        }
    }

    /// The state after a delete of `previous`.
    pub fn deleted(previous: &Self, stamp: Stamp) -> Self {
        Self {
            last_delete: previous.last_delete.max(Some(stamp)),
            ..Self::advanced(Some(previous), stamp)
        }
    }

    /// What both sides together know.
    #[must_use]
    pub fn join(mut self, mut other: Self) -> Self {
        let last_delete = self.last_delete.max(other.last_delete);
        let mut siblings = BTreeMap::new();
        if !(T::DELETE_IS_FINAL && last_delete.is_some()) {
            for (dot, ours) in self.siblings {
                match other.siblings.remove(&dot) {
                    Some(theirs) => siblings.insert(dot, ours.join(theirs)),
                    None if other.version.covers(&dot) => None,
                    None => siblings.insert(dot, ours),
                };
            }
            let unseen = |dot: &Dot| !self.version.covers(dot);
            siblings.extend(other.siblings.into_iter().filter(|(dot, _)| unseen(dot)));
        }
        self.version.merge(&other.version);
        Self {
            version: self.version,
            updated_at: self.updated_at.max(other.updated_at),
            last_delete,
            siblings,
        }
    }

    /// What readers see; `None` if the item is deleted.
    pub fn view(&self) -> Option<Cow<'_, T>> {
        let mut siblings = self.siblings.values();
        let first = Cow::Borrowed(siblings.next()?);
        Some(siblings.fold(first, |view, sibling| {
            Cow::Owned(view.into_owned().join(sibling.clone()))
        }))
    }

    /// Whether nothing is left of the item.
    pub fn is_deleted(&self) -> bool {
        self.siblings.is_empty()
    }

    /// All writes this state has seen.
    pub fn version(&self) -> &VectorClock {
        &self.version
    }

    /// The time of the latest write or delete.
    pub fn updated_at(&self) -> Hlc {
        self.updated_at
    }

    /// The latest delete, even if the item was written again since.
    pub fn last_delete(&self) -> Option<Stamp> {
        self.last_delete
    }

    /// The concurrent writes that nothing has superseded, by their dots.
    pub fn siblings(&self) -> &BTreeMap<Dot, T> {
        &self.siblings
    }

    fn advanced(previous: Option<&Self>, stamp: Stamp) -> Self {
        let mut version = previous
            .map(|item| item.version.clone())
            .unwrap_or_default();
        version.record(stamp.dot);
        Self {
            version,
            updated_at: previous.map_or(stamp.hlc, |item| item.updated_at.max(stamp.hlc)),
            last_delete: previous.and_then(|item| item.last_delete),
            siblings: BTreeMap::new(),
        }
    }
}
