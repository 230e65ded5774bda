//! An edge: that one item relates to another. Its properties are replaced as a whole.

use std::collections::BTreeMap;

use super::causal::{Body, Causal};
use super::id::Name;
use super::item::Item;
use super::json::Json;
use super::key::Kind;
use super::lww::{Lww, ValueHash};

/// What an edge holds besides its three names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// About the relation, as one value.
    pub properties: Lww<BTreeMap<Name, Json>>,
}

/// Whether readers see the edge: it is there, and neither endpoint is deleted.
///
/// The endpoints are what is stored under the edge's `src` and `dst`, of whatever kinds. An id that
/// nothing is stored under is unknown here, not deleted: a node may hold only part of a tenant.
/// Nothing is written when an endpoint goes, so the edge is back as soon as the endpoint is.
pub fn edge_is_visible(edge: &Item, src: &[&Item], dst: &[&Item]) -> bool {
    let is_deleted =
        |endpoint: &[&Item]| !endpoint.is_empty() && endpoint.iter().all(|item| item.is_deleted());
    !edge.is_deleted() && !is_deleted(src) && !is_deleted(dst)
}

impl Body for Edge {
    const KIND: Kind = Kind::Edge;

    fn into_item(state: Causal<Self>) -> Item {
        Item::Edge(state)
    }

    fn of_item(item: &Item) -> Option<&Causal<Self>> {
        match item {
            Item::Edge(state) => Some(state),
            _ => None,
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            properties: self.properties.join(other.properties),
        }
    }
}

impl ValueHash for BTreeMap<Name, Json> {
    fn value_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (name, value) in self {
            // Neither names nor JSON texts hold a zero byte, so it ends each.
            hasher.update(name.as_str().as_bytes()).update(&[0]);
            hasher.update(value.to_text().as_bytes()).update(&[0]);
        }
        hasher.finalize().into()
    }
}
