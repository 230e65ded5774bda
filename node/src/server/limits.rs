//! How much one client may ask of a node, and all of them together.

use std::time::Duration;

pub use percolate_api::http::MAX_BODY_BYTES as BODY_BYTES;

/// How often an idle watch sends a comment, by default, so that client and proxies know that it lives: twice within
/// the half minute after which the more impatient of them cut a silent connection.
pub const WATCH_HEARTBEAT: Duration = Duration::from_secs(15);

/// What a node takes on at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest request body, before and after decompression.
    pub body_bytes: usize,
    /// Requests served at a time; more are answered 429. A waiting write costs a few kilobytes,
    /// so this bounds what a stalled follower can pile up.
    pub concurrent_requests: usize,
    /// Watches open at a time; more are answered 429. Each may have a connection to itself, of which
    /// a node takes 512: three quarters are left for everything else. One holds a page of the feed.
    pub watches: usize,
    /// Streams of writes open at a time; more are refused. As many as the node takes connections.
    pub write_streams: usize,
    /// Writes under way on one stream: more are read once some are answered. What one client can
    /// gain by sending ahead is had long before; it leaves the larger part of the places to others.
    pub stream_writes: usize,
    /// How often an idle watch sends a sign of life.
    pub watch_heartbeat: Duration,
    /// How long a watch goes on at a replica that does not serve (it hears no leader): as long as a
    /// request waits for one. Its client finds a better replica, or this one again.
    pub watch_unserved: Duration,
    /// Bytes of request bodies held at a time, as sent and as decompressed, so that many large bodies
    /// cannot fill the memory.
    pub held_body_bytes: usize,
    /// Bytes of answers held at a time: from when they are made until they are sent, which their
    /// readers may take their time for. More are answered 429.
    pub held_answer_bytes: usize,
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
            watches: 128,
            write_streams: 512,
            stream_writes: 256,
            watch_heartbeat: WATCH_HEARTBEAT,
            watch_unserved: Duration::from_secs(10),
            held_body_bytes: 4 * BODY_BYTES,
            held_answer_bytes: 4 * BODY_BYTES,
            body_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(10),
            retry_pause: Duration::from_millis(50),
        }
    }
}
