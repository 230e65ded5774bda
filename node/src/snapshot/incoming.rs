//! Copying a snapshot from the leader.
//!
//! ```text
//! manifest ─check─▶ files ─present─▶ chunks that are missing ─▶ ranges ─▶ several connections at once
//!                                                               ▲             │ verified, written
//!                                                               └── damaged ──┴─▶ whole files synced
//! ```
//! Nothing is remembered between attempts but the files themselves: what is on the disk counts if it
//! has the leader's hash. So it does not matter which side was killed, when, or what a disk lost.

mod fetching;
mod manifest;
mod present;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_api::proto::replication::v1::{
    CloseSnapshotRequest, OpenSnapshotRequest, SnapshotManifest,
};
use percolate_core::identity::{Incarnation, ReplicaId};
use tokio::fs;
use tonic::transport::{Channel, Endpoint};

use self::fetching::Fetching;
use self::manifest::Manifest;
use self::present::OwnFiles;
use super::progress::Progress;
use crate::transport::Network;

/// Connections on which ranges are fetched at once: enough to keep the network busy while files are
/// synced.
const PARALLEL: usize = 4;

/// Where the name of the snapshot stands that the files belong to, beside their directory.
const NAME: &str = "name";

/// How often a long copy says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A leader makes a checkpoint before it answers; one of an older version also hashes it, a second
/// per gigabyte, roughly. So does every leader for files of which something is here.
const OPEN_TIMEOUT: Duration = Duration::from_mins(10);

/// Largest manifest, and largest list of a file's hashes: those of a file of two terabytes.
const MANIFEST_BYTES: usize = 64 << 20;

/// Bytes the leader may send ahead, for each range and for each connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Whose snapshot is copied, and of what.
#[derive(Debug, Clone)]
pub struct Source {
    /// The leader.
    pub replica: ReplicaId,
    /// Where it lives.
    pub pod: String,
    /// The history wanted.
    pub incarnation: Incarnation,
    /// Who wants it.
    pub reader: ReplicaId,
}

/// Where a snapshot is copied to.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its files, and nothing else in the end.
    pub files: PathBuf,
    /// This replica's own store: what is equal there is linked. It is only read.
    pub store: PathBuf,
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
    Write(#[source] io::Error),
    /// There is no room on this disk for the copy beside the store that is there.
    #[error("the volume is too small for the snapshot beside the store that is there")]
    Full(#[source] io::Error),
    /// The bytes are not those that were announced, however often they are asked for.
    #[error("{name} arrives damaged")]
    Damaged {
        /// The file.
        name: String,
    },
    /// Nothing came for long.
    #[error("the leader fell silent")]
    Silent,
    /// The manifest is not one that a leader makes.
    #[error("the manifest is not a leader's: {reason}")]
    Manifest {
        /// What is wrong with it.
        reason: String,
    },
}

impl From<tonic::Status> for FetchError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Write(error),
        }
    }
}

/// Copies a snapshot of `source` to `place`, which then holds exactly its files, verified and
/// synced. Goes on with what an earlier attempt left there.
pub async fn fetch(
    source: &Source,
    network: &Network,
    place: Place,
    progress: Arc<Progress>,
) -> Result<(), FetchError> {
    let mut client = connect(source, network).await?;
    fs::create_dir_all(&place.files).await?;
    let manifest = open(source, &mut client, &place).await?;
    manifest::keep_only(&place.files, &manifest.files).await?;
    let bytes = manifest.bytes();
    let began = Instant::now();
    progress.announce(bytes);
    tracing::info!(from = %source.pod, files = manifest.files.len(), bytes, "copying a snapshot");
    let missing = missing(&manifest, client.clone(), &place, &progress).await?;
    let found = progress.present();
    progress.fetching(Instant::now());
    let snapshot = manifest.snapshot.clone();
    let fetching = Fetching::new(manifest, &place.files, &missing, Arc::clone(&progress));
    tokio::select! {
        done = fetching.run(source, network) => done?,
        () = report(&progress, bytes) => {}
    }
    tracing::info!(bytes, found, took = ?began.elapsed(), "a snapshot is copied");
    let closed = client
        .close_snapshot(CloseSnapshotRequest { snapshot })
        .await;
    if let Err(error) = closed {
        tracing::debug!(%error, "the leader keeps the snapshot until it is unread for long");
    }
    Ok(())
}

async fn connect(
    source: &Source,
    network: &Network,
) -> Result<ReplicationClient<Channel>, FetchError> {
    let channel = Endpoint::from_shared((network.address)(&source.pod))?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector(network.bulk_connector.clone())
        .await?;
    Ok(ReplicationClient::new(channel).max_decoding_message_size(MANIFEST_BYTES))
}

/// The manifest of the snapshot that was begun before, if the leader still has it, or of a new one.
async fn open(
    source: &Source,
    client: &mut ReplicationClient<Channel>,
    place: &Place,
) -> Result<Manifest, FetchError> {
    let name_file = place.files.with_file_name(NAME);
    let request = OpenSnapshotRequest {
        to: source.replica.0.to_be_bytes().to_vec(),
        incarnation: source.incarnation.0.to_be_bytes().to_vec(),
        resumed: fs::read(&name_file).await.unwrap_or_default(),
        from: source.reader.0.to_be_bytes().to_vec(),
        chunked: true,
    };
    let opened: SnapshotManifest =
        tokio::time::timeout(OPEN_TIMEOUT, client.open_snapshot(request))
            .await
            .map_err(|_| FetchError::Silent)??
            .into_inner();
    let manifest = Manifest::check(opened).map_err(|reason| FetchError::Manifest { reason })?;
    fs::write(&name_file, &manifest.snapshot).await?;
    Ok(manifest)
}

/// For each file, which of its chunks are not here yet.
async fn missing(
    manifest: &Manifest,
    client: ReplicationClient<Channel>,
    place: &Place,
    progress: &Progress,
) -> Result<Vec<Vec<usize>>, FetchError> {
    let own = OwnFiles::of(place.store.clone()).await;
    let look = |index: usize| {
        let (client, own) = (client.clone(), &own);
        async move {
            let file = &manifest.files[index];
            let missing = present::missing(manifest, file, client, place, own).await?;
            let lacks: u64 = missing
                .iter()
                .map(|chunk| manifest.chunk_length(file, *chunk))
                .sum();
            progress.add(file.bytes - lacks);
            Ok::<_, FetchError>(missing)
        }
    };
    stream::iter((0..manifest.files.len()).map(look))
        .buffered(PARALLEL)
        .try_collect()
        .await
}

/// Says how far the copy is, for ever.
async fn report(progress: &Progress, bytes: u64) {
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let copied = progress.present();
        tracing::info!(copied, bytes, "copying a snapshot");
    }
}
