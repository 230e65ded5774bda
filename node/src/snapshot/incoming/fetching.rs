//! Fetching what is missing: ranges of files, by several connections at once.
//!
//! ```text
//! ranges ─▶ worker ─▶ chunks ─verified─▶ written ─▶ the last of a file: synced
//!   ▲                    └─damaged─▶ that chunk alone, a few times
//!   └─────────────────────────────────────┘
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_api::proto::replication::v1::{ReadSnapshotRequest, SnapshotChunk};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::manifest::Manifest;
use super::{FetchError, PARALLEL, Source};
use crate::snapshot::hash_of;
use crate::snapshot::progress::Progress;
use crate::transport::Network;

/// Chunks of one request: so many that asking costs nothing beside them, so few that all connections
/// share a large file and end together.
const RANGE_CHUNKS: usize = 16;

/// A chunk comes within this, or the copy is begun anew where it ended.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a chunk is asked for that arrives damaged: more than once is not chance.
const ATTEMPTS: usize = 3;

/// Consecutive chunks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    file: usize,
    first: usize,
    count: usize,
    attempt: usize,
}

/// The work, and what all workers share.
pub(super) struct Fetching {
    manifest: Manifest,
    directory: PathBuf,
    ranges: Mutex<VecDeque<Range>>,
    /// Chunks still missing of each file.
    missing: Vec<AtomicUsize>,
    progress: Arc<Progress>,
}

impl Fetching {
    /// `missing` has the missing chunks of each file of `manifest`, in order.
    pub(super) fn new(
        manifest: Manifest,
        directory: &Path,
        missing: &[Vec<usize>],
        progress: Arc<Progress>,
    ) -> Arc<Self> {
        let ranges = missing
            .iter()
            .enumerate()
            .flat_map(|(file, chunks)| ranges_of(file, chunks));
        Arc::new(Self {
            ranges: Mutex::new(ranges.collect()),
            missing: missing
                .iter()
                .map(|chunks| AtomicUsize::new(chunks.len()))
                .collect(),
            manifest,
            directory: directory.to_owned(),
            progress,
        })
    }

