//! The Percolate operator: makes `PercolateTenant`s be what their manifests say.
//!
//! Read `controller` first: it is the path of a tenant's manifest to its objects and its status.
//! Tenants serve and fail over without this process; it is needed to change them.

mod backoff;
mod clients;
mod controller;
mod credentials;
mod error;
mod events;
mod health;
mod lease;
mod metrics;
mod permissions;
mod quantity;
mod run;
mod settings;
mod watches;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

/// Returns memory after the bursts of a relisting, which the system's allocator keeps.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let settings = settings::Settings::parse();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    // Before anything speaks TLS: rustls must not be left to guess its provider.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider was installed first");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run::run(settings))
}
