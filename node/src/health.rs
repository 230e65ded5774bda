//! Port 9100, plain HTTP for the kubelet and Prometheus: `/healthz`, `/readyz`, `/metrics`.
//!
//! ```text
//! driver -> Liveness::tick        -> /healthz  the process works: restarting it would not help
//! driver -> Status.serving        -> /readyz   send requests here
//! all    -> Metrics               -> /metrics
//! ```
//! Nothing here says anything about the tenant's data, and nothing here changes anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::{self, Metrics, role_name};
use crate::tenant::Status;

/// The driver looks at its clock several times a second and never blocks on the disk: when it has
/// not for this long, it hangs, and only a restart helps.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Says that the driver's loop turns. Clones share it.
#[derive(Debug, Clone)]
pub struct Liveness {
    started: Instant,
    /// Milliseconds from `started` to the latest tick.
    ticked_ms: Arc<AtomicU64>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            ticked_ms: Arc::default(),
        }
    }
}

impl Liveness {
    /// The loop has come round at `now`.
    pub fn tick(&self, now: Instant) {
        self.ticked_ms
            .fetch_max(self.millis(now), Ordering::Relaxed);
    }

    /// Whether the latest tick is recent enough at `now`.
    pub fn is_alive(&self, now: Instant) -> bool {
        let silent_ms = self
            .millis(now)
            .saturating_sub(self.ticked_ms.load(Ordering::Relaxed));
        Duration::from_millis(silent_ms) < STALLED_AFTER
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Health {
    /// The driver's sign of life.
    pub liveness: Liveness,
    /// What the replica is.
    pub status: watch::Receiver<Status>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The routes of the port.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    if health.liveness.is_alive(Instant::now()) {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the driver hangs\n").into_response()
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    let status = health.status.borrow();
    let (code, word) = if status.serving {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let (role, epoch, applied, lag) = (
        role_name(status.role),
        status.epoch,
        status.applied,
        status.lag,
    );
    (
        code,
        format!("{word}: {role} in epoch {epoch}, applied {applied}, {lag} behind\n"),
    )
        .into_response()
}

async fn show_metrics(State(health): State<Health>) -> Response {
    let text = health.metrics.encode(&health.status.borrow());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests;
