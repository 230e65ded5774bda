//! What other replicas call here: messages, checked for whom they are and handed to the driver, and
//! snapshots.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use percolate_api::proto::replication::v1::replication_server::{Replication, ReplicationServer};
use percolate_api::proto::replication::v1::{
    CloseSnapshotReply, CloseSnapshotRequest, Envelope, LinkEnd, OpenSnapshotRequest,
    ReadSnapshotRequest, SnapshotChunk, SnapshotFile, SnapshotManifest,
};
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::replica::Input;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{MESSAGE_BYTES, wire};
use crate::snapshot::Name;
use crate::snapshot::outgoing::{Outgoing, SnapshotError};
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
        let resumed = name(&request.resumed).ok();
        let fresh = uuid::Uuid::new_v4().into_bytes();
        let outgoing = Arc::clone(&self.outgoing);
        let opened = tokio::task::spawn_blocking(move || outgoing.open(resumed, fresh)).await;
        let (snapshot, files) = opened
            .map_err(|_| Status::internal("making a snapshot failed"))?
            .map_err(|error| refused(&error))?;
        let files = files.iter().map(|file| SnapshotFile {
            name: file.name.clone(),
            bytes: file.bytes,
            hash: file.hash.to_vec(),
        });
        Ok(Response::new(SnapshotManifest {
            snapshot: snapshot.to_vec(),
            files: files.collect(),
        }))
    }

    type ReadSnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotChunk, Status>> + Send>>;

    async fn read_snapshot(
        &self,
        request: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let request = request.into_inner();
        let snapshot = name(&request.snapshot)?;
        let outgoing = Arc::clone(&self.outgoing);
        let (sender, chunks) = mpsc::channel(READ_AHEAD);
        // A thread of its own for each file: it waits for the disk, for its pace and for the reader.
        tokio::task::spawn_blocking(move || {
            let content = |content| sender.blocking_send(Ok(SnapshotChunk { content })).is_ok();
            if let Err(error) = outgoing.read(snapshot, &request.name, request.offset, content) {
                // Nobody listens only when the call is over anyway.
                let _ = sender.blocking_send(Err(refused(&error)));
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks).boxed()))
    }

    async fn close_snapshot(
        &self,
        request: Request<CloseSnapshotRequest>,
    ) -> Result<Response<CloseSnapshotReply>, Status> {
        let snapshot = name(&request.into_inner().snapshot)?;
        let outgoing = Arc::clone(&self.outgoing);
        let closed = tokio::task::spawn_blocking(move || outgoing.close(snapshot)).await;
        closed.map_err(|_| Status::internal("closing a snapshot failed"))?;
        Ok(Response::new(CloseSnapshotReply {}))
    }
}

fn name(bytes: &[u8]) -> Result<Name, Status> {
    bytes
        .try_into()
        .map_err(|_| Status::invalid_argument("a name has 16 bytes"))
}

fn refused(error: &SnapshotError) -> Status {
    match error {
        SnapshotError::TooMany => Status::resource_exhausted(error.to_string()),
        SnapshotError::Unknown => Status::not_found(error.to_string()),
        SnapshotError::Store(_) | SnapshotError::Read(_) => {
            tracing::warn!(%error, cause = error.source().map(ToString::to_string), "no snapshot for another replica");
            Status::internal(error.to_string())
        }
    }
}
