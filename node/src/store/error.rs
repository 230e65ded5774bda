//! What can go wrong in the store: [`OpenError`] before it serves, [`StoreError`] while it does.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use percolate_core::identity::Index;
use percolate_core::model::KindMismatch;

use super::keys::Family;

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
    #[error("{path} is damaged: empty this replica's volume and it is copied anew from the others")]
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
    /// An earlier write failed, so nothing more is written.
    #[error("an earlier write failed, the process must restart")]
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

    pub(super) fn undecodable(family: Family, key: &[u8], reason: impl Into<String>) -> Self {
        Self::Undecodable {
            family,
            key: hexadecimal(key),
            reason: reason.into(),
        }
    }
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
