//! The tenant's data on this replica's disk: the oplog, the visible items, and what this replica
//! must remember about itself. One RocksDB, opened by one process at a time.
//!
//! ```text
//! driver -> persist (promise, cut, append: synced)   -> oplog, meta
//! driver -> apply   (committed entries: not synced)  -> items, changes, idempotency, meta
//! server -> get, list                                <- items
//! server -> feed                                     <- changes, items
//! driver -> head, read                               <- oplog
//! driver -> set_aside                                <- rescue (what was cut from the oplog)
//! ```
//! An entry is in the oplog before it is applied, and applied in the same atomic write that says
//! so: after a crash the applied state is that of some earlier index, and applying the rest of the
//! oplog again leads to exactly the state lost. Every key is listed in [`keys`].
//!
//! What this module does not do: decide what is committed (the replica), or what an operation does
//! to an item ([`percolate_core::apply`]). Calls block on the disk.

mod applying;
pub mod aside;
mod changes;
mod codec;
mod engine;
mod epochs;
mod error;
mod feed;
mod idempotency;
mod items;
pub mod keys;
mod listing;
mod meta;
mod opening;
mod oplog;
mod pending;
mod replacing;
mod rescue;
pub mod room;
pub mod scrub;
mod state_hash;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use percolate_core::identity::{Epoch, Incarnation, Index, ReplicaId};
use percolate_core::log::{Head, Piece, Place, SharedEntry};
use percolate_core::model::{Item, ItemKey};
use percolate_core::operation::Outcome;
use percolate_core::replica::StateDigest;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, WriteBatch};

pub use self::error::{OpenError, StoreError};
pub use self::feed::{Change, FeedPage, FeedQuery};
use self::keys::Family;
use self::listing::View;
pub use self::listing::{ListQuery, Page};
use self::meta::Fact;
use self::state_hash::{StateHash, Tally};
use crate::fault::{Fault, Found};

/// What this replica had made durable when last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// Identity of this disk.
    pub replica_id: ReplicaId,
    /// The history the log belongs to; `None` on a new disk.
    pub incarnation: Option<Incarnation>,
    /// No lower epoch is answered any more.
    pub promised_epoch: Epoch,
    /// What the oplog begins after: the last entry trimmed.
    pub base: Head,
    /// The oplog's last entry.
    pub last: Head,
    /// The last entry that the visible items contain.
    pub applied: Head,
    /// Of what is applied, the latest epoch before which entries were given up; 0 without any.
    pub loss: Epoch,
}

impl Durable {
    /// What indices are of. It changes with the state, so that no state is shown under a wrong name.
    pub fn history(&self) -> Option<Incarnation> {
        Some(self.incarnation?.history_since(self.loss))
    }
}

/// One durable step of the log, written whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct LogChange {
    /// Promise to answer no epoch below.
    pub promise: Option<Epoch>,
    /// The history the log belongs to from here on.
    pub incarnation: Option<Incarnation>,
    /// Remove the entries after this index, before appending, and keep them aside.
    pub truncate_after: Option<Index>,
    /// Entries to append, in order, each following the one before.
    pub append: Vec<SharedEntry>,
    /// Remove the entries up to this index, all of them applied.
    pub trim: Option<Index>,
    /// Of the entries that were kept aside, forget these.
    pub forget: Vec<Place>,
}

/// An open store. Shared between threads; `persist` belongs to one of them, `apply` to one.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    db: DB,
    durable: Mutex<Durable>,
    /// Held while applying: entries are applied one after the other.
    applying: Mutex<Applying>,
    /// Set for good once a write failed or damage was found.
    stopped: AtomicBool,
    /// Why, if the disk is to blame.
    found: OnceLock<Found>,
}

/// What one batch of applied entries hands to the next.
#[derive(Debug, Default)]
struct Applying {
    hash: StateHash,
    /// The hashes after each entry of the latest batch.
    tallies: Vec<Tally>,
}

