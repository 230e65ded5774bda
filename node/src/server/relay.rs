//! Any replica accepts any request: it is served here if it can be, else at the leader.
//!
//! ```text
//! Exchange -> handlers -> answered                                        -> Response
//!                      -> Unserved(NotLeader, TooStale, TooOld) -> Forward -> the leader's Response
//!                      -> Unserved(NoLeader), leader unreachable -> pause -> handlers again, until the deadline
//! ```
//! A replica that has heard no leader for long waits for none: its client may reach another one.
//!
//! A request goes one hop at most: a replica that got it from another answers `no_leader` rather
//! than passing it on, so two replicas that each think the other leads cannot play ball with it.
//!
//! Trying again is safe for reads, and for writes under an idempotency key. A write that is
//! forwarded without one gets one here, because the connection to the leader may break after the
//! leader has taken it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use percolate_api::http::{Code, Problem};
use tokio::time::Instant;
use uuid::Uuid;

use super::forward::{Forward, ForwardError};
use super::headers::{FORWARDED, IDEMPOTENCY_KEY};
use super::problem::Failure;
use crate::tenant::{Handle, Role, Status, Unavailable};

/// Longest pause between two tries: well below a takeover, so that a write goes on as soon as
/// somebody leads.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// One request, kept so that it can be served more than once.
pub(super) struct Exchange {
    /// Method, URI, headers, and what routing has found out.
    pub(super) parts: Parts,
    /// The body as it was sent: what is forwarded.
    pub(super) sent: Bytes,
    /// The body without its content encoding: what handlers read.
    pub(super) plain: Bytes,
}

/// Serves exchanges at one replica.
pub(super) struct Relay<'a> {
    /// What this replica is.
    pub(super) handle: &'a Handle,
    /// The way to the leader.
    pub(super) forwarder: &'a dyn Forward,
    /// When to give up.
    pub(super) deadline: Instant,
    /// First pause before trying again; doubled each time.
    pub(super) pause: Duration,
}

/// Put by a handler into the extensions of its response: the tenant could not serve this here.
#[derive(Debug, Clone)]
pub(super) struct Unserved(pub(super) Unavailable);

enum Attempt {
    Answered(Response),
    /// Worth another try; what to answer if there is no time for one.
    Postponed(Response),
}

