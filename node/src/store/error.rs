//! What can go wrong in the store: [`OpenError`] before it serves, [`StoreError`] while it does.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use percolate_core::identity::Index;
use percolate_core::model::KindMismatch;
use rocksdb::ErrorKind;

use super::keys::Family;
use crate::fault::{Fault, Found};

/// Why a directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or synced.
    #[error("cannot create {path}")]
    CreateDirectory {
        /// What should have been made.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{path} is in use by another process: a volume belongs to one node at a time")]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "{path} has storage format {found} and this version of percolate reads up to {known}: run a newer version"
    )]
    NewerFormat {
        /// The store's directory.
        path: PathBuf,
        /// Format on disk.
        found: u32,
        /// Newest format this version knows.
        known: u32,
    },
    /// The bytes on disk are not what was written.
    #[error("{path} is damaged")]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What was found.
        source: StoreError,
    },
    /// A snapshot of another replica was copied and cannot be put in place.
    #[error("cannot put the snapshot in {path} in place of the store")]
    Replace {
        /// The data directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Anything else the engine refuses.
    #[error("cannot open {path}")]
    Engine {
        /// The store's directory.
        path: PathBuf,
        /// The engine's answer.
        source: rocksdb::Error,
    },
}

/// Why the store could not do as told. None of these is worth a retry in this process: the engine
/// failed, the disk is damaged, or the caller broke the order of the log.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed; after a failed sync nobody knows what is on the disk.
    #[error("the storage engine could not {doing}")]
    Engine {
        /// What was tried.
        doing: &'static str,
        /// The engine's answer.
        source: rocksdb::Error,
    },
    /// The engine could not read. What cannot be read is as lost as what is wrong.
    #[error("the storage engine could not {doing}")]
    Read {
        /// What was tried.
        doing: &'static str,
        /// The engine's answer.
        source: rocksdb::Error,
    },
    /// An earlier write failed or damage was found: nothing more is read or written.
    #[error("the store has failed before, the process must restart")]
    Stopped,
    /// A value is not what this version writes.
    #[error("the value of {key} in {} cannot be read: {reason}", family.name())]
    Undecodable {
        /// Where it is.
        family: Family,
        /// Its key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry is not there, though a later one is.
    #[error("entry {missing} is missing from the oplog")]
    Gap {
        /// The index without an entry.
        missing: Index,
    },
    /// An entry on the disk does not extend the entry before it.
    #[error("entry {index} in the oplog does not follow entry {last}")]
    Broken {
        /// The entry's index.
        index: Index,
        /// The entry it stands after.
        last: Index,
    },
    /// An entry of the log was written by a version that knows more. Nothing is wrong with the disk.
    #[error("entry {index} cannot be understood: {reason}")]
    UnknownTransaction {
        /// The entry's index.
        index: Index,
        /// What is not understood.
        reason: String,
    },
    /// What is stored is not what applying the log has led to.
    #[error("the items are not those that were applied up to {applied}")]
    OtherState {
        /// The index at which they were compared.
        applied: Index,
    },
    /// An entry does not extend the entry before it.
    #[error("entry {index} does not follow entry {last}")]
    NotNext {
        /// The entry's index.
        index: Index,
        /// The entry it was put after.
        last: Index,
    },
    /// Only what is in the oplog is applied, so that a crash can be made good from it.
    #[error("cannot apply entry {index}: the oplog ends at {last}")]
    NotInLog {
        /// The entry's index.
        index: Index,
        /// The oplog's last index.
        last: Index,
    },
    /// Writes are named by the history they belong to, and this replica knows none.
    #[error("cannot apply entry {index}: this replica belongs to no history yet")]
    NoIncarnation {
        /// The entry's index.
        index: Index,
    },
    /// An item's bytes are of another kind than its key says.
    #[error("cannot apply to an item of another kind")]
    KindMismatch(#[from] KindMismatch),
    /// Applied entries are committed and stay.
    #[error("cannot cut the oplog after {after}: entries up to {applied} are applied")]
    CutsApplied {
        /// Last entry that would stay.
        after: Index,
        /// Last applied entry.
        applied: Index,
    },
    /// A copied snapshot is not one of this tenant, or of this version.
    #[error("the copied snapshot {what}")]
    ForeignSnapshot {
        /// What is wrong with it.
        what: &'static str,
    },
    /// After a crash the oplog makes good what was applied.
    #[error("cannot trim the oplog up to {index}: only entries up to {applied} are applied")]
    TrimsUnapplied {
        /// Last entry that would go.
        index: Index,
        /// Last applied entry.
        applied: Index,
    },
    /// A promise is kept for good.
    #[error("cannot promise epoch {epoch}: {promised} is promised")]
    PromiseFalls {
        /// What was asked.
        epoch: u64,
        /// What stands.
        promised: u64,
    },
}

impl StoreError {
    /// For `map_err` on the engine's calls.
    pub(super) fn engine(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Engine { doing, source }
    }

    /// For `map_err` on the engine's calls that only read.
    pub(super) fn reading(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Read { doing, source }
    }

    /// What is wrong with the disk; `None` when the caller, or another version, is to blame.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            // Bytes that cannot be read are as lost as wrong ones. Taken for a failing disk they would
            // come up again at every start, on a replica that is counted on meanwhile.
            Self::Read { source, .. } if is_unreadable(source) => Some(Fault::Damaged),
            Self::Engine { source, .. } | Self::Read { source, .. } => fault_of(source),
            Self::Undecodable { .. }
            | Self::Gap { .. }
            | Self::Broken { .. }
            | Self::KindMismatch(_)
            | Self::OtherState { .. } => Some(Fault::Damaged),
            Self::Stopped
            | Self::UnknownTransaction { .. }
            | Self::NotNext { .. }
            | Self::NotInLog { .. }
            | Self::CutsApplied { .. }
            | Self::NoIncarnation { .. }
            | Self::ForeignSnapshot { .. }
            | Self::TrimsUnapplied { .. }
            | Self::PromiseFalls { .. } => None,
        }
    }

    pub(super) fn undecodable(family: Family, key: &[u8], reason: impl Into<String>) -> Self {
        Self::Undecodable {
            family,
            key: hexadecimal(key),
            reason: reason.into(),
        }
    }
}

