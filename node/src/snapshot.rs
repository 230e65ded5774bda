//! Snapshots: a copy of a store for a replica that the leader's log no longer reaches back to.
//!
//! ```text
//! leader:   OpenSnapshot ─▶ checkpoint (links) ─▶ manifest of files, sizes, hashes; the log is kept from here on
//!           ReadSnapshot ─▶ one file from an offset on, paced
//! follower: fetch ─▶ files in incoming/, resumed where they end ─▶ verified ─▶ Input::SnapshotFetched
//!           Effect::InstallSnapshot ─▶ marked complete ─▶ the process begins anew ─▶ store::replacing
//! ```
//! Reading happens beside the leader's writes and never in their way: a checkpoint is made of links,
//! and a slow reader only keeps its own file open.

pub mod incoming;
pub mod outgoing;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes of one chunk: the size of a frame of entries, so that heartbeats pass in between.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// The length of a snapshot's name.
pub(crate) const NAME_BYTES: usize = 16;

/// Names a snapshot to the replica that holds it.
pub(crate) type Name = [u8; NAME_BYTES];

/// The hash of what is there of a file, with its length in [`blake3::Hasher::count`]. Blocks.
fn hash_of(path: &Path) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(hasher),
        file => file?,
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hasher);
        }
        hasher.update(&chunk[..read]);
    }
}
