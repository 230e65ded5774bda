//! One pass over a tenant: `observe → validate → plan → desired → apply → status`.
//!
//! ```text
//! caches ─▶ observe ─▶ Observed ─┐
//! tenant ─▶ validate ─▶ Tenant ──┼─▶ plan ─▶ Plan ─▶ desired ─▶ objects ─▶ apply ─▶ API server
//! clock ─────────────────────────┘     └────────────────────▶ status ─▶ API server, events
//! ```
//!
//! `validate`, `plan`, `desired` and `status` are pure: no client, no clock, no randomness. Only
//! `observe` reads and only `apply` writes, so every decision can be tested as a table of cases.
//! A settled tenant costs no write: objects are compared by the hash of what was wanted.

pub mod apply;
pub mod desired;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod observe;
pub mod plan;
pub mod reconcile;
#[cfg(test)]
mod simulation;
pub mod status;
pub mod validate;
