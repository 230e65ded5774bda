//! Whether the volume has room for the store to be opened and used.
//!
//! Opening writes: what only the write-ahead log holds goes into files, and the engine begins a new
//! list of its files. On a full volume that fails, again and again. No reserve is kept to make it
//! succeed: what it gives back would be written full by the next entries, and then nothing would be
//! left. The start waits for room instead.

use std::fs;
use std::io;
use std::path::Path;

use super::replacing::{DATABASE, INCOMING};
use super::{aside, replacing};

/// Room for the engine's own files, and for some writes.
const SPARE_BYTES: u64 = 4 << 20;

/// How much is free, and how much is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may be written.
    pub free_bytes: u64,
    /// Bytes below which the store is not opened.
    pub needed_bytes: u64,
}

impl Room {
    /// Whether it will do.
    pub fn is_enough(self) -> bool {
        self.free_bytes >= self.needed_bytes
    }

    /// The room on the volume of `directory`, for the store in it.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let volume = rustix::fs::statvfs(directory)?;
        Ok(Self {
            free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
            needed_bytes: SPARE_BYTES + write_ahead_bytes(&directory.join(DATABASE)),
        })
    }
}

/// Removes something that can be done without; whether there was anything. A store that was put aside
/// goes first: a copy that has begun would have to be begun anew.
pub fn make(directory: &Path) -> io::Result<bool> {
    if aside::is_there(directory) {
        aside::discard(directory)?;
        return Ok(true);
    }
    let copy = directory.join(INCOMING).exists();
    replacing::discard(directory)?;
    Ok(copy)
}

/// Bytes in the write-ahead log: at opening all of them may have to be written once more.
fn write_ahead_bytes(store: &Path) -> u64 {
    let Ok(files) = fs::read_dir(store) else {
        return 0; // no store yet
    };
    files
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "log"))
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
