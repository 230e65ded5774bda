//! A store that is not to be trusted any more makes room for a new one, and is kept until that has
//! taken its place for good.
//!
//! ```text
//! store ──put──▶ aside ──discard──▶ (gone)      the next Store::open makes a new store, a new replica
//! ```
//! Beside the database stands the identity of its replica, for whoever has to know it though the
//! database cannot be opened.

use std::fs;
use std::io;
use std::path::Path;

use percolate_core::identity::ReplicaId;

use super::replacing::{DATABASE, INCOMING, NEXT, OUTGOING, remove, sync};

/// The store put aside, below the data directory. At most one: the latest.
const ASIDE: &str = "aside";

/// The identity, below the data directory.
const IDENTITY: &str = "replica";

/// Puts the store in `directory` aside, with whatever was under way for it. Repeated after an
/// interruption it goes on.
pub fn put(directory: &Path) -> io::Result<()> {
    for copy in [INCOMING, NEXT, OUTGOING] {
        remove(&directory.join(copy))?;
    }
    let store = directory.join(DATABASE);
    if has_store(directory) {
        remove(&directory.join(ASIDE))?;
        fs::rename(&store, directory.join(ASIDE))?;
    }
    match fs::remove_file(directory.join(IDENTITY)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync(directory)
}

/// Whether there is a store that could be put aside.
pub fn has_store(directory: &Path) -> bool {
    directory.join(DATABASE).exists()
}

/// Whether a store was put aside.
pub fn is_there(directory: &Path) -> bool {
    directory.join(ASIDE).exists()
}

/// Throws away the store that was put aside.
pub fn discard(directory: &Path) -> io::Result<()> {
    remove(&directory.join(ASIDE))
}

/// Whose disk this is, if that was ever written down.
pub fn identity(directory: &Path) -> Option<ReplicaId> {
    let text = fs::read_to_string(directory.join(IDENTITY)).ok()?;
    text.trim().parse().ok()
}

/// Writes down whose disk this is. Without it the pod's name has to do.
pub(super) fn remember(directory: &Path, replica: ReplicaId) {
    if identity(directory) == Some(replica) {
        return;
    }
    if let Err(error) = fs::write(directory.join(IDENTITY), format!("{replica}\n")) {
        tracing::warn!(%error, "cannot write down the replica's identity");
    }
}