impl OpenError {
    /// What is wrong with the disk, if that is what hinders.
    pub fn found(&self) -> Option<Found> {
        let fault = match self {
            Self::CreateDirectory { source, .. } | Self::Replace { source, .. } => {
                Some(Fault::of_write(source))
            }
            Self::Damaged { source, .. } => source.fault(),
            Self::Engine { source, .. } => fault_of(source),
            Self::Locked { .. } | Self::NewerFormat { .. } => None,
        };
        fault.map(|fault| Found::new(fault, self))
    }
}

/// What the engine's answer means. It gives no code for the operating system's, only its text.
fn fault_of(error: &rocksdb::Error) -> Option<Fault> {
    const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
    let text = error.to_string();
    if FULL.iter().any(|full| text.contains(full)) {
        return Some(Fault::DiskFull);
    }
    match error.kind() {
        ErrorKind::Corruption => Some(Fault::Damaged),
        ErrorKind::IOError => Some(Fault::DiskFailed),
        _ => None,
    }
}

/// Whether a sector or a file is gone for good, as far as can be told.
fn is_unreadable(error: &rocksdb::Error) -> bool {
    const GONE: [&str; 2] = ["Input/output error", "No such file or directory"];
    let text = error.to_string();
    error.kind() == ErrorKind::IOError && GONE.iter().any(|gone| text.contains(gone))
}

/// Keys are short; a longer one is cut to what a log line can take.
fn hexadecimal(key: &[u8]) -> String {
    const SHOWN_BYTES: usize = 64;
    let shown = &key[..key.len().min(SHOWN_BYTES)];
    let mut text = String::with_capacity(2 * shown.len());
    for byte in shown {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
