//! What of a snapshot is here already: left by an earlier attempt, or equal in this replica's own store.
//!
//! Only the leader's hashes tell, and it is asked for them only where there is something to compare:
//! an empty disk costs it nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_api::proto::replication::v1::{HashSnapshotFileRequest, SnapshotFile};
use tonic::transport::Channel;

use super::manifest::Manifest;
use super::{FetchError, OPEN_TIMEOUT, Place};
use crate::snapshot::{CHUNK_BYTES, hash_of, hashes_of};

/// Files of the engine that are written once and never changed: others must not be linked.
const IMMUTABLE: &str = "sst";

/// Files of its own that are compared with one of the leader's: usually the one of the same name is
/// equal or none is.
const COMPARED: usize = 2;

/// The files of this replica's own store that could be linked, by size.
#[derive(Debug, Default)]
pub(super) struct OwnFiles(BTreeMap<u64, Vec<PathBuf>>);

impl OwnFiles {
    /// Those in `store`; none if it cannot be read.
    pub(super) async fn of(store: PathBuf) -> Self {
        tokio::task::spawn_blocking(move || Self::list(&store).unwrap_or_default())
            .await
            .unwrap_or_default()
    }

    fn list(store: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::<u64, Vec<PathBuf>>::new();
        for found in fs::read_dir(store)? {
            let found = found?;
            let path = found.path();
            if path.extension().is_some_and(|kind| kind == IMMUTABLE) {
                let bytes = found.metadata()?.len();
                files.entry(bytes).or_default().push(path);
            }
        }
        Ok(Self(files))
    }

    /// Those that may be equal to `file`, the one of the same name first.
    fn like(&self, file: &SnapshotFile) -> Vec<PathBuf> {
        let kind = Path::new(&file.name).extension();
        if kind.is_none_or(|kind| kind != IMMUTABLE) || file.bytes == 0 {
            return Vec::new();
        }
        let mut like = self.0.get(&file.bytes).cloned().unwrap_or_default();
        like.sort_by_key(|path| !path.ends_with(&file.name));
        like.truncate(COMPARED);
        like
    }
}

/// What the leader's file is compared by.
enum Expected {
    Chunks(Vec<u8>),
    Whole(Vec<u8>),
}

impl Expected {
    /// The chunks of the file at `path` that differ. Blocks.
    fn missing(&self, path: &Path, chunks: usize) -> io::Result<Vec<usize>> {
        match self {
            Self::Chunks(expected) => {
                let found = hashes_of(path, CHUNK_BYTES)?;
                let expected = expected.chunks(blake3::OUT_LEN);
                let differ = expected.enumerate().filter(|(chunk, hash)| {
                    found
                        .get(*chunk)
                        .is_none_or(|found| found.as_slice() != *hash)
                });
                Ok(differ.map(|(chunk, _)| chunk).collect())
            }
            Self::Whole(expected) if hash_of(path)?.as_slice() == expected => Ok(Vec::new()),
            Self::Whole(_) => Ok((0..chunks).collect()),
        }
    }
}

/// The chunks of `file` that are not here. Afterwards the file is there, if only with what is.
pub(super) async fn missing(
    manifest: &Manifest,
    file: &SnapshotFile,
    client: ReplicationClient<Channel>,
    place: &Place,
    own: &OwnFiles,
) -> Result<Vec<usize>, FetchError> {
    let path = place.files.join(&file.name);
    let chunks = manifest.chunks(file);
    let like = own.like(file);
    let begun = tokio::fs::metadata(&path)
        .await
        .is_ok_and(|found| found.len() > 0);
    let expected = if begun || !like.is_empty() {
        Some(expected(manifest, file, client).await?)
    } else {
        None
    };
    let look = move || match expected {
        Some(expected) => compare(&expected, &path, &like, chunks),
        None => begin(&path, chunks),
    };
    let looked = tokio::task::spawn_blocking(look).await;
    Ok(looked.map_err(io::Error::other)??)
}

async fn expected(
    manifest: &Manifest,
    file: &SnapshotFile,
    mut client: ReplicationClient<Channel>,
) -> Result<Expected, FetchError> {
    if !manifest.chunked {
        return Ok(Expected::Whole(file.hash.clone()));
    }
    let request = HashSnapshotFileRequest {
        snapshot: manifest.snapshot.clone(),
        name: file.name.clone(),
    };
    let hashes = tokio::time::timeout(OPEN_TIMEOUT, client.hash_snapshot_file(request))
        .await
        .map_err(|_| FetchError::Silent)??
        .into_inner();
    if hashes.chunks.len() != manifest.chunks(file) * blake3::OUT_LEN {
        let reason = format!(
            "{} bytes of hashes for {:?}",
            hashes.chunks.len(),
            file.name
        );
        return Err(FetchError::Manifest { reason });
    }
    Ok(Expected::Chunks(hashes.chunks))
}

