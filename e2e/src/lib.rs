//! What the end-to-end stories stand on: a real Kubernetes on one machine, images for it, and the
//! faults to do to it.
//!
//! ```text
//! programs (go build, cached) ─┐
//! image (Debian packages)     ─┼─► cluster::Cluster ─► install::Installation ─► tenant::Tenant ─► stories
//! prerequisites (apt-get)     ─┘      faults, audit         chart, kubectl       watched, scaled   demo
//!                                                        api ─► load ─► history, gaps
//! programs, prerequisites ─► bench: Percolate and its peers, without a cluster
//! ```
//!
//! What is done to machines (`cluster`, `image`, `programs`) is blocking: it starts processes and waits
//! for them. What talks to Kubernetes and to tenants is asynchronous and calls the former through
//! `spawn_blocking`.

pub mod api;
pub mod bench;
pub mod cluster;
pub mod command;
pub mod demo;
mod digest;
pub mod forward;
pub mod gaps;
pub mod history;
pub mod image;
pub mod install;
pub mod load;
pub mod prerequisites;
pub mod programs;
pub mod progress;
mod repository;
pub mod story;
pub mod tenant;
