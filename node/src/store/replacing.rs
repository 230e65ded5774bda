//! A snapshot of another replica takes the place of this disk's store, whatever happens meanwhile.
//!
//! ```text
//! incoming/files, complete ──prepare──▶ incoming/files (as this replica's) ──rename──▶ next
//! next ──remove store, rename──▶ store
//! ```
//! The rename to `next` decides: before it the old store counts, after it the new one, and every
//! start of the process goes on where the last one was interrupted. This replica keeps its identity
//! and its promise; of the copy only what is applied is taken, for that is committed. What this one's
//! log has beyond what it has applied is kept aside, for it may stand nowhere else; and so is what it
//! has applied, where a person gave that up while this disk was away.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use percolate_core::identity::Index;
use percolate_core::log::Head;
use rocksdb::{DB, WriteBatch, WriteOptions};

use super::error::{OpenError, StoreError};
use super::keys::{FORMAT, Family};
use super::meta::{self, Fact};
use super::pending::read_fact;
use super::{Durable, engine, opening, oplog, rescue};

/// The database's own directory below the data directory: a volume's root cannot be renamed.
pub(super) const DATABASE: &str = "store";

/// Where a snapshot is copied to, below the data directory.
pub(super) const INCOMING: &str = "incoming";

/// Where snapshots for others are, below the data directory. Nobody reads them after a restart.
pub(super) const OUTGOING: &str = "outgoing";

/// The copy that is to be the store.
pub(super) const NEXT: &str = "next";

/// The copied files, below [`INCOMING`].
const FILES: &str = "files";

/// Beside the files: all of them are there, verified and synced. Empty, or [`GIVEN_UP`].
const COMPLETE: &str = "complete";

/// Where that is written before it counts.
const DRAFT: &str = "complete.new";

/// What this replica has applied may have been given up.
const GIVEN_UP: &str = "given up\n";

pub(super) fn incoming_files(directory: &Path) -> PathBuf {
    directory.join(INCOMING).join(FILES)
}

/// Say that the snapshot in `directory` is whole: the next [`super::Store::open`] puts it in place.
pub(super) fn mark_complete(directory: &Path, given_up: bool) -> io::Result<()> {
    let incoming = directory.join(INCOMING);
    sync(&incoming.join(FILES))?;
    let draft = incoming.join(DRAFT);
    let mut mark = File::create(&draft)?;
    if given_up {
        mark.write_all(GIVEN_UP.as_bytes())?;
    }
    mark.sync_all()?;
    fs::rename(draft, incoming.join(COMPLETE))?;
    sync(&incoming)
}

/// What [`mark_complete`] was told; `None` where nothing is complete.
fn completed(directory: &Path) -> Option<bool> {
    let mark = fs::read_to_string(directory.join(INCOMING).join(COMPLETE)).ok()?;
    Some(mark == GIVEN_UP)
}

/// Throw away what was copied: it is not needed any more.
pub(super) fn discard(directory: &Path) -> io::Result<()> {
    remove(&directory.join(INCOMING))
}

/// Finish what an earlier process began, and clear away what it left.
pub(super) fn settle(directory: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Replace {
        path: directory.to_owned(),
        source,
    };
    remove(&directory.join(OUTGOING)).map_err(failed)?;
    let (incoming, next) = (directory.join(INCOMING), directory.join(NEXT));
    if !next.exists()
        && let Some(given_up) = completed(directory)
    {
        let files = incoming.join(FILES);
        match prepare(&directory.join(DATABASE), &files, given_up) {
            Ok(applied) => {
                tracing::info!(
                    applied = applied.index,
                    "a snapshot takes the store's place"
                );
                fs::rename(&files, &next).map_err(failed)?;
                sync(directory).map_err(failed)?;
            }
            // Somebody has not let go of the store yet: that says nothing about the copy.
            Err(StoreError::Engine { source, .. }) if opening::is_locked(&source) => {
                return Err(OpenError::Locked {
                    path: directory.join(DATABASE),
                });
            }
            // The store that is there still counts; the copy is made anew.
            Err(error) => {
                tracing::error!(%error, "the copied snapshot is of no use");
                remove(&incoming).map_err(failed)?;
            }
        }
    }
    if next.exists() {
        remove(&directory.join(DATABASE)).map_err(failed)?;
        fs::rename(&next, directory.join(DATABASE)).map_err(failed)?;
        remove(&incoming).map_err(failed)?;
        sync(directory).map_err(failed)?;
    }
    Ok(())
}

/// Make the copy this replica's. May be repeated.
pub(super) fn prepare(store: &Path, files: &Path, given_up: bool) -> Result<Head, StoreError> {
    let store = engine::open(store).map_err(StoreError::engine("open the store"))?;
    let own = opening::recall(&store)?;
    let copy = engine::open(files).map_err(StoreError::engine("open the copied snapshot"))?;
    if read_fact::<u32>(&copy, meta::FORMAT)?.is_none_or(|format| format > FORMAT) {
        return Err(StoreError::ForeignSnapshot {
            what: "is of another format",
        });
    }
    let theirs = opening::recall(&copy)?;
    if own
        .incarnation
        .is_some_and(|own| Some(own) != theirs.incarnation)
    {
        return Err(StoreError::ForeignSnapshot {
            what: "belongs to another history",
        });
    }
    let shared = if given_up {
        let last = own.applied.index.min(theirs.applied.index);
        shared((&store, own.base), (&copy, theirs.base), last)?
    } else {
        own.applied.index
    };
    rescue::move_over(&store, &copy, shared)?;
    adopt(&copy, &own, theirs.applied)?;
    opening::verify(&copy, &opening::recall(&copy)?)?;
    Ok(theirs.applied)
}

/// Up to where two logs are the same, at most `last`; 0 if no entry that both still have shows it. What
/// is then offered in vain is known to the leader by the turns of its epochs.
fn shared(own: (&DB, Head), copy: (&DB, Head), last: Index) -> Result<Index, StoreError> {
    let is_same = |index| -> Result<bool, StoreError> {
        let (one, other) = (
            oplog::head(own.0, own.1, index)?,
            oplog::head(copy.0, copy.1, index)?,
        );
        Ok(one.is_some() && one == other)
    };
    // Heads are chained: where two are the same, all before are.
    let lowest = own.1.index.max(copy.1.index);
    if lowest > last || !is_same(lowest)? {
        return Ok(0);
    }
    let (mut same, mut other) = (lowest, last + 1);
    while other - same > 1 {
        let middle = same.midpoint(other);
        if is_same(middle)? {
            same = middle;
        } else {
            other = middle;
        }
    }
    Ok(same)
}

fn adopt(copy: &DB, own: &Durable, applied: Head) -> Result<(), StoreError> {
    let family = engine::family(copy, Family::Meta);
    let mut batch = WriteBatch::default();
    batch.put_cf(family, meta::REPLICA_ID, own.replica_id.encode());
    batch.put_cf(family, meta::PROMISED_EPOCH, own.promised_epoch.encode());
    oplog::cut_after(copy, &mut batch, applied.index);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    copy.write_opt(batch, &synced)
        .map_err(StoreError::engine("take over the copied snapshot"))
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
