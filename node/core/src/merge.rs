//! How two states of one item become one: the only way in which a state enters the store.
//!
//! ```text
//! (stored item, arriving item) ─▶ item: what both together know
//!                              └▶ conflicts: values that concurrent writes put aside, for review
//! ```
//!
//! The item is the same whatever the order, grouping and repetition of merges. Conflicts are a record
//! of what happened here: a value that lost to one written in ignorance of it. They are not part of
//! the item, so an item does not grow with them; meeting the same state again reports nothing, as
//! its version has been seen by then.

mod conflict;

pub use conflict::{Conflict, ConflictValue, Subject};

use crate::model::{Item, KindMismatch};

/// What two states of one item come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// What both together know.
    pub item: Item,
    /// Values of either that readers no longer see although nobody overwrote them knowingly.
    pub conflicts: Vec<Conflict>,
}

/// Merges two states of the item under one key.
pub fn merge(a: Item, b: Item) -> Result<Merged, KindMismatch> {
    let conflicts = conflict::between(&a, &b);
    let item = match (a, b) {
        (Item::Resource(a), Item::Resource(b)) => Item::Resource(a.join(b)),
        (Item::Entity(a), Item::Entity(b)) => Item::Entity(a.join(b)),
        (Item::Edge(a), Item::Edge(b)) => Item::Edge(a.join(b)),
        (Item::Moment(a), Item::Moment(b)) => Item::Moment(a.join(b)),
        (a, b) => {
            let (expected, found) = (a.kind(), b.kind());
            return Err(KindMismatch { expected, found });
        }
    };
    Ok(Merged { item, conflicts })
}

#[cfg(test)]
mod tests;
