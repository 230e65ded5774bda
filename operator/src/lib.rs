//! The Percolate operator: makes `PercolateTenant`s be what their manifests say.
//!
//! Read `controller` first: it is the path of a tenant's manifest to its objects and its status.
//! Tenants serve and fail over without this process; it is needed to change them.

pub mod backoff;
pub mod clients;
pub mod controller;
pub mod credentials;
pub mod error;
pub mod events;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod permissions;
pub mod quantity;
pub mod run;
pub mod settings;
pub mod watches;
