//! What a transaction came to: the same on every replica, and kept as the answer to retries.

use std::fmt;

use crate::clock::Hlc;
use crate::version::VectorClock;

/// What a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All operations were done; one result for each, in order.
    Applied(Vec<Written>),
    /// Nothing was done, because of one operation.
    Refused(Refusal),
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What happened to the item.
    pub effect: Effect,
    /// The item's version afterwards; for a delete that of the tombstone.
    pub version: VectorClock,
    /// The time of the item's latest change.
    pub updated_at: Hlc,
}

/// What happened to an item. The numbers are persisted and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Effect {
    /// It is new, or back after a delete.
    Created = 1,
    /// It was changed.
    Updated = 2,
    /// It was already so; no version was made.
    Unchanged = 3,
    /// It is gone.
    Deleted = 4,
}

/// Why a transaction did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which operation was refused, from 0.
    pub operation: u32,
    /// Why.
    pub code: RefusalCode,
    /// The item's version as it is, where there is a live item.
    pub current: Option<VectorClock>,
}

/// Why an operation was refused. The numbers are persisted and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RefusalCode {
    /// Only an existing item can be patched or deleted.
    NotFound = 1,
    /// A resource's content is replaced only by naming the version it supersedes.
    ResourceImmutable = 2,
    /// A moment does not change, and once erased does not come back.
    MomentImmutable = 3,
    /// The precondition does not hold.
    VersionMismatch = 4,
    /// The item would outgrow its limit.
    TooLarge = 5,
    /// The idempotency key was used for something else before.
    KeyReused = 6,
    /// Of rescued transactions only, so no client is told: something newer stands where it would
    /// have written.
    Overtaken = 7,
    /// Of rescued transactions only, so no client is told: it took effect before.
    Known = 8,
}

impl Effect {
    /// All effects.
    pub const ALL: [Self; 4] = [Self::Created, Self::Updated, Self::Unchanged, Self::Deleted];
}

impl RefusalCode {
    /// All codes.
    pub const ALL: [Self; 8] = [
        Self::NotFound,
        Self::ResourceImmutable,
        Self::MomentImmutable,
        Self::VersionMismatch,
        Self::TooLarge,
        Self::KeyReused,
        Self::Overtaken,
        Self::Known,
    ];

    /// The code's stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::ResourceImmutable => "resource_immutable",
            Self::MomentImmutable => "moment_immutable",
            Self::VersionMismatch => "version_mismatch",
            Self::TooLarge => "too_large",
            Self::KeyReused => "key_reused",
            Self::Overtaken => "overtaken",
            Self::Known => "known",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
