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
    files: Files,
    /// It contains everything up to here, so the log is needed from here on.
    applied: Index,
    used: Instant,
}

enum Files {
    /// They are being linked and hashed.
    Making,
    Ready(Arc<Vec<SnapshotFile>>),
    /// They were read and are gone; the log is kept until the reader had time to join.
    Closed,
}

/// All of them. Shared between the links and the driver.
pub struct Outgoing {
    store: Arc<Store>,
    opened: Mutex<HashMap<Name, Opened>>,
    /// For each file that is read.
    bytes_per_second: u64,
}

impl Outgoing {
    /// None yet. Each file is read at no more than `bytes_per_second`.
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
        self.reserve(fresh)?;
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

    /// From now on the log is kept, also while the files are made.
    fn reserve(&self, name: Name) -> Result<(), SnapshotError> {
        let mut opened = self.lock();
        let held = opened.values();
        let held = held.filter(|snapshot| !matches!(snapshot.files, Files::Closed));
        if held.count() >= MOST {
            return Err(SnapshotError::TooMany);
        }
        let snapshot = Opened {
            files: Files::Making,
            applied: self.store.applied().index,
            used: Instant::now(),
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
        let gone: Vec<Name> = self
            .lock()
            .extract_if(|_, opened| {
                let unread = now.saturating_duration_since(opened.used);
                unread > KEPT_UNREAD && !matches!(opened.files, Files::Making)
            })
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

#[cfg(test)]
mod tests {
    use percolate_core::identity::ReplicaId;
    use tempfile::TempDir;

    use super::*;

    const FAST: u64 = 1 << 40;
    const FIRST: Name = [1; 16];
    const SECOND: Name = [2; 16];
    const THIRD: Name = [3; 16];

    fn outgoing() -> (TempDir, Outgoing) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), ReplicaId(1)).expect("a store");
        (directory, Outgoing::new(Arc::new(store), FAST))
    }

    fn content(
        outgoing: &Outgoing,
        name: Name,
        file: &str,
        offset: u64,
    ) -> Result<Vec<u8>, SnapshotError> {
        let mut all = Vec::new();
        outgoing.read(name, file, offset, |chunk| {
            all.extend(chunk);
            true
        })?;
        Ok(all)
    }

    #[test]
    fn every_file_reads_as_its_manifest_says_from_any_offset() {
        let (_directory, outgoing) = outgoing();
        let (name, files) = outgoing.open(None, FIRST).expect("a snapshot");
        assert_eq!(name, FIRST);
        assert!(files.iter().any(|file| file.name == "CURRENT"));
        for file in files.iter() {
            let whole = content(&outgoing, name, &file.name, 0).expect("readable");
            assert_eq!(whole.len() as u64, file.bytes, "{}", file.name);
            assert_eq!(*blake3::hash(&whole).as_bytes(), file.hash, "{}", file.name);
            let half = file.bytes / 2;
            let rest = content(&outgoing, name, &file.name, half).expect("readable");
            assert_eq!(rest, whole[usize::try_from(half).expect("small")..]);
        }
    }

    #[test]
    fn nothing_but_files_of_the_manifest_is_read() {
        let (_directory, outgoing) = outgoing();
        let (name, _) = outgoing.open(None, FIRST).expect("a snapshot");
        for file in ["../../store/CURRENT", "/etc/hostname", "", "."] {
            let refused = content(&outgoing, name, file, 0);
            assert!(matches!(refused, Err(SnapshotError::Unknown)), "{file:?}");
        }
        let unknown = content(&outgoing, SECOND, "CURRENT", 0);
        assert!(matches!(unknown, Err(SnapshotError::Unknown)));
    }

    #[test]
    fn one_that_is_there_is_gone_on_with_and_one_that_was_closed_is_made_anew() {
        let (_directory, outgoing) = outgoing();
        outgoing.open(None, FIRST).expect("a snapshot");
        let (again, _) = outgoing.open(Some(FIRST), SECOND).expect("the same");
        assert_eq!(again, FIRST);
        outgoing.close(FIRST);
        assert!(!outgoing.path(FIRST).exists(), "its files are gone");
        let (other, _) = outgoing.open(Some(FIRST), SECOND).expect("another");
        assert_eq!(other, SECOND);
    }

    #[test]
    fn a_third_reader_waits_until_one_is_done() {
        let (_directory, outgoing) = outgoing();
        outgoing.open(None, FIRST).expect("a snapshot");
        outgoing.open(None, SECOND).expect("a snapshot");
        let third = outgoing.open(None, THIRD);
        assert!(matches!(third, Err(SnapshotError::TooMany)));
        outgoing.close(FIRST);
        outgoing.open(None, THIRD).expect("there is room again");
    }

    #[test]
    fn the_log_is_kept_until_a_reader_had_time_to_join() {
        let (_directory, outgoing) = outgoing();
        assert_eq!(outgoing.pinned(), None);
        outgoing.open(None, FIRST).expect("a snapshot");
        outgoing.close(FIRST);
        assert_eq!(outgoing.pinned(), Some(0));
        outgoing.expire(Instant::now() + 2 * KEPT_UNREAD);
        assert_eq!(outgoing.pinned(), None);
    }
}
