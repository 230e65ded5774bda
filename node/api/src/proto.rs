//! Generated code, one module per protobuf package.

// Generated names and signatures are not ours to change.
#![allow(clippy::pedantic, missing_docs, unreachable_pub)]

/// `percolate.data.v1`: items, transactions and outcomes.
pub mod data {
    /// The first version.
    pub mod v1 {
        tonic::include_proto!("percolate.data.v1");
    }
}
