//! The custom resources of Percolate, and every name shared between the operator and the node.
//!
//! ```text
//! person ──spec──▶ PercolateTenant ──▶ operator ──spec──▶ PercolateReplication ◀──status── nodes
//!                        ▲                 │
//!                        └──────status─────┘
//! ```
//!
//! Owned here: the shape of both resources, what the API server refuses (CEL rules), condition
//! types and reasons, and the names of a tenant's objects. Deliberately not here: any client, any
//! clock, any decision. A field is in a schema only once something acts on it.

#![allow(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its visibility, inside a function"
)]

pub mod conditions;
pub mod duration;
pub mod names;
pub mod replication;
pub mod tenant;

/// API group of both resources; also the prefix of every label and annotation of ours.
pub const GROUP: &str = "percolationlabs.ai";
/// The only served and stored version.
pub const VERSION: &str = "v1alpha1";

pub use replication::PercolateReplication;
pub use tenant::PercolateTenant;
