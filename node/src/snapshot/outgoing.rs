//! Snapshots of this store that other replicas read.
//!
//! ```text
//! open ─▶ checkpoint, sizes        hashes ─▶ of one file's chunks, read once
//! begin ─▶ Range ─▶ chunk, chunk … as fast as it is read and no faster than the pace
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use percolate_core::identity::{Index, ReplicaId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::Pace;
use super::progress::percent;
use super::{CHUNK_BYTES, Hash, Name, chunks_of, hash_of};
use crate::store::{Store, StoreError};

/// A snapshot that nobody has read for so long is dropped: time enough to restart a process and to
/// go on, short enough that a follower lost for good does not keep the log and old files for long.
const KEPT_UNREAD: Duration = Duration::from_mins(2);

/// Snapshots at once: one for each of the two followers most tenants have. More would only share the
/// same disk and the same network.
const MOST: usize = 2;

/// Ranges of one snapshot read at once: twice what a follower asks for, so that one that has lost
/// its connections need not wait until they are noticed to be gone. With two chunks each in memory.
const RANGES: usize = 8;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Others are being read.
    #[error("{MOST} snapshots are being read already: try again later")]
    TooMany,
    /// Too much of this one is being read.
    #[error("{RANGES} ranges are being read already: try again later")]
    TooManyRanges,
    /// It was never there, or was dropped.
    #[error("there is no such snapshot")]
    Unknown,
    /// It has no such range.
    #[error("a range begins at a multiple of {CHUNK_BYTES} bytes within the file")]
    Range,
    /// The store could not make it.
    #[error("cannot make a snapshot")]
    Store(#[source] StoreError),
    /// Its files cannot be read.
    #[error("cannot read the snapshot")]
    Read(#[source] io::Error),
}

/// A file of a snapshot.
#[derive(Debug)]
pub struct SnapshotFile {
    /// A plain name, without any directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its chunks, as far as they were read.
    hashes: Mutex<Vec<Option<Hash>>>,
}

/// A part of a file that is being read.
#[derive(Debug)]
pub struct Range {
    snapshot: Name,
    content: File,
    file: usize,
    /// The first byte, and the one after the last.
    from: u64,
    to: u64,
    _place: OwnedSemaphorePermit,
}

impl Range {
    /// Where its chunks begin.
    pub fn chunks(&self) -> impl Iterator<Item = u64> + use<> {
        (self.from..self.to).step_by(CHUNK_BYTES)
    }
}

/// What somebody asks for who wants a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Who it is, if it says so.
    pub reader: Option<ReplicaId>,
    /// One opened before, to go on with.
    pub resumed: Option<Name>,
    /// The name of a new one.
    pub fresh: Name,
}

struct Opened {
    files: Files,
    reader: Option<ReplicaId>,
    /// Bytes the reader has.
    copied: u64,
    /// It contains everything up to here, so the log is needed from here on.
    applied: Index,
    used: Instant,
    places: Arc<Semaphore>,
}

enum Files {
    /// They are being linked.
    Making,
    Ready(Arc<Vec<SnapshotFile>>),
    /// They were read and are gone; the log is kept until the reader had time to join.
    Closed,
}

/// All of them. Shared between the links and the driver.
pub struct Outgoing {
    store: Arc<Store>,
    opened: Mutex<HashMap<Name, Opened>>,
    pace: Pace,
}

impl Outgoing {
    /// None yet. All together are read at no more than `bytes_per_second`.
    pub fn new(store: Arc<Store>, bytes_per_second: u64) -> Self {
        Self {
            store,
            opened: Mutex::default(),
            pace: Pace::new(bytes_per_second),
        }
    }

    /// The snapshot that is gone on with if it is still there, or a new one. Blocks on the disk.
    pub fn open(&self, wanted: Wanted) -> Result<(Name, Arc<Vec<SnapshotFile>>), SnapshotError> {
        self.expire(Instant::now());
        if let Some(name) = wanted.resumed
            && let Ok(files) = self.touch(name)
        {
            return Ok((name, files));
        }
        self.forget_of(wanted.reader);
        let fresh = wanted.fresh;
        self.reserve(fresh, wanted.reader)?;
        let made = self.make(fresh);
        let mut opened = self.lock();
        match made {
            Ok(files) => {
                let files = Arc::new(files);
                if let Some(snapshot) = opened.get_mut(&fresh) {
                    snapshot.files = Files::Ready(Arc::clone(&files));
                    snapshot.used = Instant::now();
                }
                Ok((fresh, files))
            }
            Err(error) => {
                opened.remove(&fresh);
                drop(opened);
                self.remove_files(fresh);
                Err(error)
            }
        }
    }

    /// Who asks for a new one has no use for one it has begun.
    fn forget_of(&self, reader: Option<ReplicaId>) {
        let begun = |_: &Name, opened: &mut Opened| {
            reader.is_some() && opened.reader == reader && !matches!(opened.files, Files::Making)
        };
        self.drop_those(begun);
    }

    /// From now on the log is kept, also while the files are made.
    fn reserve(&self, name: Name, reader: Option<ReplicaId>) -> Result<(), SnapshotError> {
        let mut opened = self.lock();
        let held = opened.values();
        let held = held.filter(|snapshot| !matches!(snapshot.files, Files::Closed));
        if held.count() >= MOST {
            return Err(SnapshotError::TooMany);
        }
        let snapshot = Opened {
            files: Files::Making,
            reader,
            copied: 0,
            applied: self.store.applied().index,
            used: Instant::now(),
            places: Arc::new(Semaphore::new(RANGES)),
        };
        opened.insert(name, snapshot);
        Ok(())
    }

    fn make(&self, name: Name) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let directory = self.path(name);
        fs::create_dir_all(self.store.outgoing()).map_err(SnapshotError::Read)?;
        self.store
            .checkpoint(&directory)
            .map_err(SnapshotError::Store)?;
        let mut files = Vec::new();
        for found in fs::read_dir(&directory).map_err(SnapshotError::Read)? {
            let found = found.map_err(SnapshotError::Read)?;
            let bytes = found.metadata().map_err(SnapshotError::Read)?.len();
            let Ok(name) = found.file_name().into_string() else {
                continue;
            };
            let hashes = Mutex::new(vec![None; chunks_of(bytes, CHUNK_BYTES as u64)]);
            files.push(SnapshotFile {
                name,
                bytes,
                hashes,
            });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(files)
    }

    /// The hashes of all chunks of a file. Reads what was not read before; blocks.
    pub fn hashes(&self, name: Name, file: &str) -> Result<Vec<Hash>, SnapshotError> {
        let files = self.touch(name)?;
        let (_, known) = find(&files, file)?;
        let content = File::open(self.path(name).join(&known.name)).map_err(SnapshotError::Read)?;
        let chunks = (0..known.bytes).step_by(CHUNK_BYTES);
        chunks
            .map(|offset| {
                self.touch(name)?;
                match known.hash_at(offset) {
                    Some(hash) => Ok(hash),
                    None => known
                        .read(&content, offset)
                        .map(|(_, hash)| hash)
                        .map_err(SnapshotError::Read),
                }
            })
            .collect()
    }

    /// The hash of a whole file, for replicas of an older version. Blocks.
    pub fn whole_hash(&self, name: Name, file: &str) -> Result<Hash, SnapshotError> {
        let files = self.touch(name)?;
        let (_, known) = find(&files, file)?;
        let hash = hash_of(&self.path(name).join(&known.name)).map_err(SnapshotError::Read)?;
        self.touch(name)?;
        Ok(hash)
    }

    /// Begin to read `length` bytes of a file from `offset` on, all that follow if it is 0. The
    /// reader has `copied` bytes of the whole. Blocks.
    pub fn begin(
        &self,
        name: Name,
        file: &str,
        (offset, length): (u64, u64),
        copied: u64,
    ) -> Result<Range, SnapshotError> {
        let files = self.touch(name)?;
        // Only names of the manifest: nothing else of this machine is read.
        let (index, known) = find(&files, file)?;
        if offset > known.bytes || !offset.is_multiple_of(CHUNK_BYTES as u64) {
            return Err(SnapshotError::Range);
        }
        let to = match length {
            0 => known.bytes,
            length => offset.saturating_add(length).min(known.bytes),
        };
        let place = {
            let mut opened = self.lock();
            let snapshot = opened.get_mut(&name).ok_or(SnapshotError::Unknown)?;
            snapshot.copied = snapshot.copied.max(copied);
            let place = Arc::clone(&snapshot.places).try_acquire_owned();
            place.map_err(|_| SnapshotError::TooManyRanges)?
        };
        Ok(Range {
            snapshot: name,
            content: File::open(self.path(name).join(&known.name)).map_err(SnapshotError::Read)?,
            file: index,
            from: offset,
            to,
            _place: place,
        })
    }

    /// How long to wait before the chunk of `range` at `offset` is read, so that all readers together
    /// keep to the pace.
    pub fn pause(&self, range: &Range, offset: u64) -> Duration {
        let bytes = (range.to - offset.min(range.to)).min(CHUNK_BYTES as u64);
        self.pace.wait(bytes, Instant::now())
    }

    /// The chunk of `range` at `offset`, and its hash. Blocks.
    pub fn chunk(&self, range: &Range, offset: u64) -> Result<(Bytes, Hash), SnapshotError> {
        let files = self.touch(range.snapshot)?;
        let file = files.get(range.file).ok_or(SnapshotError::Unknown)?;
        let (content, hash) = file
            .read(&range.content, offset)
            .map_err(SnapshotError::Read)?;
        if let Some(snapshot) = self.lock().get_mut(&range.snapshot) {
            snapshot.copied = snapshot.copied.saturating_add(content.len() as u64);
        }
        Ok((content, hash))
    }

    /// Its files are not needed any more. The log is kept a while longer: its reader has to start
    /// and to find the leader first.
    pub fn close(&self, name: Name) {
        if let Some(snapshot) = self.lock().get_mut(&name) {
            snapshot.files = Files::Closed;
            snapshot.used = Instant::now();
        }
        self.remove_files(name);
    }

    /// The log is needed from here on, by those who read snapshots or have just done so.
    pub fn pinned(&self) -> Option<Index> {
        self.expire(Instant::now());
        self.lock().values().map(|opened| opened.applied).min()
    }

    /// The log has grown so long that it was trimmed up to `base` all the same: what is older is of no
    /// use to its reader, who would need another. Better now than when it has all of it.
    pub fn trimmed(&self, base: Index) {
        let useless = |name: &Name, opened: &mut Opened| {
            let useless = opened.applied < base;
            if useless {
                let name = u128::from_be_bytes(*name);
                tracing::warn!(
                    snapshot = format!("{name:032x}"),
                    "a snapshot is read too slowly for what is written meanwhile: it is dropped"
                );
            }
            useless
        };
        self.drop_those(useless);
    }

    /// How much each reader has, of a hundred.
    pub fn progress(&self) -> Vec<(ReplicaId, u8)> {
        let opened = self.lock();
        let readers = opened.values().filter_map(|opened| {
            let percent = match &opened.files {
                Files::Making => 0,
                Files::Ready(files) => {
                    percent(opened.copied, files.iter().map(|file| file.bytes).sum())
                }
                Files::Closed => 100,
            };
            Some((opened.reader?, percent))
        });
        readers.collect()
    }

    fn touch(&self, name: Name) -> Result<Arc<Vec<SnapshotFile>>, SnapshotError> {
        let mut opened = self.lock();
        let snapshot = opened.get_mut(&name).ok_or(SnapshotError::Unknown)?;
        let Files::Ready(files) = &snapshot.files else {
            return Err(SnapshotError::Unknown);
        };
        snapshot.used = Instant::now();
        Ok(Arc::clone(files))
    }

    fn expire(&self, now: Instant) {
        let unread = |_: &Name, opened: &mut Opened| {
            now.saturating_duration_since(opened.used) > KEPT_UNREAD
                && !matches!(opened.files, Files::Making)
        };
        self.drop_those(unread);
    }

    fn drop_those(&self, which: impl FnMut(&Name, &mut Opened) -> bool) {
        let gone: Vec<Name> = self
            .lock()
            .extract_if(which)
            .map(|(name, _)| name)
            .collect();
        for name in gone {
            self.remove_files(name);
        }
    }

    fn remove_files(&self, name: Name) {
        // Links only; what cannot be removed now is at the next start.
        if let Err(error) = fs::remove_dir_all(self.path(name)) {
            tracing::debug!(%error, "a snapshot's files stay until the next start");
        }
    }

    fn path(&self, name: Name) -> PathBuf {
        let name = u128::from_be_bytes(name);
        self.store.outgoing().join(format!("{name:032x}"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Opened>> {
        // Whole after every statement: a panic elsewhere leaves nothing half done.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotFile {
    fn hash_at(&self, offset: u64) -> Option<Hash> {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        *hashes.get(chunk_at(offset))?
    }

    /// The chunk at `offset` with its hash, which is remembered.
    fn read(&self, content: &File, offset: u64) -> io::Result<(Bytes, Hash)> {
        let left = self.bytes.saturating_sub(offset);
        let mut chunk = vec![
            0;
            usize::try_from(left)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES)
        ];
        content.read_exact_at(&mut chunk, offset)?;
        let hash = blake3::hash(&chunk).into();
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hashes.get_mut(chunk_at(offset)) {
            *known = Some(hash);
        }
        Ok((chunk.into(), hash))
    }
}

fn chunk_at(offset: u64) -> usize {
    usize::try_from(offset / CHUNK_BYTES as u64).unwrap_or(usize::MAX)
}

fn find<'a>(
    files: &'a [SnapshotFile],
    name: &str,
) -> Result<(usize, &'a SnapshotFile), SnapshotError> {
    let mut files = files.iter().enumerate();
    let found = files.find(|(_, file)| file.name == name);
    found.ok_or(SnapshotError::Unknown)
}

#[cfg(test)]
mod tests;
