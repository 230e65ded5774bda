//! Answers on their way out: their bytes are memory until the client has taken them.
//!
//! ```text
//! finished answer -> Memory::hold -> the same, with its share until it is sent | 429
//! ```
//! A place among the requests is free once the answer stands; what it may cost from then on is
//! bounded here. What a write did is told in any case: it is small, and cannot be asked for again
//! without a key. Streams of events have no length and are bounded by their number ([`super::watch`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;
use hyper::body::{Frame, SizeHint};
use percolate_api::http::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Failure;

/// Answers of up to so many bytes are never refused: what says why another was is among them.
const SMALL_BYTES: u64 = 1024;

/// The memory that answers share.
pub(super) struct Memory {
    bytes: usize,
    free: Arc<Semaphore>,
}

impl Memory {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            free: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// The answer to a request of this `method` with its share of the memory, or another one if there
    /// is not enough for what was read. An answer larger than all of the memory takes all of it.
    pub(super) fn hold(&self, method: &Method, response: Response) -> Response {
        let Some(bytes) = response.body().size_hint().exact() else {
            return response;
        };
        if bytes <= SMALL_BYTES {
            return response;
        }
        let bytes = usize::try_from(bytes).map_or(self.bytes, |bytes| bytes.min(self.bytes));
        let share = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.free).try_acquire_many_owned(bytes).ok());
        let Some(share) = share else {
            if *method != Method::GET {
                return response;
            }
            let detail = "too many large answers are being sent; send the request again later";
            return Failure::new(Code::Overloaded, detail).into_response();
        };
        response.map(|body| {
            Body::new(Held {
                body,
                _share: share,
            })
        })
    }
}

/// A body with its share.
struct Held {
    body: Body,
    _share: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::RETRY_AFTER;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn answers_share_the_memory_set_aside_until_they_are_read() {
        let memory = Memory::new(10_000);
        let answer = |bytes: usize| vec![0_u8; bytes].into_response();
        let first = memory.hold(&Method::GET, answer(6_000));
        assert_eq!(first.status(), StatusCode::OK);
        let second = memory.hold(&Method::GET, answer(6_000));
        assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(second.headers().contains_key(RETRY_AFTER));
        assert_eq!(
            memory.hold(&Method::GET, answer(1_000)).status(),
            StatusCode::OK,
            "small"
        );
        let written = memory.hold(&Method::POST, answer(6_000));
        assert_eq!(written.status(), StatusCode::OK, "it was done");
        let read = first.into_body().collect().await.expect("readable");
        assert_eq!(read.to_bytes().len(), 6_000);
        assert_eq!(
            memory.hold(&Method::GET, answer(6_000)).status(),
            StatusCode::OK
        );
        assert_eq!(
            memory.hold(&Method::GET, answer(60_000)).status(),
            StatusCode::OK,
            "larger than all of it, and alone"
        );
    }
}