impl Relay<'_> {
    /// Answer `exchange` here or at the leader, until the deadline.
    pub(super) async fn serve(&self, mut exchange: Exchange, next: Next) -> Response {
        let mut pause = self.pause;
        let mut last = None;
        loop {
            let attempt =
                tokio::time::timeout_at(self.deadline, self.attempt(&mut exchange, &next)).await;
            match attempt {
                Ok(Attempt::Answered(response)) => return response,
                Ok(Attempt::Postponed(response))
                    if self.handle.status().cut_off || Instant::now() + pause >= self.deadline =>
                {
                    return response;
                }
                Ok(Attempt::Postponed(response)) => last = Some(response),
                Err(_) => return last.unwrap_or_else(|| Self::out_of_time(&exchange)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, exchange: &mut Exchange, next: &Next) -> Attempt {
        let response = next.clone().run(exchange.local_request()).await;
        let Some(Unserved(unavailable)) = response.extensions().get::<Unserved>().cloned() else {
            return Attempt::Answered(response);
        };
        if exchange.was_forwarded() {
            return Attempt::Answered(response);
        }
        match unavailable {
            Unavailable::NotLeader {
                leader_url: Some(url),
            } => self.at_leader(&url, exchange, response).await,
            Unavailable::TooStale { .. } | Unavailable::TooOld { .. } => {
                match self.handle.status().leader_url {
                    Some(url) => self.at_leader(&url, exchange, response).await,
                    None => Attempt::Postponed(response),
                }
            }
            Unavailable::NotLeader { leader_url: None } | Unavailable::NoLeader => {
                Attempt::Postponed(response)
            }
            Unavailable::UnknownOutcome if exchange.may_repeat() => Attempt::Postponed(response),
            Unavailable::UnknownOutcome
            | Unavailable::NotEnoughReplicas { .. }
            | Unavailable::Overloaded
            | Unavailable::OtherIncarnation => Attempt::Answered(response),
        }
    }

    async fn at_leader(&self, url: &str, exchange: &mut Exchange, unserved: Response) -> Attempt {
        exchange.make_repeatable();
        let mark = self.handle.status().replica_id.to_string();
        match self.answer_of(url, exchange.forwarded_request(&mark)).await {
            Ok(response) if is_no_leader(&response) => Attempt::Postponed(response.map(Body::from)),
            Ok(response) => Attempt::Answered(response.map(Body::from)),
            Err(ForwardError::NotSent { reason }) => {
                tracing::debug!(url, reason, "the leader could not be reached");
                Attempt::Postponed(unserved)
            }
            Err(ForwardError::Broken { reason }) => {
                tracing::debug!(url, reason, "the connection to the leader broke");
                Attempt::Postponed(Failure::from(Unavailable::UnknownOutcome).into_response())
            }
        }
    }

    /// What the leader at `url` answers, as long as nobody else leads, this replica included, and it is
    /// heard: one that hangs or is cut off would be waited for until the deadline.
    async fn answer_of(
        &self,
        url: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, ForwardError> {
        let mut status = self.handle.watch_status();
        // Where it still says so of this replica, it is the status that is late.
        let led = status.borrow().role == Role::Leader;
        let is_given_up = |status: &Status| {
            let leader_url = status.leader_url.as_deref();
            let has_successor = leader_url.is_some_and(|other| other != url);
            (status.role == Role::Leader && !led) || has_successor || status.cut_off
        };
        tokio::select! {
            answer = self.forwarder.forward(url, request) => answer,
            Ok(_) = status.wait_for(is_given_up) => Err(ForwardError::Broken {
                reason: "another replica leads now, or this one is cut off".to_owned(),
            }),
        }
    }

    fn out_of_time(exchange: &Exchange) -> Response {
        let unavailable = if exchange.is_read() {
            Unavailable::NoLeader
        } else {
            Unavailable::UnknownOutcome
        };
        Failure::from(unavailable).into_response()
    }
}

impl Exchange {
    fn is_read(&self) -> bool {
        matches!(self.parts.method, Method::GET | Method::HEAD)
    }

    fn was_forwarded(&self) -> bool {
        self.parts.headers.contains_key(FORWARDED)
    }

    fn may_repeat(&self) -> bool {
        self.is_read() || self.parts.headers.contains_key(IDEMPOTENCY_KEY)
    }

    fn make_repeatable(&mut self) {
        if !self.may_repeat() {
            let key = format!("relay-{}", Uuid::new_v4().simple());
            // Hexadecimal digits are always a valid header value.
            if let Ok(value) = HeaderValue::from_str(&key) {
                self.parts.headers.insert(IDEMPOTENCY_KEY, value);
            }
        }
    }

    fn local_request(&self) -> Request {
        Request::from_parts(self.parts.clone(), Body::from(self.plain.clone()))
    }

    fn forwarded_request(&self, mark: &str) -> http::Request<Bytes> {
        let mut request = http::Request::new(self.sent.clone());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.headers_mut() = self.parts.headers.clone();
        if let Ok(value) = HeaderValue::from_str(mark) {
            request.headers_mut().insert(FORWARDED, value);
        }
        request
    }
}

/// Whether another try may fare better: the leader lost its place, or has not taken it yet.
fn is_no_leader(response: &http::Response<Bytes>) -> bool {
    response.status() == StatusCode::SERVICE_UNAVAILABLE
        && serde_json::from_slice::<Problem>(response.body())
            .is_ok_and(|problem| problem.code == Code::NoLeader)
}
