//! A moment: something that happened. It never changes; it can only be erased, and then for good.

use std::collections::BTreeMap;

use super::causal::{Body, Causal};
use super::id::Name;
use super::item::Item;
use super::json::Json;
use super::key::Kind;
use super::lww::{Lww, ValueHash};

/// What a moment holds. Two writers that used the same id at the same time are told apart by the
/// stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// All of it, as one value.
    pub content: Lww<MomentContent>,
}

/// What happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentContent {
    /// When it happened, in microseconds since 1970 (the client's word, unrelated to any HLC).
    pub timestamp_us: i64,
    /// What happened.
    pub text: String,
    /// Fields about it.
    pub metadata: BTreeMap<Name, Json>,
}

impl Body for Moment {
    const KIND: Kind = Kind::Moment;
    /// Erasure is a promise to a person: a copy that comes back from a device does not undo it.
    const DELETE_IS_FINAL: bool = true;

    fn into_item(state: Causal<Self>) -> Item {
        Item::Moment(state)
    }

    fn of_item(item: &Item) -> Option<&Causal<Self>> {
        match item {
            Item::Moment(state) => Some(state),
            _ => None,
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            content: self.content.join(other.content),
        }
    }
}

impl ValueHash for MomentContent {
    fn value_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.timestamp_us.to_be_bytes());
        hasher.update(blake3::hash(self.text.as_bytes()).as_bytes());
        hasher.update(&self.metadata.value_hash()).finalize().into()
    }
}
