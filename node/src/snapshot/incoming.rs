//! Copying a snapshot from the leader.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_api::proto::replication::v1::{
    CloseSnapshotRequest, OpenSnapshotRequest, ReadSnapshotRequest, SnapshotFile, SnapshotManifest,
};
use percolate_core::identity::{Incarnation, ReplicaId};
use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tonic::transport::{Channel, Endpoint};

use super::{CHUNK_BYTES, hash_of};
use crate::metrics::Metrics;
use crate::transport::Network;

/// Files copied at once: enough to keep the network busy while one of them is synced.
const PARALLEL: usize = 4;

/// Where the name of the snapshot stands that the files belong to, beside their directory.
const NAME: &str = "name";

/// How often a long copy says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A leader makes a checkpoint and hashes it before it answers: a second per gigabyte, roughly.
const OPEN_TIMEOUT: Duration = Duration::from_mins(10);

/// A chunk comes within this, or the copy is begun anew where it ended.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Whose snapshot is copied, and of what.
#[derive(Debug, Clone)]
pub struct Source {
    /// The leader.
    pub replica: ReplicaId,
    /// Where it lives.
    pub pod: String,
    /// The history wanted.
    pub incarnation: Incarnation,
}

/// Why a copy ended early. What was copied stays and is gone on with.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The leader cannot be reached.
    #[error("the leader cannot be reached")]
    Connect(#[from] tonic::transport::Error),
    /// The leader refused, or the connection broke.
    #[error("the leader gave no snapshot")]
    Refused(#[source] Box<tonic::Status>),
    /// This disk failed.
    #[error("the snapshot cannot be written")]
    Write(#[from] io::Error),
    /// The bytes are not those that were announced; they are thrown away.
    #[error("{name} arrived damaged")]
    Damaged {
        /// The file.
        name: String,
    },
    /// Nothing came for long.
    #[error("the leader fell silent")]
    Silent,
    /// The manifest names something that is not a plain file.
    #[error("the manifest is not a leader's: {name:?}")]
    Manifest {
        /// The file.
        name: String,
    },
}

impl From<tonic::Status> for FetchError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Copies a snapshot of `source` into `directory`, which then holds exactly its files, verified and
/// synced. Goes on with what an earlier attempt left there.
pub async fn fetch(
    source: &Source,
    network: &Network,
    directory: PathBuf,
    metrics: Arc<Metrics>,
) -> Result<(), FetchError> {
    let channel = Endpoint::from_shared((network.address)(&source.pod))?
        .connect_with_connector(network.connector.clone())
        .await?;
    let mut client = ReplicationClient::new(channel).max_decoding_message_size(2 * CHUNK_BYTES);
    fs::create_dir_all(&directory).await?;
    let name_file = directory.with_file_name(NAME);
    let request = OpenSnapshotRequest {
        to: source.replica.0.to_be_bytes().to_vec(),
        incarnation: source.incarnation.0.to_be_bytes().to_vec(),
        resumed: fs::read(&name_file).await.unwrap_or_default(),
    };
    let manifest = tokio::time::timeout(OPEN_TIMEOUT, client.open_snapshot(request))
        .await
        .map_err(|_| FetchError::Silent)??
        .into_inner();
    check(&manifest)?;
    fs::write(&name_file, &manifest.snapshot).await?;
    keep_only(&directory, &manifest.files).await?;
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    tracing::info!(from = %source.pod, files = manifest.files.len(), bytes, "copying a snapshot");
    metrics.snapshot_begins(bytes);
    let began = Instant::now();
    let copies = manifest.files.into_iter().map(|file| {
        let (client, snapshot) = (client.clone(), manifest.snapshot.clone());
        copy(
            client,
            snapshot,
            file,
            directory.clone(),
            Arc::clone(&metrics),
        )
    });
    let copy = stream::iter(copies)
        .buffer_unordered(PARALLEL)
        .try_collect::<()>();
    tokio::select! {
        done = copy => done?,
        () = report(&metrics, bytes) => {}
    }
    tracing::info!(bytes, took = ?began.elapsed(), "a snapshot is copied");
    let snapshot = manifest.snapshot;
    client
        .close_snapshot(CloseSnapshotRequest { snapshot })
        .await?;
    Ok(())
}

/// Names come from another machine: none of them may lead out of the directory.
fn check(manifest: &SnapshotManifest) -> Result<(), FetchError> {
    let plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !name.is_empty() && name != "." && name != ".." && name.bytes().all(allowed)
    };
    match manifest.files.iter().find(|file| !plain(&file.name)) {
        Some(file) => Err(FetchError::Manifest {
            name: file.name.clone(),
        }),
        None => Ok(()),
    }
}

/// Remove what the manifest does not name, and what is longer than it says.
async fn keep_only(directory: &Path, files: &[SnapshotFile]) -> io::Result<()> {
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

/// Copy one file from where it ends here. Equal content of an earlier snapshot is not copied again.
async fn copy(
    mut client: ReplicationClient<Channel>,
    snapshot: Vec<u8>,
    file: SnapshotFile,
    directory: PathBuf,
    metrics: Arc<Metrics>,
) -> Result<(), FetchError> {
    let path = directory.join(&file.name);
    let present = path.clone();
    let mut hasher = tokio::task::spawn_blocking(move || hash_of(&present))
        .await
        .map_err(io::Error::other)??;
    let mut offset = hasher.count();
    metrics.snapshot_copied(offset);
    if offset < file.bytes || offset == 0 {
        let mut target = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .await?;
        let request = ReadSnapshotRequest {
            snapshot,
            name: file.name.clone(),
            offset,
        };
        let mut chunks = client.read_snapshot(request).await?.into_inner();
        while let Some(chunk) = tokio::time::timeout(CHUNK_TIMEOUT, chunks.message())
            .await
            .map_err(|_| FetchError::Silent)??
        {
            target.write_all(&chunk.content).await?;
            hasher.update(&chunk.content);
            offset += chunk.content.len() as u64;
            metrics.snapshot_copied(chunk.content.len() as u64);
        }
        target.flush().await?;
        target.sync_all().await?;
    }
    if offset != file.bytes || hasher.finalize().as_bytes().as_slice() != file.hash.as_slice() {
        fs::remove_file(&path).await?;
        return Err(FetchError::Damaged {
            name: file.name.clone(),
        });
    }
    Ok(())
}

/// Says how far the copy is, for ever.
async fn report(metrics: &Metrics, bytes: u64) {
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let copied = metrics.snapshot_progress();
        tracing::info!(copied, bytes, "copying a snapshot");
    }
}
