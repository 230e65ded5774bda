//! What other replicas call here: messages, checked for whom they are and handed to the driver, and
//! snapshots.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use percolate_api::proto::replication::v1::replication_server::{Replication, ReplicationServer};
use percolate_api::proto::replication::v1::{
    CloseSnapshotReply, CloseSnapshotRequest, Envelope, HashSnapshotFileRequest, LinkEnd,
    OpenSnapshotRequest, ReadSnapshotRequest, SnapshotChunk, SnapshotFile, SnapshotFileHashes,
    SnapshotManifest,
};
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::replica::Input;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::{MESSAGE_BYTES, wire};
use crate::snapshot::outgoing::{Outgoing, Range, SnapshotError, Wanted};
use crate::snapshot::{CHUNK_BYTES, Name};
use crate::tenant;

/// Chunks of a snapshot read ahead of the network.
const READ_AHEAD: usize = 2;

/// The service behind [`Replication`].
pub struct LinkService {
    me: ReplicaId,
    inputs: mpsc::Sender<Input>,
    status: watch::Receiver<tenant::Status>,
    outgoing: Arc<Outgoing>,
}

impl LinkService {
    /// The routes of the replicas' port.
    pub fn router(
        me: ReplicaId,
        inputs: mpsc::Sender<Input>,
        status: watch::Receiver<tenant::Status>,
        outgoing: Arc<Outgoing>,
    ) -> axum::Router {
        let service = Self {
            me,
            inputs,
            status,
            outgoing,
        };
        let service = ReplicationServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
        tonic::service::Routes::new(service)
            .prepare()
            .into_axum_router()
    }

    /// Work on snapshots that waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outgoing) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, Status> {
        let outgoing = Arc::clone(&self.outgoing);
        tokio::task::spawn_blocking(move || work(&outgoing))
            .await
            .map_err(|_| Status::internal("work on a snapshot failed"))?
            .map_err(|error| refused(&error))
    }

    /// A message for another disk in this pod, or of another history, is dropped (R7). A disk
    /// without a history takes the one the register tells it first.
    fn is_mine(&self, to: ReplicaId, incarnation: Incarnation) -> bool {
        let known = self.status.borrow().incarnation;
        to == self.me && known.is_none_or(|known| known == incarnation)
    }
}

