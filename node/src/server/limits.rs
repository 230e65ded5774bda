//! How much one client may ask of a node, and all of them together.

use std::time::Duration;

pub use percolate_api::http::MAX_BODY_BYTES as BODY_BYTES;

/// What a node takes on at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest request body, before and after decompression.
    pub body_bytes: usize,
    /// Requests served at a time; more are answered 429. A waiting write costs a few kilobytes,
    /// so this bounds what a stalled follower can pile up.
    pub concurrent_requests: usize,
    /// Bytes of request bodies held at a time, so that many large bodies cannot fill the memory.
    pub held_body_bytes: usize,
    /// How long a client may take to send its body: a slow sender must not hold its place.
    pub body_timeout: Duration,
    /// How long a request may take once its body is here, changes of leader included. Longer than
    /// a takeover, shorter than most clients' patience.
    pub deadline: Duration,
    /// Pause before a request is tried again while leadership changes.
    pub retry_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES,
            concurrent_requests: 1024,
            held_body_bytes: 4 * BODY_BYTES,
            body_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(10),
            retry_pause: Duration::from_millis(50),
        }
    }
}
