//! Generated code, one module per protobuf package: `data::v1` is `percolate.data.v1`.

// Generated names and signatures are not ours to change.
#![allow(clippy::pedantic, missing_docs, unreachable_pub)]

include!(concat!(env!("OUT_DIR"), "/packages.rs"));

pub use self::percolate::*;
