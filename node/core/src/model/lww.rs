//! Last-writer-wins values: each carries the stamp of the write that set it, and of two the later
//! stamp stays.
//!
//! Which is later is a total order (HLC, dot, hash of the value), so every node keeps the same one.
//! Writers stamp above everything they have seen of the item (`apply` lifts the HLC), hence the order
//! extends happens-before: an edit made in knowledge of another always wins, whatever the wall clocks
//! say, and the HLC decides only between concurrent ones. Because the join looks at nothing but
//! stamps and values, it is commutative, associative and idempotent on any input.

use crate::clock::Hlc;
use crate::version::Dot;

/// When and by which write a value was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When.
    pub hlc: Hlc,
    /// By which write.
    pub dot: Dot,
}

/// A value and the stamp of the write that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lww<T> {
    /// What was written.
    pub value: T,
    /// When and by whom.
    pub stamp: Stamp,
}

/// A value that has a hash, which decides between two values with the same stamp. Those exist only
/// when two writers share one identity; all nodes must still agree.
pub trait ValueHash {
    /// The hash of the value's canonical form.
    fn value_hash(&self) -> [u8; 32];
}

impl<T: ValueHash + PartialEq> Lww<T> {
    /// The later of two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        if other.is_later_than(&self) {
            other
        } else {
            self
        }
    }

    /// Whether this one stays when both meet.
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.stamp.cmp(&other.stamp).then_with(|| {
            if self.value == other.value {
                return std::cmp::Ordering::Equal;
            }
            self.value.value_hash().cmp(&other.value.value_hash())
        }) == std::cmp::Ordering::Greater
    }

    /// Sets a value unless it is already there: an unchanged value keeps its stamp, so that writing
    /// a whole item does not overrule concurrent edits of what it did not change.
    pub fn set(&mut self, value: T, stamp: Stamp) -> bool {
        if self.value == value {
            return false;
        }
        *self = Self { value, stamp };
        true
    }
}
