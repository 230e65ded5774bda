//! Bodies of calls, read no faster than the memory set aside for requests allows.
//!
//! ```text
//! data -> its share of the memory, waited for -> tonic -> message ┐
//!                      └─ split at the end of each message ──────▶├─▶ handled, then given back
//! ```
//! Waiting holds up the sender by the flow control of HTTP/2. A message that began and does not end
//! holds its share of the memory, so it has only so long.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use percolate_api::http::{Code, Problem};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::PollSemaphore;
use tonic::Status;

use super::refusal;
use crate::server::Serving;
use crate::server::problem::Failure;

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The memory that one message holds until this is dropped.
#[derive(Debug)]
pub(super) struct Share(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// Shares of messages that have arrived whole, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Arc<Mutex<VecDeque<Share>>>);

/// A body of messages.
pub(super) struct Metered {
    body: Body,
    memory: PollSemaphore,
    /// Waits for its share of the memory.
    arrived: Option<Bytes>,
    /// The share of what belongs to no whole message yet.
    held: Option<OwnedSemaphorePermit>,
    message: Message,
    shares: Shares,
    largest: usize,
    patience: Duration,
    /// Until when the message that has begun has to be whole.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The message that is arriving.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of it that are here, prefix included.
    here: usize,
}

impl Shares {
    /// The share of the message that was read last.
    pub(super) fn take(&self) -> Option<Share> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn put(&self, share: Share) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(share);
    }
}

impl Metered {
    pub(super) fn new(body: Body, serving: &Serving, shares: Shares) -> Self {
        let limits = &serving.app.limits;
        Self {
            body,
            memory: PollSemaphore::new(Arc::clone(&serving.body_memory)),
            arrived: None,
            held: None,
            message: Message::default(),
            shares,
            largest: limits.body_bytes,
            patience: limits.body_timeout,
            deadline: None,
        }
    }

    /// A share for what has arrived.
    fn poll_share(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Status>> {
        // A frame is far smaller than four gigabytes.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Some(share) = ready!(self.memory.poll_acquire_many(context, bytes)) else {
            return Poll::Ready(Err(Status::unavailable("this node is stopping")));
        };
        match &mut self.held {
            Some(held) => held.merge(share),
            None => self.held = Some(share),
        }
        Poll::Ready(Ok(()))
    }

    /// Note where messages end in `data`.
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let message = &mut self.message;
            if message.here < PREFIX_BYTES {
                let taken = data.len().min(PREFIX_BYTES - message.here);
                message.prefix[message.here..][..taken].copy_from_slice(&data[..taken]);
                message.here += taken;
                data = &data[taken..];
            }
            let Some(bytes) = message.bytes() else { break };
            if bytes - PREFIX_BYTES > self.largest {
                return Err(too_large(self.largest));
            }
            let taken = data.len().min(bytes - message.here);
            message.here += taken;
            data = &data[taken..];
            if message.here == bytes {
                self.message = Message::default();
                if let Some(share) = self.held.as_mut().and_then(|held| held.split(bytes)) {
                    self.shares.put(Share(share));
                }
            }
        }
        Ok(())
    }

    /// Whether the message that is arriving still has time.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.message.here == 0 && self.arrived.is_none() {
            self.deadline = None;
            return Poll::Pending;
        }
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        deadline.as_mut().poll(context)
    }
}

impl Message {
    /// How long it is, prefix included, once that is known.
    fn bytes(&self) -> Option<usize> {
        let [_, length @ ..] = self.prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        (self.here >= PREFIX_BYTES).then_some(PREFIX_BYTES + length)
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.arrived.as_ref().map(Bytes::len)
                && let Poll::Ready(shared) = this.poll_share(context, bytes)
            {
                shared?;
                let data = this.arrived.take().unwrap_or_default();
                this.follow(&data)?;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if this.arrived.is_none()
                && let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context)
            {
                match frame.transpose()?.map(Frame::into_data) {
                    Some(Ok(data)) => this.arrived = Some(data),
                    Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                    None => return Poll::Ready(None),
                }
                continue;
            }
            ready!(this.poll_patience(context));
            return Poll::Ready(Some(Err(too_slow(this.patience).into())));
        }
    }
}

fn too_large(limit: usize) -> Status {
    let detail = format!(
        "a message is larger than {limit} bytes, the limit of this node; send less at a time"
    );
    refusal::of_problem(&Problem::too_large(detail, limit as u64))
}

fn too_slow(patience: Duration) -> Status {
    let seconds = patience.as_secs();
    let detail =
        format!("a message was not received within {seconds} s; open the stream again later");
    refusal::of(&Failure::new(Code::Overloaded, detail))
}
