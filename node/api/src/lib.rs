//! Percolate's contracts: protobuf messages and services, HTTP bodies, and the codecs between them
//! and the model of `percolate-core`.
//!
//! ```text
//! proto/*.proto ─▶ proto     generated messages, clients and servers
//! core's model ◀─▶ codec     bytes of items, transactions and outcomes: stored and replicated
//! core's model ◀─▶ http      JSON bodies of the HTTP API, and its errors
//! core's model ◀─▶ grpc      messages of the gRPC API
//! ```
//!
//! Decoding validates: what a codec returns obeys the model's rules, whatever the bytes.

pub mod codec;
pub mod grpc;
pub mod http;
pub mod proto;
