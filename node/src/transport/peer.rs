//! The sending end of one link: the task that keeps a connection, and a queue that each connection
//! reads by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use percolate_api::proto::replication::v1::Envelope;
use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_core::identity::ReplicaId;
use percolate_core::replica::Input;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::MESSAGE_BYTES;
use crate::tls::Connector;

/// Messages that wait for the connection. More than a leader sends ahead to a follower that keeps
/// up; one that does not loses messages and is probed anew.
const QUEUE: usize = 1_024;

/// Bytes of them, but for a message that is alone: twice what a leader sends ahead to a follower in
/// its window, and less than what a few replicas that hang may cost.
const QUEUE_BYTES: usize = 16 << 20;

/// Pause before a broken link is made anew, and its limit while that fails.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
const RECONNECT_AFTER_MOST: Duration = Duration::from_secs(1);

/// A vanished peer is noticed after these: well within the takeover timeout.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// One link; dropping it ends the task and the connection.
pub(super) struct Peer {
    queue: Queue,
    /// Bytes of what is in the queue.
    bytes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// The end of the present connection's queue. A new connection has a new one: what waited for the
/// old one is stale, and the replica repeats what still matters.
type Queue = Arc<ArcSwap<mpsc::Sender<Queued>>>;

/// A message, counted until it is handed to the connection.
struct Queued {
    envelope: Envelope,
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Queued {
    fn take(mut self) -> Envelope {
        std::mem::take(&mut self.envelope)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Peer {
    pub(super) fn start(
        replica: ReplicaId,
        address: String,
        connector: Connector,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let (first, messages) = mpsc::channel(QUEUE);
        let queue = Queue::new(ArcSwap::from_pointee(first));
        let kept = Link {
            replica,
            address,
            connector,
            queue: Arc::clone(&queue),
            inputs,
        };
        let task = tokio::spawn(kept.keep(messages));
        Self {
            queue,
            bytes: Arc::default(),
            task,
        }
    }

    /// A full queue means a link that is down or too slow: the message counts as lost.
    pub(super) fn send(&self, envelope: Envelope) {
        let bytes = envelope.encoded_len();
        let before = self.bytes.load(Ordering::Relaxed);
        if before > 0 && before + bytes > QUEUE_BYTES {
            return;
        }
        // Only this end adds to it.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let _ = self.queue.load().try_send(Queued {
            envelope,
            bytes,
            all: Arc::clone(&self.bytes),
        });
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What keeps a connection to one replica.
struct Link {
    replica: ReplicaId,
    address: String,
    connector: Connector,
    queue: Queue,
    inputs: mpsc::Sender<Input>,
}

impl Link {
    async fn keep(self, mut messages: mpsc::Receiver<Queued>) {
        let (replica, address) = (self.replica, &self.address);
        let mut pause = RECONNECT_AFTER;
        loop {
            match self.connect(messages).await {
                Ok(()) => pause = RECONNECT_AFTER,
                Err(error) => {
                    tracing::debug!(%replica, %address, %error, "cannot link to a replica");
                }
            }
            if self.inputs.send(Input::Unreachable(replica)).await.is_err() {
                return;
            }
            // What is sent meanwhile meets the old queue's end, and is lost.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_AFTER_MOST);
            let (sender, next) = mpsc::channel(QUEUE);
            self.queue.store(Arc::new(sender));
            messages = next;
        }
    }

    /// Connect and pass messages on until the link breaks.
    async fn connect(
        &self,
        messages: mpsc::Receiver<Queued>,
    ) -> Result<(), tonic::transport::Error> {
        let channel = Endpoint::from_shared(self.address.clone())?
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_with_connector(self.connector.clone())
            .await?;
        let mut client = ReplicationClient::new(channel).max_encoding_message_size(MESSAGE_BYTES);
        let end = client
            .link(ReceiverStream::new(messages).map(Queued::take))
            .await;
        tracing::debug!(address = %self.address, end = ?end.err(), "a link ended");
        Ok(())
    }
}
