//! Many writes on one stream, each answered by its id as soon as it is done.
//!
//! ```text
//! requests -> (at most Limits::stream_writes under way) -> Handle::write -> replies
//!                                                       \-> not the leader: Inner, which relays
//! ```
//! What cannot be done is an answer to that one write. The stream ends with the client's side of it
//! or when the node stops, in both cases after all that was read is answered.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered};
use futures::{Stream, StreamExt};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use percolate_api::grpc;
use percolate_api::http::{Code, Problem};
use percolate_api::proto::data::v1::{WriteReply, WriteRequest};
use percolate_core::operation::Outcome;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};

use super::inner::{Inner, Refused};
use super::metered::{Share, Shares};
use super::refusal;
use crate::server::Serving;
use crate::server::problem::Failure;
use crate::tenant::{Role, Unavailable, Written};

/// Carries out the writes of one stream.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) serving: Arc<Serving>,
    pub(super) inner: Inner,
    /// What the stream was opened with: the token above all.
    pub(super) headers: HeaderMap,
}

/// One stream of writes.
struct Writes {
    writer: Writer,
    requests: Streaming<WriteRequest>,
    shares: Shares,
    under_way: FuturesUnordered<BoxFuture<'static, WriteReply>>,
    /// Nothing more is read; how the stream ends.
    end: Option<Result<(), Status>>,
    _place: OwnedSemaphorePermit,
}

/// The answers to `requests`, as they are done.
pub(super) fn replies(
    writer: Writer,
    requests: Streaming<WriteRequest>,
    shares: Shares,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<WriteReply, Status>> {
    let answered = Writes {
        writer,
        requests,
        shares,
        under_way: FuturesUnordered::new(),
        end: None,
        _place: place,
    };
    stream::unfold(answered, |mut writes| async move {
        let reply = writes.next().await?;
        Some((reply, writes))
    })
}

impl Writes {
    async fn next(&mut self) -> Option<Result<WriteReply, Status>> {
        let app = &self.writer.serving.app;
        let (most, stopping) = (app.limits.stream_writes, app.watches.stopping());
        loop {
            let reads = self.end.is_none() && self.under_way.len() < most;
            tokio::select! {
                // Answers first, which also begins what was read, in the order of reading.
                biased;
                Some(reply) = self.under_way.next() => return Some(Ok(reply)),
                () = stopping.cancelled(), if self.end.is_none() => {
                    let detail = "this node is stopping; open the stream again, at another one";
                    let failure = Failure::new(Code::NoLeader, detail);
                    self.end = Some(Err(refusal::of(&failure)));
                }
                request = self.requests.message(), if reads => match request {
                    Ok(Some(request)) => {
                        let share = self.shares.take();
                        let write = self.writer.clone().write(request, share);
                        self.under_way.push(Box::pin(write));
                    }
                    Ok(None) => self.end = Some(Ok(())),
                    Err(broken) => self.end = Some(Err(broken)),
                },
                else => return self.end.replace(Ok(()))?.err().map(Err),
            }
        }
    }
}

impl Writer {
    /// Write, and answer whatever comes of it.
    async fn write(self, request: WriteRequest, share: Option<Share>) -> WriteReply {
        let id = request.id;
        match self.attempt(request, share).await {
            Ok(reply) => WriteReply { id, ..reply },
            Err(problem) => grpc::not_done(id, &problem),
        }
    }

    async fn attempt(
        &self,
        request: WriteRequest,
        share: Option<Share>,
    ) -> Result<WriteReply, Refused> {
        let app = &self.serving.app;
        // The token as it is now: a stream may outlive the one it began with.
        let place = self
            .serving
            .admit(&self.headers)
            .map_err(|failure| refused(&failure))?;
        if app.handle.role() == Role::Leader {
            let deadline = tokio::time::Instant::now() + app.limits.deadline;
            let (operations, key) =
                grpc::operations_of(request.operations.clone(), request.idempotency_key.clone())?;
            let may_repeat = key.is_some();
            let write = app.handle.write(operations, key);
            match tokio::time::timeout_at(deadline, write).await {
                Ok(Ok(written)) => return done(&written),
                // Somebody else leads since, or is about to.
                Ok(Err(Unavailable::NotLeader { .. } | Unavailable::NoLeader)) => {}
                Ok(Err(Unavailable::UnknownOutcome)) if may_repeat => {}
                Ok(Err(unavailable)) => return Err(refused(&unavailable.into())),
                Err(_) => return Err(refused(&Unavailable::UnknownOutcome.into())),
            }
        }
        // The request is counted anew on the way it takes now.
        drop((place, share));
        let authorization = self.headers.get(AUTHORIZATION).cloned();
        self.inner.write(authorization, request).await
    }
}

fn done(written: &Written) -> Result<WriteReply, Refused> {
    match &written.outcome {
        Outcome::Applied(results) => Ok(grpc::done(0, results, written.token.to_string())),
        Outcome::Refused(refusal) => Err(Box::new(Problem::from(refusal))),
    }
}

fn refused(failure: &Failure) -> Refused {
    Box::new(failure.problem().clone())
}