/// Keep what an earlier attempt left, or else link an equal file of this replica's own store.
fn compare(
    expected: &Expected,
    path: &Path,
    like: &[PathBuf],
    chunks: usize,
) -> io::Result<Vec<usize>> {
    if let Ok(found) = fs::metadata(path) {
        let missing = expected.missing(path, chunks)?;
        if missing.is_empty() {
            File::open(path)?.sync_all()?;
            return Ok(missing);
        }
        if missing.len() < chunks && found.nlink() == 1 {
            return Ok(missing);
        }
        // Nothing of it can be used; and what is linked into the store must not be written to.
        fs::remove_file(path)?;
    }
    for own in like {
        // The engine may remove a file at any time, and not every file system has links.
        let equal = expected
            .missing(own, chunks)
            .is_ok_and(|differ| differ.is_empty());
        if equal && fs::hard_link(own, path).is_ok() {
            return Ok(Vec::new());
        }
    }
    begin(path, chunks)
}

fn begin(path: &Path, chunks: usize) -> io::Result<Vec<usize>> {
    let file = File::create(path)?;
    if chunks == 0 {
        file.sync_all()?;
    }
    Ok((0..chunks).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: usize = 3;

    fn content(filler: u8) -> Vec<u8> {
        vec![filler; 2 * CHUNK_BYTES + 9]
    }

    fn expected_of(content: &[u8]) -> Expected {
        let hashes = content.chunks(CHUNK_BYTES).map(blake3::hash);
        Expected::Chunks(hashes.flat_map(|hash| *hash.as_bytes()).collect())
    }

    /// What is missing of a file of `content` when `found` is there of it.
    fn missing_with(found: Option<&[u8]>, own: Option<&[u8]>) -> (Vec<usize>, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory").keep();
        let (path, store) = (directory.join("a.sst"), directory.join("own.sst"));
        if let Some(found) = found {
            fs::write(&path, found).expect("written");
        }
        let like: Vec<PathBuf> = own
            .map(|own| {
                fs::write(&store, own).expect("written");
                store
            })
            .into_iter()
            .collect();
        let missing = compare(&expected_of(&content(7)), &path, &like, CHUNKS);
        (missing.expect("readable"), directory)
    }

    /// What is found, and which chunks are missing then.
    type Case<'a> = (&'a str, Option<&'a [u8]>, &'a [usize]);

    #[test]
    fn only_chunks_with_the_right_hash_are_kept() {
        let whole = content(7);
        let mut flipped = whole.clone();
        flipped[CHUNK_BYTES + 3] ^= 1;
        let mut hole = whole.clone();
        hole[..CHUNK_BYTES].fill(0);
        let cases: [Case; 6] = [
            ("nothing", None, &[0, 1, 2]),
            ("all", Some(&whole), &[]),
            ("a part", Some(&whole[..CHUNK_BYTES + 5]), &[1, 2]),
            ("a hole", Some(&hole), &[0]),
            ("a flipped bit", Some(&flipped), &[1]),
            ("another file", Some(b"something else"), &[0, 1, 2]),
        ];
        for (case, found, expected) in cases {
            let (missing, directory) = missing_with(found, None);
            assert_eq!(missing, expected, "{case}");
            assert!(directory.join("a.sst").exists(), "{case}");
            fs::remove_dir_all(directory).expect("removable");
        }
    }

    #[test]
    fn an_equal_file_of_the_own_store_is_linked_and_another_is_not() {
        let mut other = content(7);
        other[0] ^= 1;
        for (own, linked) in [(content(7), true), (other, false)] {
            let (missing, directory) = missing_with(None, Some(&own));
            assert_eq!(missing.is_empty(), linked);
            let links = fs::metadata(directory.join("own.sst"))
                .expect("there")
                .nlink();
            assert_eq!(links == 2, linked);
            fs::remove_dir_all(directory).expect("removable");
        }
    }

    /// Another snapshot has another file of the same name: writing it into the link would damage the
    /// store that is there.
    #[test]
    fn what_is_linked_into_the_store_is_never_written_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, own) = (
            directory.path().join("a.sst"),
            directory.path().join("own.sst"),
        );
        fs::write(&own, content(7)).expect("written");
        fs::hard_link(&own, &path).expect("linked");
        let mut other = content(7);
        other[0] ^= 1;
        let missing = compare(&expected_of(&other), &path, &[], CHUNKS).expect("readable");
        assert_eq!(missing, [0, 1, 2], "not even what is equal");
        fs::write(&path, b"of the other snapshot").expect("written");
        assert_eq!(fs::read(&own).expect("readable"), content(7));
    }
}