impl Store {
    /// Open the store in `directory`, making it if there is none. `fresh` is the identity of the
    /// disk if this is its first use; otherwise the disk keeps the one it has.
    pub fn open(directory: &Path, fresh: ReplicaId) -> Result<Self, OpenError> {
        let (db, durable, hash) = opening::open(directory, fresh)?;
        aside::remember(directory, durable.replica_id);
        Ok(Self {
            directory: directory.to_owned(),
            db,
            durable: Mutex::new(durable),
            applying: Mutex::new(Applying {
                hash,
                tallies: Vec::new(),
            }),
            stopped: AtomicBool::new(false),
            found: OnceLock::new(),
        })
    }

    /// What is wrong with the disk, once something is. From then on nothing is read or written.
    pub fn found(&self) -> Option<&Found> {
        self.found.get()
    }

    /// What is durable, as of the last `persist` and `apply` that returned.
    pub fn durable(&self) -> Durable {
        *self.lock_durable()
    }

    /// The last entry that the visible items contain.
    pub fn applied(&self) -> Head {
        self.durable().applied
    }

    /// Make `change` durable: one batch, one sync. Group commit is the caller's, by merging changes.
    ///
    /// After an error the process must end: when a sync failed, the kernel may have dropped the
    /// pages and report success the next time, so nothing in this process can tell what is on the
    /// disk. Every later write is refused ([`StoreError::Stopped`]); the next start reads what is there.
    pub fn persist(&self, change: &LogChange) -> Result<(), StoreError> {
        let base = self.writing(|| {
            for step in self.first_cuts(change)? {
                self.commit(&step)?;
            }
            self.commit(change)
        })?;
        match change.trim {
            Some(_) => oplog::drop_trimmed_files(&self.db, base),
            None => Ok(()),
        }
    }

    /// A long end of the log is cut in steps, as all of it is copied aside.
    fn first_cuts(&self, change: &LogChange) -> Result<Vec<LogChange>, StoreError> {
        let Some(after) = change.truncate_after else {
            return Ok(Vec::new());
        };
        let steps = rescue::steps(&self.db, after, rescue::STEP_BYTES)?;
        let steps = steps.into_iter().map(|after| LogChange {
            promise: change.promise,
            incarnation: change.incarnation,
            truncate_after: Some(after),
            ..LogChange::default()
        });
        Ok(steps.collect())
    }

    /// One batch, one sync; what the log begins after then.
    fn commit(&self, change: &LogChange) -> Result<Index, StoreError> {
        let mut batch = WriteBatch::default();
        let next = self.stage(change, &mut batch)?;
        self.db
            .write(batch)
            .map_err(StoreError::engine("append to the oplog"))?;
        // A synced write would keep all others out until the disk is done, and with them the
        // entries that are being applied.
        self.db
            .flush_wal(true)
            .map_err(StoreError::engine("sync the oplog"))?;
        let mut durable = self.lock_durable();
        *durable = Durable {
            applied: durable.applied,
            loss: durable.loss,
            ..next
        };
        Ok(next.base.index)
    }

