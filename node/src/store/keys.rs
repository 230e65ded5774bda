//! Every key the store writes, in one table. Integers are big-endian, so that byte order is
//! numeric order. A number once given (family, key, format) is never given to anything else.
//!
//! | family (column family) | key | value | lives | written by |
//! |---|---|---|---|---|
//! | `oplog` | `index:u64` | `format:u8=1 epoch:u64 index:u64 chain:16 payload:*` ([`super::oplog`]) | until cut at a new epoch (never once applied), or trimmed (only when applied) | `Store::persist` |
//! | `items` | `kind:u8` then the id's bytes; an edge's three names with `00` between ([`super::items`]) | `format:u8=1 index:u64 ordinal:u32 item:*` | for good; a delete leaves a tombstone | `Store::apply` |
//! | `changes` | `index:u64 ordinal:u32` ([`super::changes`]) | the item's key, as in `items` | until the item changes again: each item is there once | `Store::apply` |
//! | `idempotency` | `6b` then the client's key ([`super::idempotency`]) | `format:u8=1 record:*` | bounded by age and count | `Store::apply` |
//! | `idempotency` | `6f place:u64` | `hlc:u64`, then the client's key | as the record it points to | `Store::apply` |
//! | `rescue` | `epoch:u64 index:u64` ([`super::rescue`]) | an entry cut from the log, as in `oplog` | until a leader has it | `Store::persist` |
//! | `meta` | `format` | `u32`, version of all of this | with the disk | `Store::open` |
//! | `meta` | `replica_id` | `u128` | with the disk | `Store::open` |
//! | `meta` | `incarnation` | `u128` | until a restore | `Store::persist` |
//! | `meta` | `promised_epoch` | `u64`, never falls | for good | `Store::persist` |
//! | `meta` | `applied` | `epoch:u64 index:u64 chain:16` | for good | `Store::apply` |
//! | `meta` | `loss` | `u64`, the latest epoch before which entries were given up; absent without any | for good | `Store::apply` |
//! | `meta` | `base` | `epoch:u64 index:u64 chain:16`, the last entry trimmed | for good | `Store::persist` |
//! | `meta` | `turns/` then `epoch:u64` ([`super::epochs`]) | `index:u64`, how far that epoch's entries have had their turn | for good: one for each leader there was | `Store::apply` |
//! | `meta` | `idempotency` | `first:u64 next:u64`, the places in use | for good | `Store::apply` |
//! | `meta` | `state_hash` | `index:u64 hash:32` ([`super::state_hash`]); of no meaning unless `index` is that of `applied` | for good | `Store::apply` |
//!
//! What `Store::persist` writes is synced before it returns. What `Store::apply` writes is not: a
//! crash loses a suffix of it, and applying the oplog again brings it back.

use percolate_core::identity::Index;

/// Version of the table above. A store written by a newer version is refused, never guessed at.
///
/// 1 had no `rescue` and no `turns/` in `meta`; it is taken as it is, without any.
pub(super) const FORMAT: u32 = 2;

/// A column family: its keys are apart from all others', its options are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// The replicated log.
    Oplog,
    /// The visible items and tombstones.
    Items,
    /// Where each item last changed, in order of change.
    Changes,
    /// Answers given under an idempotency key.
    Idempotency,
    /// Cut from the log and not yet taken by a leader.
    Rescue,
    /// Facts about this replica.
    Meta,
}

impl Family {
    /// All of them, for opening.
    pub(super) const ALL: [Self; 6] = [
        Self::Oplog,
        Self::Items,
        Self::Changes,
        Self::Idempotency,
        Self::Rescue,
        Self::Meta,
    ];

    /// What replicas hold in common at an equal applied index, byte for byte.
    pub(super) const REPLICATED: [Self; 3] = [Self::Items, Self::Changes, Self::Idempotency];

    /// The name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oplog => "oplog",
            Self::Items => "items",
            Self::Changes => "changes",
            Self::Idempotency => "idempotency",
            Self::Rescue => "rescue",
            Self::Meta => "meta",
        }
    }
}

/// Where in the history something changed: the entry, and the how manieth write within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Index of the entry.
    pub index: Index,
    /// Place among the writes of that entry.
    pub ordinal: u32,
}

/// Takes fixed-width fields off the front of `bytes`; every step is `None` when too little is left.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// `value`, unless bytes are left over.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}
