//! Snapshots: a copy of a store for a replica that the leader's log no longer reaches back to.
//!
//! ```text
//! leader:   OpenSnapshot ─▶ checkpoint (links) ─▶ manifest of files and sizes; the log is kept from here on
//!           HashSnapshotFile ─▶ hashes of chunks, for what the follower may have already
//!           ReadSnapshot ─▶ a range of one file, in chunks with their hashes, paced over all readers
//! follower: fetch ─▶ what is here already is kept chunk by chunk, equal files of its own store are linked
//!                 ─▶ ranges by several connections at once, verified ─▶ synced ─▶ Input::SnapshotFetched
//!           Effect::InstallSnapshot ─▶ marked complete ─▶ the process begins anew ─▶ store::replacing
//! ```
//! Reading happens beside the leader's writes and never in their way: a checkpoint is made of links,
//! and a slow reader holds two chunks in memory and keeps its own file open, nothing else.

pub mod incoming;
pub mod outgoing;
mod pace;
pub mod progress;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes of one chunk, which is verified, and fetched again, by itself: the size of a frame of
/// entries, so that heartbeats pass in between.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// The length of a snapshot's name.
pub(crate) const NAME_BYTES: usize = 16;

/// Names a snapshot to the replica that holds it.
pub(crate) type Name = [u8; NAME_BYTES];

/// BLAKE3 of a chunk.
pub(crate) type Hash = [u8; blake3::OUT_LEN];

/// How many chunks of `chunk_bytes` a file of so many bytes has.
pub(crate) fn chunks_of(bytes: u64, chunk_bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(chunk_bytes.max(1))).unwrap_or(usize::MAX)
}

/// The hashes of a file's chunks, the last of which may be shorter. Blocks.
fn hashes_of(path: &Path, chunk_bytes: usize) -> io::Result<Vec<Hash>> {
    let mut file = File::open(path)?;
    let mut chunk = Vec::with_capacity(chunk_bytes);
    let mut hashes = Vec::new();
    loop {
        chunk.clear();
        (&mut file)
            .take(chunk_bytes as u64)
            .read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(hashes);
        }
        hashes.push(blake3::hash(&chunk).into());
    }
}

/// The hash of a whole file. Blocks.
fn hash_of(path: &Path) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let (mut file, mut chunk) = (File::open(path)?, vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&chunk[..read]),
        };
    }
}
