//! How far a replica is, in the words people read in the register and in the tenant's status.

use std::fmt;
use std::str::FromStr;

/// How far a replica is, as its leader sees it. Nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// Where its log agrees with the leader's is being found out; also while it is silent.
    Probing,
    /// It is sent the entries it lacks.
    Streaming,
    /// It copies the leader's store, because the leader's log no longer reaches back to it.
    Snapshotting {
        /// How much of it is there, in steps of ten.
        percent: u8,
    },
    /// It holds everything that is acknowledged.
    InSync,
}

/// A text that is no [`ReplicaState`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a replica: {text:?}")]
pub struct ParseStateError {
    text: String,
}

impl fmt::Display for ReplicaState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probing => formatter.write_str("Probing"),
            Self::Streaming => formatter.write_str("Streaming"),
            Self::Snapshotting { percent } => write!(formatter, "Snapshotting {percent}%"),
            Self::InSync => formatter.write_str("InSync"),
        }
    }
}

impl FromStr for ReplicaState {
    type Err = ParseStateError;

    fn from_str(text: &str) -> Result<Self, ParseStateError> {
        let refused = || ParseStateError {
            text: text.to_owned(),
        };
        match text {
            "Probing" => Ok(Self::Probing),
            "Streaming" => Ok(Self::Streaming),
            "InSync" => Ok(Self::InSync),
            _ => {
                let percent = text
                    .strip_prefix("Snapshotting ")
                    .and_then(|rest| rest.strip_suffix('%'))
                    .and_then(|percent| percent.parse().ok())
                    .filter(|percent| *percent <= 100)
                    .ok_or_else(refused)?;
                Ok(Self::Snapshotting { percent })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_as_it_is_written_and_nothing_else_is_one() {
        use ReplicaState::*;
        for (state, text) in [
            (Probing, "Probing"),
            (Streaming, "Streaming"),
            (Snapshotting { percent: 0 }, "Snapshotting 0%"),
            (Snapshotting { percent: 100 }, "Snapshotting 100%"),
            (InSync, "InSync"),
        ] {
            assert_eq!(state.to_string(), text);
            assert_eq!(text.parse(), Ok(state));
        }
        for text in [
            "",
            "insync",
            "Snapshotting",
            "Snapshotting 101%",
            "Snapshotting x%",
        ] {
            assert!(text.parse::<ReplicaState>().is_err(), "{text:?}");
        }
    }
}
