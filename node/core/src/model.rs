//! The data model: what a tenant's database holds under each key.
//!
//! ```text
//! ItemKey ──▶ Item ──▶ Causal<Resource | Entity | Edge | Moment>
//!                        version, updated_at, last_delete,
//!                        siblings: the concurrent writes that nothing has superseded
//!                          └─ each a body made of last-writer-wins values (`Lww`) and `Labels`
//! ```
//!
//! An item has one sibling as long as its writers knew of each other. Concurrent writers leave several;
//! readers see their join, and the next write replaces them all. A deleted item is one without siblings
//! (a tombstone): its version, and when and by whom it was deleted, but no content.
//!
//! Values are validated when they are made ([`ItemId`], [`Name`], [`Json`]), so nothing below has
//! to check them again. What may be written when is decided in `apply`, not here.

mod causal;
mod edge;
mod entity;
mod fields;
mod id;
mod item;
mod json;
mod key;
mod labels;
pub mod limits;
mod lww;
mod moment;
mod resource;

pub use causal::{Body, Causal, InvalidItem};
pub use edge::{Edge, edge_is_visible};
pub use entity::Entity;
pub use fields::Fields;
pub use id::{InvalidId, InvalidName, ItemId, Name};
pub use item::{Item, KindMismatch};
pub use json::{InvalidJson, Json};
pub use key::{InvalidKey, ItemKey, Kind};
pub use labels::{LabelDot, Labels};
pub use lww::{Lww, Stamp, ValueHash};
pub use moment::{Moment, MomentContent};
pub use resource::{Content, Resource};

#[cfg(test)]
pub(crate) mod arbitrary;