    /// Put `change` into `batch`; returns what will be durable then.
    fn stage(&self, change: &LogChange, batch: &mut WriteBatch) -> Result<Durable, StoreError> {
        let mut next = self.durable();
        let meta = engine::family(&self.db, Family::Meta);
        if let Some(epoch) = change.promise {
            if epoch < next.promised_epoch {
                return Err(StoreError::PromiseFalls {
                    epoch,
                    promised: next.promised_epoch,
                });
            }
            batch.put_cf(meta, meta::PROMISED_EPOCH, epoch.encode());
            next.promised_epoch = epoch;
        }
        if let Some(incarnation) = change.incarnation {
            batch.put_cf(meta, meta::INCARNATION, incarnation.encode());
            next.incarnation = Some(incarnation);
        }
        if let Some(after) = change
            .truncate_after
            .filter(|after| *after < next.last.index)
        {
            if after < next.applied.index {
                return Err(StoreError::CutsApplied {
                    after,
                    applied: next.applied.index,
                });
            }
            next.last = oplog::head(&self.db, next.base, after)?
                .ok_or(StoreError::Gap { missing: after })?;
            let kept = rescue::set_aside(&self.db, batch, after)?;
            if kept > 0 {
                tracing::info!(
                    after,
                    kept,
                    "the log ends otherwise at the leader: what was never acknowledged is kept aside"
                );
            }
            oplog::cut_after(&self.db, batch, after);
        }
        if !change.forget.is_empty() {
            tracing::info!(
                entries = change.forget.len(),
                "the leader has what was kept aside: it is forgotten here"
            );
            rescue::forget(&self.db, batch, &change.forget);
        }
        next.last = oplog::append(&self.db, batch, next.last, &change.append)?;
        if let Some(index) = change.trim.filter(|index| *index > next.base.index) {
            // What is applied now stays so: this batch comes after it in the write-ahead log.
            if index > next.applied.index {
                return Err(StoreError::TrimsUnapplied {
                    index,
                    applied: next.applied.index,
                });
            }
            next.base = oplog::head(&self.db, next.base, index)?
                .ok_or(StoreError::Gap { missing: index })?;
            batch.put_cf(meta, meta::BASE, next.base.encode());
            oplog::trim(&self.db, batch, index);
        }
        Ok(next)
    }

    /// The head of the entry at `index`, also of the last one trimmed; `None` outside the oplog.
    pub fn head(&self, index: Index) -> Result<Option<Head>, StoreError> {
        let base = self.durable().base;
        self.reading(|| oplog::head(&self.db, base, index))
    }

    /// Copies everything as it is now into `directory`, by links where the file system can. It is
    /// that of some applied index, not below [`Store::applied`] before the call.
    pub fn checkpoint(&self, directory: &Path) -> Result<(), StoreError> {
        self.unless_stopped()?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
            .map_err(StoreError::engine("make a checkpoint"))
            .inspect_err(|error| {
                // Lack of room for a copy is no reason to end what the copy is made of.
                if error.fault() == Some(Fault::Damaged) {
                    self.blame(error);
                }
            })
    }

    /// Where snapshots for other replicas are kept while they are read; emptied at every start.
    pub fn outgoing(&self) -> PathBuf {
        self.directory.join(replacing::OUTGOING)
    }

    /// The engine's own files. Those that end in `.sst` never change while they are there.
    pub fn database(&self) -> PathBuf {
        self.directory.join(replacing::DATABASE)
    }

    /// Where a snapshot of another replica is copied to.
    pub fn incoming(&self) -> PathBuf {
        replacing::incoming_files(&self.directory)
    }

    /// Throws away what is in [`Store::incoming`].
    pub fn discard_incoming(&self) -> io::Result<()> {
        replacing::discard(&self.directory)
    }

    /// Throws away the store that was put aside: this one has taken its place for good.
    pub fn discard_aside(&self) -> io::Result<()> {
        aside::discard(&self.directory)
    }

    /// All files of a snapshot are in [`Store::incoming`], verified and synced: the next
    /// [`Store::open`] puts them in place of this store, and keeps aside what its log has beyond what it
    /// has applied; and if that may have been `given_up`, beyond where the two logs part.
    pub fn mark_incoming_complete(&self, given_up: bool) -> io::Result<()> {
        replacing::mark_complete(&self.directory, given_up)
    }

    /// Entries from `from` on, in order, at least one if there is one, stopping before their
    /// payloads exceed `max_bytes`. A gap or an unreadable entry is an error, never skipped.
    pub fn read(&self, from: Index, max_bytes: usize) -> Result<Vec<SharedEntry>, StoreError> {
        self.reading(|| oplog::read(&self.db, from, max_bytes))
    }

    /// The first of the entries that were cut and are kept aside, in the order of their places, at
    /// least one if there is one, stopping before their payloads exceed `max_bytes`.
    pub fn set_aside(&self, max_bytes: usize) -> Result<Piece, StoreError> {
        rescue::first(&self.db, max_bytes)
    }

