//! One node of a tenant: the replica with its API, and the commands that talk to one.
//!
//! ```text
//! cli -> serve:  server (API) -> tenant (handle) -> driver -> core::replica -> store, transport
//!     -> client: api -> a node's server
//! ```

pub mod admission;
pub mod bulk;
pub mod cli;
pub mod client;
pub mod driver;
pub mod fault;
pub mod health;
pub mod metrics;
pub mod quarantine;
pub mod register;
pub mod scrub;
pub mod serve;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod tenant;
pub mod termination;
pub mod tls;
pub mod transport;