    /// Fetch all of it. Ends all work when it is dropped.
    pub(super) async fn run(
        self: &Arc<Self>,
        source: &Source,
        network: &Network,
    ) -> Result<(), FetchError> {
        let mut workers = JoinSet::new();
        let ranges = self.ranges().len();
        for _ in 0..ranges.min(PARALLEL) {
            let (fetching, source, network) = (Arc::clone(self), source.clone(), network.clone());
            workers.spawn(async move {
                let mut client = super::connect(&source, &network).await?;
                while let Some(range) = fetching.next() {
                    fetching.fetch(&mut client, range).await?;
                }
                Ok::<_, FetchError>(())
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }

    fn next(&self) -> Option<Range> {
        self.ranges().pop_front()
    }

    async fn fetch(
        self: &Arc<Self>,
        client: &mut ReplicationClient<Channel>,
        range: Range,
    ) -> Result<(), FetchError> {
        let file = &self.manifest.files[range.file];
        let damaged = || FetchError::Damaged {
            name: file.name.clone(),
        };
        let size = self.manifest.chunk_bytes(file);
        let begin = size * range.first as u64;
        let chunks = range.first..range.first + range.count;
        let length: u64 = chunks
            .map(|chunk| self.manifest.chunk_length(file, chunk))
            .sum();
        let request = ReadSnapshotRequest {
            snapshot: self.manifest.snapshot.clone(),
            name: file.name.clone(),
            offset: begin,
            length,
            copied: self.progress.present(),
        };
        let mut received = client.read_snapshot(request).await?.into_inner();
        let mut offset = begin;
        while let Some(chunk) = tokio::time::timeout(CHUNK_TIMEOUT, received.message())
            .await
            .map_err(|_| FetchError::Silent)??
        {
            let bytes = chunk.content.len() as u64;
            let due = size - (offset - begin) % size;
            // A leader sends the chunks asked for, whole and in order.
            let whole = due.min(begin + length - offset);
            if bytes == 0 || bytes > whole || (self.manifest.chunked && bytes != whole) {
                return Err(damaged());
            }
            self.take(range, offset, chunk).await?;
            offset += bytes;
        }
        if offset != begin + length {
            return Err(damaged());
        }
        if !self.manifest.chunked {
            self.finish_whole(range).await?;
        }
        Ok(())
    }

    /// One chunk has arrived.
    async fn take(
        self: &Arc<Self>,
        range: Range,
        offset: u64,
        chunk: SnapshotChunk,
    ) -> Result<(), FetchError> {
        let (bytes, fetching) = (chunk.content.len() as u64, Arc::clone(self));
        let put = tokio::task::spawn_blocking(move || fetching.put(range, offset, &chunk));
        if put.await.map_err(io::Error::other)?? {
            self.progress.add(bytes);
            return Ok(());
        }
        let file = &self.manifest.files[range.file];
        tracing::warn!(file = %file.name, offset, "a chunk of a snapshot arrived damaged");
        if range.attempt >= ATTEMPTS {
            return Err(FetchError::Damaged {
                name: file.name.clone(),
            });
        }
        let chunk = offset / self.manifest.chunk_bytes(file).max(1);
        self.ranges().push_back(Range {
            first: usize::try_from(chunk).unwrap_or(usize::MAX),
            count: 1,
            attempt: range.attempt + 1,
            ..range
        });
        Ok(())
    }

    /// Write a chunk if it is what its hash says. The last one makes the file durable. Blocks.
    fn put(&self, range: Range, offset: u64, chunk: &SnapshotChunk) -> io::Result<bool> {
        let content: &Bytes = &chunk.content;
        let chunked = self.manifest.chunked;
        if chunked && blake3::hash(content).as_bytes().as_slice() != chunk.hash.as_slice() {
            return Ok(false);
        }
        let path = self.path(range);
        let file = File::options().write(true).open(path)?;
        file.write_all_at(content, offset)?;
        if chunked && self.missing[range.file].fetch_sub(1, Ordering::AcqRel) == 1 {
            file.sync_all()?;
        }
        Ok(true)
    }

    /// A file without hashes of its chunks is there: verify it as a whole.
    async fn finish_whole(self: &Arc<Self>, range: Range) -> Result<(), FetchError> {
        let fetching = Arc::clone(self);
        let verify = move || {
            let path = fetching.path(range);
            File::open(&path)?.sync_all()?;
            let equal = hash_of(&path)?.as_slice() == fetching.manifest.files[range.file].hash;
            if !equal {
                std::fs::remove_file(&path)?;
            }
            Ok::<_, io::Error>(equal)
        };
        let equal = tokio::task::spawn_blocking(verify).await;
        if equal.map_err(io::Error::other)?? {
            return Ok(());
        }
        Err(FetchError::Damaged {
            name: self.manifest.files[range.file].name.clone(),
        })
    }

    fn path(&self, range: Range) -> PathBuf {
        self.directory.join(&self.manifest.files[range.file].name)
    }

    fn ranges(&self) -> MutexGuard<'_, VecDeque<Range>> {
        // Whole after every statement: a panic elsewhere leaves nothing half done.
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The missing chunks of a file as ranges.
fn ranges_of(file: usize, chunks: &[usize]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for chunk in chunks {
        match ranges.last_mut() {
            Some(range) if range.first + range.count == *chunk && range.count < RANGE_CHUNKS => {
                range.count += 1;
            }
            _ => ranges.push(Range {
                file,
                first: *chunk,
                count: 1,
                attempt: 1,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_chunks_become_ranges_that_several_can_share() {
        for (chunks, expected) in [
            (vec![], vec![]),
            (vec![3], vec![(3, 1)]),
            (vec![0, 1, 2, 7, 8], vec![(0, 3), (7, 2)]),
            ((0..40).collect(), vec![(0, 16), (16, 16), (32, 8)]),
        ] {
            let ranges = ranges_of(0, &chunks);
            let found: Vec<_> = ranges
                .iter()
                .map(|range| (range.first, range.count))
                .collect();
            assert_eq!(found, expected, "{chunks:?}");
        }
    }
}
