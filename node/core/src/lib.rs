//! Percolate's pure core: what is true of a tenant's data and how its replicas agree on it.
//!
//! Nothing here reads a clock, a disk, a socket or a source of randomness: time, identities and
//! answers are arguments, decisions are return values. That this stays so is enforced by the
//! dependency list of `Cargo.toml`, and checked by the tidy test.
//!
//! ```text
//! replica:  step(now, input, log) -> effects          who leads, what is durable where
//! apply:    (transaction, dot, items) -> writes       what a committed entry does to the store
//! merge:    (item, item) -> item                      how concurrent edits become one
//! ```

pub mod apply;
pub mod clock;
pub mod identity;
pub mod log;
pub mod merge;
pub mod model;
pub mod operation;
pub mod register;
pub mod replica;
pub mod version;
