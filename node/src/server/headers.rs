//! Names of the contract's own headers.

use http::HeaderName;

/// Where a client stands in the tenant's history; in requests and in every answer.
pub const SESSION: HeaderName = HeaderName::from_static("percolate-session");

/// How old at most what a read shows was when it was answered, in seconds: everything acknowledged
/// longer ago is in it. Absent where nothing is proven.
pub const STALENESS: HeaderName = HeaderName::from_static("percolate-staleness");

/// What the replica that served a request is to its tenant.
pub const ROLE: HeaderName = HeaderName::from_static("percolate-role");

/// Between replicas only: the replica that passed a request on. It goes no further.
pub const FORWARDED: HeaderName = HeaderName::from_static("percolate-forwarded");

/// The id of the last event that a watch has seen: what standard clients of server-sent events send
/// when they connect again.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The same write under the same key takes effect once.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