#[tonic::async_trait]
impl Replication for LinkService {
    async fn link(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<LinkEnd>, Status> {
        let mut envelopes = request.into_inner();
        while let Some(envelope) = envelopes.message().await? {
            let received = wire::received(envelope).map_err(|error| {
                Status::invalid_argument(format!("a message is not readable: {error}"))
            })?;
            if !self.is_mine(received.to, received.incarnation) {
                continue;
            }
            let input = Input::Received {
                from: received.from,
                message: received.message,
            };
            // Waiting here slows the sender down by HTTP/2 flow control.
            if self.inputs.send(input).await.is_err() {
                return Err(Status::unavailable("this replica is stopping"));
            }
        }
        Ok(Response::new(LinkEnd {}))
    }

    async fn open_snapshot(
        &self,
        request: Request<OpenSnapshotRequest>,
    ) -> Result<Response<SnapshotManifest>, Status> {
        let request = request.into_inner();
        let to = ReplicaId(u128::from_be_bytes(name(&request.to)?));
        let incarnation = Incarnation(u128::from_be_bytes(name(&request.incarnation)?));
        if !self.is_mine(to, incarnation) {
            return Err(Status::failed_precondition("this is another replica"));
        }
        let reader = name(&request.from).ok();
        let wanted = Wanted {
            reader: reader.map(|bytes| ReplicaId(u128::from_be_bytes(bytes))),
            resumed: name(&request.resumed).ok(),
            fresh: uuid::Uuid::new_v4().into_bytes(),
        };
        let manifest = self
            .blocking(move |outgoing| manifest(outgoing, wanted, request.chunked))
            .await?;
        Ok(Response::new(manifest))
    }

    async fn hash_snapshot_file(
        &self,
        request: Request<HashSnapshotFileRequest>,
    ) -> Result<Response<SnapshotFileHashes>, Status> {
        let request = request.into_inner();
        let snapshot = name(&request.snapshot)?;
        let hashes = self
            .blocking(move |outgoing| outgoing.hashes(snapshot, &request.name))
            .await?;
        Ok(Response::new(SnapshotFileHashes {
            chunks: hashes.concat(),
        }))
    }

    type ReadSnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotChunk, Status>> + Send>>;

    async fn read_snapshot(
        &self,
        request: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let request = request.into_inner();
        let snapshot = name(&request.snapshot)?;
        let part = (request.offset, request.length);
        let begin = move |outgoing: &Outgoing| {
            outgoing.begin(snapshot, &request.name, part, request.copied)
        };
        let range = self.blocking(begin).await?;
        // Read as the reader takes it: one that stalls holds these chunks and no thread.
        let (outgoing, offsets) = (Arc::clone(&self.outgoing), range.chunks());
        let range = Arc::new(range);
        let read = move |offset| chunk(Arc::clone(&outgoing), Arc::clone(&range), offset);
        Ok(Response::new(
            stream::iter(offsets).map(read).buffered(READ_AHEAD).boxed(),
        ))
    }

    async fn close_snapshot(
        &self,
        request: Request<CloseSnapshotRequest>,
    ) -> Result<Response<CloseSnapshotReply>, Status> {
        let snapshot = name(&request.into_inner().snapshot)?;
        self.blocking(move |outgoing| {
            outgoing.close(snapshot);
            Ok(())
        })
        .await?;
        Ok(Response::new(CloseSnapshotReply {}))
    }
}

/// The snapshot that is wanted. Who does not verify chunks is told the hashes of files beforehand.
fn manifest(
    outgoing: &Outgoing,
    wanted: Wanted,
    chunked: bool,
) -> Result<SnapshotManifest, SnapshotError> {
    let (snapshot, files) = outgoing.open(wanted)?;
    let files = files.iter().map(|file| {
        let hash = if chunked {
            Vec::new()
        } else {
            outgoing.whole_hash(snapshot, &file.name)?.to_vec()
        };
        Ok(SnapshotFile {
            name: file.name.clone(),
            bytes: file.bytes,
            hash,
        })
    });
    Ok(SnapshotManifest {
        snapshot: snapshot.to_vec(),
        files: files.collect::<Result<_, SnapshotError>>()?,
        chunk_bytes: CHUNK_BYTES as u64,
    })
}

async fn chunk(
    outgoing: Arc<Outgoing>,
    range: Arc<Range>,
    offset: u64,
) -> Result<SnapshotChunk, Status> {
    // A timer takes a millisecond even for nothing.
    let pause = outgoing.pause(&range, offset);
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let read = tokio::task::spawn_blocking(move || outgoing.chunk(&range, offset)).await;
    let (content, hash) = read
        .map_err(|_| Status::internal("reading a snapshot failed"))?
        .map_err(|error| refused(&error))?;
    Ok(SnapshotChunk {
        content,
        hash: hash.to_vec(),
    })
}

fn name(bytes: &[u8]) -> Result<Name, Status> {
    bytes
        .try_into()
        .map_err(|_| Status::invalid_argument("a name has 16 bytes"))
}

fn refused(error: &SnapshotError) -> Status {
    match error {
        SnapshotError::TooMany | SnapshotError::TooManyRanges => {
            Status::resource_exhausted(error.to_string())
        }
        SnapshotError::Unknown => Status::not_found(error.to_string()),
        SnapshotError::Range => Status::out_of_range(error.to_string()),
        SnapshotError::Store(_) | SnapshotError::Read(_) => {
            tracing::warn!(%error, cause = error.source().map(ToString::to_string), "no snapshot for another replica");
            Status::internal(error.to_string())
        }
    }
}
