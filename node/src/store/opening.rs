//! From a directory to an open database whose parts agree with each other.
//!
//! ```text
//! copied snapshot takes its place -> make directory -> engine opens -> format is known
//!   -> new disk gets its identity -> log and state match -> the state's hash is known
//! ```

use std::fs::{self, File};
use std::path::Path;

use percolate_core::identity::{Index, ReplicaId};
use percolate_core::log::Head;
use rocksdb::{DB, ErrorKind, IteratorMode, WriteBatch, WriteOptions};

use super::Durable;
use super::error::{OpenError, StoreError};
use super::keys::{self, Family};
use super::meta::{self, Fact};
use super::pending::read_fact;
use super::state_hash::{self, StateHash, Tally};
use super::{engine, oplog, replacing};

/// How many of the last entries are verified at every start: those a crash can have touched.
const VERIFIED_ENTRIES: Index = 16;

/// Bytes of entries verified at once; one larger entry is read whole.
const VERIFIED_BYTES: usize = 1024 * 1024;

/// Bytes counted between two messages about a long count.
const REPORT_EVERY_BYTES: usize = 256 << 20;

pub(super) fn open(
    directory: &Path,
    fresh: ReplicaId,
) -> Result<(DB, Durable, StateHash), OpenError> {
    replacing::settle(directory)?;
    let path = directory.join(replacing::DATABASE);
    make(directory, &path)?;
    let db = engine::open(&path).map_err(|source| refused(&path, source))?;
    let damaged = |source| OpenError::Damaged {
        path: path.clone(),
        source,
    };
    match read_fact::<u32>(&db, meta::FORMAT).map_err(damaged)? {
        None => initialize(&db, fresh).map_err(damaged)?,
        Some(found) if found > keys::FORMAT => {
            return Err(OpenError::NewerFormat {
                path,
                found,
                known: keys::FORMAT,
            });
        }
        Some(found) if found < keys::FORMAT => upgrade(&db).map_err(damaged)?,
        Some(_) => {}
    }
    let durable = recall(&db).map_err(damaged)?;
    verify(&db, &durable).map_err(damaged)?;
    let hash = recall_hash(&db, &durable).map_err(damaged)?;
    Ok((db, durable, hash))
}

/// The hash of the state. A version that does not know of it leaves none behind, or one of an
/// earlier index: then every line is counted once.
fn recall_hash(db: &DB, durable: &Durable) -> Result<StateHash, StoreError> {
    let index = durable.applied.index;
    let kept: Option<Tally> = read_fact(db, meta::STATE_HASH)?;
    if let Some(tally) = kept.filter(|tally| tally.index == index) {
        return Ok(tally.hash);
    }
    if index == 0 {
        return Ok(StateHash::default());
    }
    let (mut bytes, mut told) = (0, 0);
    let counted = state_hash::recount(db, |line| {
        bytes += line;
        if bytes - told >= REPORT_EVERY_BYTES {
            told = bytes;
            tracing::info!(bytes, "counting what is stored, once");
        }
        true
    })?;
    let hash = counted.map(|counted| counted.hash).unwrap_or_default();
    let tally = Tally { index, hash }.encode();
    // Lost in a crash, it is counted again.
    db.put_cf(engine::family(db, Family::Meta), meta::STATE_HASH, tally)
        .map_err(StoreError::engine("keep the state's hash"))?;
    Ok(hash)
}

fn make(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let made = fs::create_dir_all(path).and_then(|()| File::open(directory)?.sync_all());
    made.map_err(|source| OpenError::CreateDirectory {
        path: path.to_owned(),
        source,
    })
}

fn refused(path: &Path, source: rocksdb::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        _ if is_locked(&source) => OpenError::Locked { path },
        ErrorKind::Corruption => OpenError::Damaged {
            path,
            source: StoreError::Engine {
                doing: "recover",
                source,
            },
        },
        // A newer version may have families that this one does not know.
        ErrorKind::InvalidArgument => match engine::peek(&path, Family::Meta, meta::FORMAT)
            .and_then(|format| u32::decode(&format))
        {
            Some(found) if found > keys::FORMAT => OpenError::NewerFormat {
                path,
                found,
                known: keys::FORMAT,
            },
            _ => OpenError::Engine { path, source },
        },
        _ => OpenError::Engine { path, source },
    }
}

/// Whether another process, or another handle in this one, has the database open. The engine has no
/// kind of its own for it; both its messages name the lock file.
pub(super) fn is_locked(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError && error.to_string().contains("LOCK")
}

/// Give a new disk its identity. A store without a format but with data is not new.
fn initialize(db: &DB, fresh: ReplicaId) -> Result<(), StoreError> {
    for family in Family::ALL {
        if let Some(found) = db
            .iterator_cf(engine::family(db, family), IteratorMode::Start)
            .next()
        {
            let (key, _) = found.map_err(StoreError::reading("look for data"))?;
            return Err(StoreError::undecodable(
                family,
                &key,
                "the store says nothing of its format",
            ));
        }
    }
    let family = engine::family(db, Family::Meta);
    let mut batch = WriteBatch::default();
    batch.put_cf(family, meta::FORMAT, keys::FORMAT.encode());
    batch.put_cf(family, meta::REPLICA_ID, fresh.encode());
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.write_opt(batch, &synced)
        .map_err(StoreError::engine("begin a store"))
}

/// From here on only this version and later ones can read it: an older one would not know what it
/// leaves out.
fn upgrade(db: &DB) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    let family = engine::family(db, Family::Meta);
    batch.put_cf(family, meta::FORMAT, keys::FORMAT.encode());
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.write_opt(batch, &synced)
        .map_err(StoreError::engine("raise the format"))
}

pub(super) fn recall(db: &DB) -> Result<Durable, StoreError> {
    let replica_id = read_fact(db, meta::REPLICA_ID)?
        .ok_or_else(|| StoreError::undecodable(Family::Meta, meta::REPLICA_ID, "it is missing"))?;
    let base = read_fact(db, meta::BASE)?.unwrap_or_default();
    Ok(Durable {
        replica_id,
        base,
        incarnation: read_fact(db, meta::INCARNATION)?,
        promised_epoch: read_fact(db, meta::PROMISED_EPOCH)?.unwrap_or_default(),
        last: oplog::last(db, base)?,
        applied: read_fact(db, meta::APPLIED)?.unwrap_or_default(),
        loss: read_fact(db, meta::LOSS)?.unwrap_or_default(),
    })
}

/// The applied state is that of an entry of this log, and the last entries chain up.
pub(super) fn verify(db: &DB, durable: &Durable) -> Result<(), StoreError> {
    let Durable {
        base,
        last,
        applied,
        ..
    } = *durable;
    if oplog::head(db, base, applied.index)? != Some(applied) {
        return Err(StoreError::Gap {
            missing: applied.index,
        });
    }
    let before = last.index.saturating_sub(VERIFIED_ENTRIES).max(base.index);
    let mut from: Head =
        oplog::head(db, base, before)?.ok_or(StoreError::Gap { missing: before })?;
    while from.index < last.index {
        for entry in oplog::read(db, from.index + 1, VERIFIED_BYTES)? {
            if !entry.follows(from) {
                return Err(StoreError::Broken {
                    index: entry.head.index,
                    last: from.index,
                });
            }
            from = entry.head;
        }
    }
    Ok(())
}
