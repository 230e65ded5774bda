//! What the end-to-end stories stand on: a real Kubernetes on one machine, images for it, and the
//! faults to do to it.
//!
//! ```text
//! programs (go build, cached) ─┐
//! image (Debian packages)     ─┼─► cluster::Cluster ──► kubeconfig, faults, audit counts ──► stories
//! prerequisites (apt-get)     ─┘
//! ```
//!
//! Everything here is blocking: it starts processes and waits for them. Stories that run under
//! tokio call it through `spawn_blocking`.

pub mod cluster;
pub mod command;
pub mod image;
pub mod prerequisites;
pub mod programs;
pub mod progress;
