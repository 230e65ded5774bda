//! An entity: a thing with a type, properties that merge one by one, and labels.

use super::causal::{Body, Causal};
use super::fields::Fields;
use super::id::Name;
use super::item::Item;
use super::key::Kind;
use super::labels::Labels;
use super::lww::{Lww, ValueHash};

/// What an entity holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// What kind of thing it is.
    pub entity_type: Lww<Name>,
    /// What is known about it.
    pub properties: Fields,
    /// What it is filed under.
    pub labels: Labels,
}

impl Body for Entity {
    const KIND: Kind = Kind::Entity;

    fn into_item(state: Causal<Self>) -> Item {
        Item::Entity(state)
    }

    fn of_item(item: &Item) -> Option<&Causal<Self>> {
        match item {
            Item::Entity(state) => Some(state),
            _ => None,
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            entity_type: self.entity_type.join(other.entity_type),
            properties: self.properties.join(other.properties),
            labels: self.labels.join(other.labels),
        }
    }
}

impl Entity {
    /// About how many bytes the entity takes, for limits.
    pub fn size(&self) -> usize {
        self.properties.size() + self.labels.size()
    }
}

impl ValueHash for Name {
    fn value_hash(&self) -> [u8; 32] {
        blake3::hash(self.as_str().as_bytes()).into()
    }
}
