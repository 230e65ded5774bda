//! The identities replication counts on: of a disk ([`ReplicaId`]), of a tenant's history
//! ([`Incarnation`]), of a leadership ([`Epoch`]) and of a place in the log ([`Index`]).
//!
//! Random bits come from the caller: this crate has no source of randomness.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Counts leaderships: every leader process serves under an epoch of its own, 0 means "none yet".
pub type Epoch = u64;

/// Position in the oplog; the first entry has index 1, 0 means "empty".
pub type Index = u64;

/// Text that should have been a 128-bit identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits, got {text:?}")]
pub struct ParseIdentityError {
    /// What was given, cut to a length fit for a message.
    pub text: String,
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Written as 32 lower-case hexadecimal digits wherever people or JSON see it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdentityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let refused = || ParseIdentityError { text: text.chars().take(64).collect() };
                let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !digits {
                    return Err(refused());
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| refused())
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdentityError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(identity: $name) -> Self {
                identity.to_string()
            }
        }
    };
}

identity! {
    /// A copy of a tenant on one disk. Made when a disk is first used and kept on that disk: a pod
    /// that comes back with an emptied disk is another replica.
    ReplicaId
}

identity! {
    /// One history of a tenant. A restore or a clone begins a new one, and replicas of different
    /// incarnations never exchange entries.
    Incarnation
}

impl Incarnation {
    /// What clients are told that indices are of since the epoch `loss` (0: from the beginning): entries
    /// that are given up leave their indices to others, though disks still belong to the incarnation.
    #[must_use]
    pub fn history_since(self, loss: Epoch) -> Self {
        Self(self.0 ^ u128::from(loss))
    }

    /// The loss since which `history` is told of, if it is one of this incarnation.
    pub fn loss_before(self, history: Self) -> Option<Epoch> {
        Epoch::try_from(self.0 ^ history.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_of_an_incarnation_are_told_from_each_other_and_from_others() {
        let (own, other) = (Incarnation(u128::MAX / 3), Incarnation(u128::MAX / 5));
        for loss in [0, 1, 77, Epoch::MAX] {
            assert_eq!(own.loss_before(own.history_since(loss)), Some(loss));
            assert_eq!(other.loss_before(own.history_since(loss)), None);
        }
        assert_eq!(own.history_since(0), own);
    }

    #[test]
    fn identities_read_back_as_written() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef] {
            let text = ReplicaId(bits).to_string();
            assert_eq!(text.len(), 32);
            assert_eq!(text.parse(), Ok(ReplicaId(bits)));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "0".repeat(33);
        for text in [
            "",
            "7",
            "zz",
            "+0000000000000000000000000000001",
            "0x000000000000000000000000000001",
            long.as_str(),
        ] {
            assert!(text.parse::<Incarnation>().is_err(), "{text:?} was taken");
        }
    }
}
