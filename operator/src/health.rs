//! `/healthz`, `/readyz` and `/metrics` on one plain port.
//!
//! Healthy means that watches are being made: each ends by itself within five minutes and begins
//! anew, so a watch client that has been idle for much longer is stuck, and only a restart helps. An
//! API server that does not answer is no reason to restart: it is asked all the time. Ready means
//! that the caches are filled; a standby is ready too.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use kube::runtime::reflector::Store;
use percolate_crds::PercolateTenant;

use crate::{clients::Activity, metrics::Metrics};

/// Three times what a watch lasts.
const STUCK_AFTER: Duration = Duration::from_mins(15);

/// What is asked about.
#[derive(Clone)]
pub struct Health {
    /// Whether all caches have been filled.
    pub ready: Arc<AtomicBool>,
    /// When the watch client was last used.
    pub watch_activity: Arc<Activity>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// All tenants, by namespace watched.
    pub tenants: Vec<Store<PercolateTenant>>,
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, health: Health) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, routes).await
}

async fn healthz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.watch_activity.idle() > STUCK_AFTER {
        return (StatusCode::SERVICE_UNAVAILABLE, "watches are stuck\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn readyz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are being filled\n")
    }
}

async fn metrics(State(health): State<Health>) -> String {
    let tenants: Vec<_> = health.tenants.iter().flat_map(Store::state).collect();
    let conditions = tenants
        .iter()
        .filter_map(|tenant| tenant.status.as_ref())
        .flat_map(|status| &status.conditions)
        .map(|condition| (condition.type_.clone(), condition.status.clone()));
    health.metrics.text(conditions)
}
