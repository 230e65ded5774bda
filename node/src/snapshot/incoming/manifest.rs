//! What a leader says its snapshot consists of. It comes from another machine: nothing in it may lead
//! out of the directory, or ask for more than can be.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use percolate_api::proto::replication::v1::{SnapshotFile, SnapshotManifest};
use tokio::fs;

use crate::snapshot::{CHUNK_BYTES, NAME_BYTES, chunks_of};

/// Files of one snapshot: more than a store of a terabyte has.
const MOST_FILES: usize = 100_000;

/// Longest name of a file: what file systems take.
const NAME_LENGTH: usize = 255;

/// A manifest that can be worked with.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) snapshot: Vec<u8>,
    pub(super) files: Vec<SnapshotFile>,
    /// Whether chunks come with their hashes. A leader of an older version tells those of whole
    /// files instead.
    pub(super) chunked: bool,
}

impl Manifest {
    /// What is wrong with `manifest`, or what it says.
    pub(super) fn check(manifest: SnapshotManifest) -> Result<Self, String> {
        let chunked = manifest.chunk_bytes != 0;
        if chunked && manifest.chunk_bytes != CHUNK_BYTES as u64 {
            return Err(format!("chunks of {} bytes", manifest.chunk_bytes));
        }
        if manifest.snapshot.len() != NAME_BYTES {
            return Err("a snapshot without a name".to_owned());
        }
        if manifest.files.len() > MOST_FILES {
            return Err(format!("{} files", manifest.files.len()));
        }
        let (mut names, mut bytes) = (BTreeSet::new(), Some(0_u64));
        for file in &manifest.files {
            if !is_plain(&file.name) || !names.insert(&file.name) {
                return Err(format!("{:?} as the name of a file", file.name));
            }
            if !chunked && file.hash.len() != blake3::OUT_LEN {
                return Err(format!("{:?} without a hash", file.name));
            }
            bytes = bytes.and_then(|bytes| bytes.checked_add(file.bytes));
        }
        if bytes.is_none_or(|bytes| i64::try_from(bytes).is_err()) {
            return Err("more bytes than a disk can hold".to_owned());
        }
        Ok(Self {
            snapshot: manifest.snapshot,
            files: manifest.files,
            chunked,
        })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The parts of `file` that can be fetched by themselves: without hashes there is only the whole.
    pub(super) fn chunks(&self, file: &SnapshotFile) -> usize {
        chunks_of(file.bytes, self.chunk_bytes(file))
    }

    /// Bytes of one of them.
    pub(super) fn chunk_length(&self, file: &SnapshotFile, chunk: usize) -> u64 {
        let from = self.chunk_bytes(file).saturating_mul(chunk as u64);
        file.bytes.saturating_sub(from).min(self.chunk_bytes(file))
    }

    /// Bytes of all but the last.
    pub(super) fn chunk_bytes(&self, file: &SnapshotFile) -> u64 {
        if self.chunked {
            CHUNK_BYTES as u64
        } else {
            file.bytes
        }
    }
}

fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_short = (1..=NAME_LENGTH).contains(&name.len());
    is_short && name != "." && name != ".." && name.bytes().all(allowed)
}

/// Remove what the manifest does not name, and what is longer than it says.
pub(super) async fn keep_only(directory: &Path, files: &[SnapshotFile]) -> io::Result<()> {
    let mut found = fs::read_dir(directory).await?;
    while let Some(entry) = found.next_entry().await? {
        let name = entry.file_name();
        let bytes = entry.metadata().await?.len();
        let known = files
            .iter()
            .any(|file| name == *file.name && bytes <= file.bytes);
        if !known {
            fs::remove_file(entry.path()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: u64) -> SnapshotFile {
        SnapshotFile {
            name: name.to_owned(),
            bytes,
            hash: Vec::new(),
        }
    }

    fn manifest(files: &[SnapshotFile]) -> SnapshotManifest {
        SnapshotManifest {
            snapshot: vec![1; NAME_BYTES],
            files: files.to_vec(),
            chunk_bytes: CHUNK_BYTES as u64,
        }
    }

    #[test]
    fn only_what_a_leader_makes_is_a_manifest() {
        let plain = manifest(&[file("000012.sst", 5), file("CURRENT", 16)]);
        let long = "a".repeat(NAME_LENGTH + 1);
        let cases = [
            ("plain", plain.clone(), true),
            ("empty", manifest(&[]), true),
            (
                "upwards",
                manifest(&[file("../../store/CURRENT", 1)]),
                false,
            ),
            ("absolute", manifest(&[file("/etc/passwd", 1)]), false),
            ("a directory", manifest(&[file("..", 1)]), false),
            ("this directory", manifest(&[file(".", 1)]), false),
            ("nameless", manifest(&[file("", 1)]), false),
            ("too long", manifest(&[file(&long, 1)]), false),
            ("with a zero", manifest(&[file("a\0b", 1)]), false),
            ("twice", manifest(&[file("a", 1), file("a", 2)]), false),
            (
                "overflowing",
                manifest(&[file("a", u64::MAX), file("b", 1)]),
                false,
            ),
            (
                "larger than files can be",
                manifest(&[file("a", 1 << 63)]),
                false,
            ),
            (
                "of other chunks",
                SnapshotManifest {
                    chunk_bytes: 1,
                    ..plain.clone()
                },
                false,
            ),
            (
                "without hashes",
                SnapshotManifest {
                    chunk_bytes: 0,
                    ..plain.clone()
                },
                false,
            ),
            (
                "without a name",
                SnapshotManifest {
                    snapshot: vec![1],
                    ..plain
                },
                false,
            ),
        ];
        for (case, manifest, good) in cases {
            let checked = Manifest::check(manifest);
            assert_eq!(checked.is_ok(), good, "{case}: {:?}", checked.err());
        }
    }

    #[test]
    fn chunks_cover_a_file_and_no_more() {
        let chunked = Manifest::check(manifest(&[])).expect("a manifest");
        let whole = Manifest {
            chunked: false,
            snapshot: Vec::new(),
            files: Vec::new(),
        };
        let chunk = CHUNK_BYTES as u64;
        for bytes in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk, 5 * chunk + 7] {
            let file = file("a", bytes);
            for manifest in [&chunked, &whole] {
                let count = manifest.chunks(&file);
                let all: u64 = (0..count)
                    .map(|chunk| manifest.chunk_length(&file, chunk))
                    .sum();
                assert_eq!(all, bytes);
                assert_eq!(manifest.chunk_length(&file, count), 0);
            }
            assert!(whole.chunks(&file) <= 1);
        }
    }
}
