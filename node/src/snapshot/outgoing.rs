//! Snapshots of this store that other replicas read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use percolate_core::identity::Index;

use super::{CHUNK_BYTES, Name, hash_of};
use crate::store::{Store, StoreError};

/// A snapshot that nobody has read for so long is dropped: time enough to restart a process and to
/// go on, short enough that a follower lost for good does not keep the log and old files for long.
const KEPT_UNREAD: Duration = Duration::from_mins(2);

/// Snapshots at once: one for each of the two followers most tenants have. More would only share the
/// same disk and the same network.
const MOST: usize = 2;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Others are being read.
    #[error("{MOST} snapshots are being read already: try again later")]
    TooMany,
    /// It was never there, or was dropped.
    #[error("there is no such snapshot")]
    Unknown,
    /// The store could not make it.
    #[error("cannot make a snapshot")]
    Store(#[source] StoreError),
    /// Its files cannot be read.
    #[error("cannot read the snapshot")]
    Read(#[source] io::Error),
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// A plain name, without any directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub hash: [u8; 32],
}

struct Opened {
    files: Arc<Vec<SnapshotFile>>,
    /// It contains everything up to here, so the log is needed from here on.
    applied: Index,
    used: Instant,
}

/// All of them. Shared between the links and the driver.
pub struct Outgoing {
    store: Arc<Store>,
    opened: Mutex<HashMap<Name, Opened>>,
    bytes_per_second: u64,
}

impl Outgoing {
    /// None yet. Together they are read at no more than `bytes_per_second`.
    pub fn new(store: Arc<Store>, bytes_per_second: u64) -> Self {
        Self {
            store,
            opened: Mutex::default(),
            bytes_per_second,
        }
    }

    /// The snapshot `resumed` if it is still there, or a new one named `fresh`. Blocks on the disk:
    /// everything is read once, for the hashes.
    pub fn open(
        &self,
        resumed: Option<Name>,
        fresh: Name,
    ) -> Result<(Name, Arc<Vec<SnapshotFile>>), SnapshotError> {
        self.expire(Instant::now());
        if let Some(name) = resumed
            && let Ok(files) = self.touch(name)
        {
            return Ok((name, files));
        }
        let applied = self.store.applied().index;
        {
            let mut opened = self.lock();
            if opened.len() >= MOST {
                return Err(SnapshotError::TooMany);
            }
            // From now on the log is kept, also while the files are hashed.
            let files = Arc::new(Vec::new());
            let used = Instant::now();
            opened.insert(
                fresh,
                Opened {
                    files,
                    applied,
                    used,
                },
            );
        }
        let made = self.make(fresh);
        let mut opened = self.lock();
        match made {
            Ok(files) => {
                let files = Arc::new(files);
                if let Some(snapshot) = opened.get_mut(&fresh) {
                    snapshot.files = Arc::clone(&files);
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

    fn make(&self, name: Name) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let directory = self.path(name);
        fs::create_dir_all(self.store.outgoing()).map_err(SnapshotError::Read)?;
        self.store
            .checkpoint(&directory)
            .map_err(SnapshotError::Store)?;
        let mut files = Vec::new();
        for found in fs::read_dir(&directory).map_err(SnapshotError::Read)? {
            let path = found.map_err(SnapshotError::Read)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let hasher = hash_of(&path).map_err(SnapshotError::Read)?;
            files.push(SnapshotFile {
                name: name.to_owned(),
                bytes: hasher.count(),
                hash: hasher.finalize().into(),
            });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(files)
    }

    /// Reads a file from `offset` on, at the pace allowed, until it ends or `take` says that nobody
    /// listens. Blocks.
    pub fn read(
        &self,
        name: Name,
        file: &str,
        offset: u64,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), SnapshotError> {
        let files = self.touch(name)?;
        // Only names of the manifest: nothing else of this machine is read.
        if !files.iter().any(|known| known.name == file) {
            return Err(SnapshotError::Unknown);
        }
        let mut source = File::open(self.path(name).join(file)).map_err(SnapshotError::Read)?;
        source
            .seek(SeekFrom::Start(offset))
            .map_err(SnapshotError::Read)?;
        let nanos = CHUNK_BYTES as u64 * 1_000_000_000 / self.bytes_per_second.max(1);
        let pace = Duration::from_nanos(nanos);
        loop {
            let began = Instant::now();
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = (&mut source)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)
                .map_err(SnapshotError::Read)?;
            if read == 0 || !take(chunk) {
                return Ok(());
            }
            self.touch(name)?;
            std::thread::sleep(pace.saturating_sub(began.elapsed()));
        }
    }

    /// Its files are not needed any more. The log is kept a while longer: its reader has to start
    /// and to find the leader first.
    pub fn close(&self, name: Name) {
        if self.touch(name).is_ok() {
            self.remove_files(name);
        }
    }

    /// The log is needed from here on, by those who read snapshots or have just done so.
    pub fn pinned(&self) -> Option<Index> {
        self.expire(Instant::now());
        self.lock().values().map(|opened| opened.applied).min()
    }

    fn touch(&self, name: Name) -> Result<Arc<Vec<SnapshotFile>>, SnapshotError> {
        let mut opened = self.lock();
        let snapshot = opened.get_mut(&name).ok_or(SnapshotError::Unknown)?;
        snapshot.used = Instant::now();
        Ok(Arc::clone(&snapshot.files))
    }

    fn expire(&self, now: Instant) {
        let gone: Vec<Name> = self
            .lock()
            .extract_if(|_, opened| now.saturating_duration_since(opened.used) > KEPT_UNREAD)
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