    /// Make committed `entries` visible, which continue after [`Store::applied`]; returns what each
    /// came to. One atomic batch, not synced: after a crash the oplog brings it back.
    ///
    /// After an error the process must end, as after [`Store::persist`].
    pub fn apply(&self, entries: &[SharedEntry]) -> Result<Vec<Outcome>, StoreError> {
        let mut applying = self.lock_applying();
        self.writing(|| {
            let applied = applying::apply(&self.db, &self.durable(), applying.hash, entries)?;
            self.db
                .write(applied.batch)
                .map_err(StoreError::engine("apply entries"))?;
            let mut durable = self.lock_durable();
            (durable.applied, durable.loss) = (applied.head, applied.loss);
            drop(durable);
            if let Some(last) = applied.tallies.last() {
                applying.hash = last.hash;
            }
            applying.tallies = applied.tallies;
            Ok(applied.outcomes)
        })
    }

    /// The hash of the state as it is now, kept with every change.
    pub fn digest(&self) -> StateDigest {
        let applying = self.lock_applying();
        let (index, hash) = (self.applied().index, applying.hash);
        Tally { index, hash }.into()
    }

    /// The hashes of the state after each entry of the latest [`Store::apply`], handed out once.
    pub fn take_digests(&self) -> Vec<StateDigest> {
        let tallies = std::mem::take(&mut self.lock_applying().tallies);
        tallies.into_iter().map(StateDigest::from).collect()
    }

    /// The item under `key`, unless it is deleted or an edge with a deleted endpoint.
    pub fn get(&self, key: &ItemKey) -> Result<Option<Item>, StoreError> {
        self.reading(|| View::new(&self.db).get(key))
    }

    /// A page of the items that readers see, in the order of their keys.
    pub fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.reading(|| View::new(&self.db).list(query))
    }

    /// A page of the items that changed after a position, in the order of change, tombstones included.
    pub fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        self.reading(|| feed::read(&self.db, query))
    }

    /// A hash over everything replicas hold in common, with the head it belongs to. Equal at equal
    /// heads on all replicas. Reads everything, unlike the hash that is kept with every change.
    pub fn state_hash(&self) -> Result<(Head, [u8; 32]), StoreError> {
        let counted = state_hash::recount(&self.db, |_| true)?;
        Ok(counted.map_or_else(Default::default, |counted| {
            (counted.applied, counted.hash.bytes())
        }))
    }

    /// Counts what is stored and compares it with the hash kept with every change: damage that no
    /// checksum shows is found so. `pace` is told the bytes of each line and may end it by saying no.
    pub fn recount(&self, pace: impl FnMut(usize) -> bool) -> Result<(), StoreError> {
        self.reading(|| {
            let Some(counted) = state_hash::recount(&self.db, pace)? else {
                return Ok(());
            };
            let applied = counted.applied.index;
            match counted.kept {
                Some(kept) if kept.index == applied && kept.hash != counted.hash => {
                    Err(StoreError::OtherState { applied })
                }
                _ => Ok(()),
            }
        })
    }

    /// Damage was seen from outside the engine: from now on nothing is read or written.
    pub fn report(&self, found: Found) {
        let _ = self.found.set(found);
        self.stopped.store(true, Ordering::Release);
    }

    /// After any error the process must restart.
    fn writing<T>(&self, write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.unless_stopped()?;
        write().inspect_err(|error| {
            self.stopped.store(true, Ordering::Release);
            self.blame(error);
        })
    }

    /// Only an error that the disk is to blame for stops the store.
    fn reading<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.unless_stopped()?;
        read().inspect_err(|error| self.blame(error))
    }

    fn unless_stopped(&self) -> Result<(), StoreError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(StoreError::Stopped);
        }
        Ok(())
    }

    fn blame(&self, error: &StoreError) {
        if let Some(fault) = error.fault() {
            self.report(Found::new(fault, error));
        }
    }

    fn lock_applying(&self) -> MutexGuard<'_, Applying> {
        // Assigned only after a batch was written: a panic elsewhere cannot have left it half changed.
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_durable(&self) -> MutexGuard<'_, Durable> {
        // Plain data, assigned whole: a panic elsewhere cannot have left it half changed.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
