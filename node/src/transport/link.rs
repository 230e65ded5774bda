//! The receiving end of links: checks whom a message is for, then hands it to the driver.

use percolate_api::proto::replication::v1::replication_server::{Replication, ReplicationServer};
use percolate_api::proto::replication::v1::{Envelope, LinkEnd};
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::replica::Input;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::{MESSAGE_BYTES, wire};
use crate::tenant;

/// The service behind [`Replication`].
pub struct LinkService {
    me: ReplicaId,
    inputs: mpsc::Sender<Input>,
    status: watch::Receiver<tenant::Status>,
}

impl LinkService {
    /// The routes of the replicas' port.
    pub fn router(
        me: ReplicaId,
        inputs: mpsc::Sender<Input>,
        status: watch::Receiver<tenant::Status>,
    ) -> axum::Router {
        let service = ReplicationServer::new(Self { me, inputs, status })
            .max_decoding_message_size(MESSAGE_BYTES);
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
}
