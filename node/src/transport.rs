//! Messages between replicas: gRPC links over mutual TLS, one per direction and pair.
//!
//! ```text
//! driver -> Transport::send -> Peer queue -> Link stream ══▶ LinkService -> driver's inputs
//! ```
//! The transport may lose messages and says so only by [`Input::Unreachable`]: the replica machine
//! copes with loss, repetition and delay, so nothing is retried or ordered here beyond what a
//! connection gives.

mod link;
mod peer;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::replica::{Input, Message};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

pub use self::link::LinkService;
use self::peer::Peer;
use crate::tls::{Connector, Tls};

/// Largest message taken: a frame is at most 256 KiB, unless it is a single entry, whose payload is
/// bounded by the API's body limit (16 MiB by default, at most four times that).
const MESSAGE_BYTES: usize = 72 << 20;

/// How other replicas are reached.
#[derive(Clone)]
pub struct Network {
    /// Makes the connections.
    pub connector: Connector,
    /// Makes those on which whole stores are copied.
    pub bulk_connector: Connector,
    /// Who copies.
    pub bulk: Handle,
    /// Where a pod's links are taken: its `https` address.
    pub address: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

impl Network {
    /// With certificates of `tls`; `bulk` copies.
    pub fn new(
        tls: &Tls,
        bulk: Handle,
        address: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        Self {
            connector: Connector::new(tls),
            bulk_connector: Connector::bulk(tls),
            bulk,
            address: Arc::new(address),
        }
    }
}

/// Sends messages; owned by the driver.
pub struct Transport {
    network: Network,
    me: ReplicaId,
    inputs: mpsc::Sender<Input>,
    peers: HashMap<(ReplicaId, String), Peer>,
}

impl Transport {
    /// A transport for replica `me`; what it notices goes to `inputs`.
    pub fn new(network: Network, me: ReplicaId, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            network,
            me,
            inputs,
            peers: HashMap::new(),
        }
    }

    /// Send, or drop the message if the link's queue is full or down.
    pub fn send(&mut self, to: ReplicaId, pod: &str, incarnation: Incarnation, message: &Message) {
        let envelope = wire::envelope(self.me, to, incarnation, message);
        let peer = self.peers.entry((to, pod.to_owned())).or_insert_with(|| {
            Peer::start(
                to,
                (self.network.address)(pod),
                self.network.connector.clone(),
                self.inputs.clone(),
            )
        });
        peer.send(envelope);
    }

    /// Close links to replicas that nobody mentions any more.
    pub fn retain(&mut self, known: impl Fn(ReplicaId) -> bool) {
        self.peers.retain(|(replica, _), _| known(*replica));
    }
}
