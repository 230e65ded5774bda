//! `GET /status`: what this replica is, and how far it is.

use axum::Json;
use axum::extract::State;
use percolate_api::http::Status;

use super::{App, reply};

pub(super) async fn get(State(app): State<App>) -> Json<Status> {
    Json(of(&app))
}

pub(super) fn of(app: &App) -> Status {
    let now = app.handle.status();
    Status {
        tenant_id: app.tenant_id.clone(),
        node: app.node.clone(),
        replica_id: now.replica_id.to_string(),
        role: reply::role(now.role),
        // The register's type; nobody lives to see it overflow.
        epoch: i64::try_from(now.epoch).unwrap_or(i64::MAX),
        leader: now.leader.map(|leader| leader.to_string()),
        in_sync: now.in_sync.iter().map(ToString::to_string).collect(),
        // Empty before the first contact with the tenant.
        incarnation: now
            .incarnation
            .map(|incarnation| incarnation.to_string())
            .unwrap_or_default(),
        committed: now.committed,
        applied: now.applied,
        lag: now.lag,
    }
}
