//! Request bodies, collected whole within bounds of size, of time and of the node's memory. Answers
//! have a share of memory, too, until they are sent.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body, and the share of the node's memory it holds until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// As it was sent.
    pub(super) bytes: Bytes,
    share: Share,
}

/// A part of the memory set aside, given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Share {
    /// Take so many bytes more of `memory` (one permit a byte); `false` if others hold them.
    pub(super) fn grow(&mut self, memory: &Arc<Semaphore>, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else {
            return false;
        };
        let Ok(taken) = Arc::clone(memory).try_acquire_many_owned(bytes) else {
            return false;
        };
        match &mut self.0 {
            Some(share) => share.merge(taken),
            None => self.0 = Some(taken),
        }
        true
    }
}

impl Held {
    /// These bytes with their share.
    pub(super) fn new(bytes: Bytes, share: Share) -> Self {
        Self { bytes, share }
    }

    /// Both, apart.
    pub(super) fn into_parts(self) -> (Bytes, Share) {
        (self.bytes, self.share)
    }
}

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Larger than allowed.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Not here in time.
    #[error("the body did not arrive within {} s", timeout.as_secs())]
    TooSlow {
        /// How long it was waited for.
        timeout: Duration,
    },
    /// Other bodies fill the memory set aside for them.
    #[error("too many request bodies are held")]
    MemoryFull,
    /// The client stopped sending.
    #[error("the body ended early: {reason}")]
    Broken {
        /// What the transport said.
        reason: String,
    },
}

/// Read `body` to its end: at most `limit` bytes, within `timeout`, with a share of `memory` (one
/// permit a byte) for as long as the result lives.
pub(super) async fn collect(
    body: Body,
    limit: usize,
    timeout: Duration,
    memory: &Arc<Semaphore>,
) -> Result<Held, BodyError> {
    tokio::time::timeout(timeout, read(body, limit, memory))
        .await
        .unwrap_or(Err(BodyError::TooSlow { timeout }))
}

async fn read(mut body: Body, limit: usize, memory: &Arc<Semaphore>) -> Result<Held, BodyError> {
    let mut bytes = BytesMut::new();
    let mut share = Share::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken {
            reason: error.to_string(),
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if !share.grow(memory, data.len()) {
            let left = limit - bytes.len();
            drop((bytes, share));
            take_in(&mut body, left).await;
            return Err(BodyError::MemoryFull);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held::new(bytes.freeze(), share))
}

/// Take in the rest of a body that nobody wants, at most `limit` bytes within `timeout`, and keep
/// nothing of it: a client that is still sending would lose the answer together with its connection.
pub(super) async fn discard(mut body: Body, limit: usize, timeout: Duration) {
    // Whether it was in time or not, it is not wanted.
    let _ = tokio::time::timeout(timeout, take_in(&mut body, limit)).await;
}

async fn take_in(body: &mut Body, mut limit: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(left) = limit.checked_sub(bytes) else {
            return;
        };
        limit = left;
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn chunks(lengths: &[usize]) -> Body {
        let chunks: Vec<_> = lengths
            .iter()
            .map(|length| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; *length])))
            .collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_taken() {
        let memory = Arc::new(Semaphore::new(100));
        for (lengths, expected) in [
            (&[][..], Ok(0)),
            (&[4, 6], Ok(10)),
            (&[4, 7], Err(BodyError::TooLarge { limit: 10 })),
        ] {
            let held = collect(chunks(lengths), 10, SECOND, &memory).await;
            assert_eq!(held.map(|held| held.bytes.len()), expected, "{lengths:?}");
            assert_eq!(memory.available_permits(), 100, "its share is given back");
        }
    }

    #[tokio::test]
    async fn bodies_share_the_memory_set_aside() {
        let memory = Arc::new(Semaphore::new(10));
        let first = collect(chunks(&[6]), 10, SECOND, &memory).await.unwrap();
        assert_eq!(
            collect(chunks(&[5]), 10, SECOND, &memory)
                .await
                .unwrap_err(),
            BodyError::MemoryFull
        );
        drop(first);
        assert!(collect(chunks(&[5]), 10, SECOND, &memory).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let memory = Arc::new(Semaphore::new(10));
        let timeout = Duration::from_millis(20);
        assert_eq!(
            collect(body, 10, timeout, &memory).await.unwrap_err(),
            BodyError::TooSlow { timeout }
        );
    }
}
