//! What can be wrong with this replica's disk or data, in one word, and what follows from it.
//!
//! ```text
//! store, machine, scrub ─▶ Fault ─▶ quarantine (mark) ─▶ termination message ─▶ operator: condition
//! ```
//! Deciding what a particular error is worth belongs to whoever raises it; carrying out what follows
//! belongs to [`crate::quarantine`].

use std::io;

use percolate_crds::conditions::{self, Reason};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No room is left on the volume.
    DiskFull,
    /// The disk does not carry out what it is told: a write or a sync failed, or it is read-only.
    DiskFailed,
    /// Bytes on the disk are not those that were written, or cannot be read.
    Damaged,
    /// Another result than the leader's of applying the same entries, or other committed entries.
    Diverged,
    /// The disk lacks what this replica had made durable: an older copy of it was put back.
    Outdated,
    /// The disk is a copy of another pod's.
    Cloned,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::DiskFull,
        Self::DiskFailed,
        Self::Damaged,
        Self::Diverged,
        Self::Outdated,
        Self::Cloned,
    ];

    /// The reason under which people are told.
    pub fn reason(self) -> Reason {
        match self {
            Self::DiskFull => conditions::DISK_FULL,
            Self::DiskFailed => conditions::DISK_FAILED,
            Self::Damaged => conditions::DAMAGED,
            Self::Diverged => conditions::DIVERGED,
            Self::Outdated => conditions::OUTDATED_VOLUME,
            Self::Cloned => conditions::CLONED_VOLUME,
        }
    }

    /// The fault of this reason's name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.reason().name == name)
    }

    /// Whether the data are not to be trusted any more. A disk that is full or fails still holds what
    /// it took: the next process reads it again.
    pub fn spoils_data(self) -> bool {
        !conditions::DISK_FAULTS.contains(&self.reason())
    }

    /// What an answer of the operating system to a write means.
    pub fn of_write(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::DiskFailed,
        }
    }
}

/// A fault, and what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Found {
    /// What is wrong.
    pub fault: Fault,
    /// What was seen, as a sentence for people.
    pub what: String,
}

impl Found {
    /// `error` and all that lies behind it, in one line.
    pub fn new(fault: Fault, error: &dyn std::error::Error) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            what = format!("{what}: {error}");
            cause = error.source();
        }
        Self { fault, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_the_name_people_are_told() {
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.reason().name), Some(fault));
        }
        assert_eq!(Fault::named("AsDesired"), None);
    }

    #[test]
    fn a_full_disk_is_told_from_one_that_fails() {
        for (kind, fault) in [
            (io::ErrorKind::StorageFull, Fault::DiskFull),
            (io::ErrorKind::QuotaExceeded, Fault::DiskFull),
            (io::ErrorKind::ReadOnlyFilesystem, Fault::DiskFailed),
            (io::ErrorKind::Other, Fault::DiskFailed),
        ] {
            assert_eq!(Fault::of_write(&kind.into()), fault, "{kind}");
        }
    }
}
