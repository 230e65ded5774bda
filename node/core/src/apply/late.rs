//! Whether a late write leaves everything newer standing.
//!
//! A late write was accepted by a leader that was replaced before it could acknowledge it, and comes
//! to its place in the log after writes that know nothing of it. It is given effect as if it had come
//! before them, which is possible where they wrote elsewhere: other items, other fields. Where a newer
//! value, or a newer delete, stands in its way the whole transaction has no effect: half of one would
//! be something nobody asked for, and its writer was never told that it was done.
//!
//! ```text
//! stored item, newer than the write ─▶ join(stored, next) == next? every stamp of the stored that was
//!                                      replaced is older: it holds ─▶ else overtaken
//! ```

use crate::model::{Body, Causal, Item};

/// Whether `next`, made of `stored` by writes with an older stamp than the stored item's latest,
/// keeps each value of it that is newer than they are.
pub(super) fn leaves_standing(next: &Item, stored: &Item) -> bool {
    match (next, stored) {
        (Item::Resource(next), Item::Resource(stored)) => keeps(next, stored, |_, _| true),
        // Labels carry no time: whether a change of theirs is newer than the item's, nobody knows.
        (Item::Entity(next), Item::Entity(stored)) => {
            keeps(next, stored, |next, stored| next.labels == stored.labels)
        }
        (Item::Edge(next), Item::Edge(stored)) => keeps(next, stored, |_, _| true),
        (Item::Moment(next), Item::Moment(stored)) => keeps(next, stored, |_, _| true),
        _ => false,
    }
}

/// A delete keeps nothing, and nothing comes back from a newer delete.
fn keeps<T: Body>(
    next: &Causal<T>,
    stored: &Causal<T>,
    same_without_time: impl Fn(&T, &T) -> bool,
) -> bool {
    let (Some(next), Some(stored)) = (next.view(), stored.view()) else {
        return false;
    };
    let next = next.into_owned();
    same_without_time(&next, &stored) && stored.into_owned().join(next.clone()) == next
}
