//! The sending end of one link: a queue and the task that keeps a connection under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use percolate_api::proto::replication::v1::Envelope;
use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_core::identity::ReplicaId;
use percolate_core::replica::Input;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
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
    queue: mpsc::Sender<Queued>,
    /// Bytes of what is in the queue, or with the call that sends it.
    bytes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// A message, counted until it is handed to the connection.
struct Queued {
    envelope: Envelope,
    bytes: usize,
    all: Arc<AtomicUsize>,
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
        let (queue, messages) = mpsc::channel(QUEUE);
        let task = tokio::spawn(keep_linked(replica, address, connector, messages, inputs));
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
        let _ = self.queue.try_send(Queued {
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

async fn keep_linked(
    replica: ReplicaId,
    address: String,
    connector: Connector,
    mut messages: mpsc::Receiver<Queued>,
    inputs: mpsc::Sender<Input>,
) {
    let mut pause = RECONNECT_AFTER;
    loop {
        match link(&address, &connector, &mut messages).await {
            Ok(()) => pause = RECONNECT_AFTER,
            Err(error) => tracing::debug!(%replica, %address, %error, "cannot link to a replica"),
        }
        if inputs.send(Input::Unreachable(replica)).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_AFTER_MOST);
        // What waited is stale: the replica repeats what still matters.
        while messages.try_recv().is_ok() {}
    }
}

/// Connect and pass messages on until the link breaks.
async fn link(
    address: &str,
    connector: &Connector,
    messages: &mut mpsc::Receiver<Queued>,
) -> Result<(), tonic::transport::Error> {
    let channel = Endpoint::from_shared(address.to_owned())?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_with_connector(connector.clone())
        .await?;
    let mut client = ReplicationClient::new(channel).max_encoding_message_size(MESSAGE_BYTES);
    // The stream of a call must own its source: messages are handed over one by one, so that what
    // waits in the queue is not lost with the call.
    let (into_call, call) = mpsc::channel(1);
    let mut ended = Box::pin(async move { client.link(ReceiverStream::new(call)).await });
    loop {
        tokio::select! {
            end = &mut ended => {
                tracing::debug!(%address, end = ?end.err(), "a link ended");
                return Ok(());
            }
            message = messages.recv() => {
                let Some(mut message) = message else { return Ok(()) };
                let envelope = std::mem::take(&mut message.envelope);
                tokio::select! {
                    end = &mut ended => {
                        tracing::debug!(%address, end = ?end.err(), "a link ended");
                        return Ok(());
                    }
                    sent = into_call.send(envelope) => if sent.is_err() { return Ok(()) },
                }
            }
        }
    }
}
