//! `GET /status`: what this replica is, and how far it is.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use percolate_api::http::{CopyView, FollowerView, Status};
use percolate_core::register::Member;

use super::{App, reply};

pub(super) async fn get(State(app): State<App>) -> Json<Status> {
    Json(of(&app))
}

pub(super) fn of(app: &App) -> Status {
    let now = app.handle.status();
    let others = now.members.iter();
    let others = others.filter(|member| member.replica != now.replica_id);
    let millis = |as_of: Instant| u64::try_from(as_of.elapsed().as_millis()).unwrap_or(u64::MAX);
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
            .history()
            .map(|history| history.to_string())
            .unwrap_or_default(),
        committed: now.committed,
        applied: now.applied,
        lag: now.lag,
        state: now.state.to_string(),
        staleness_ms: now.as_of.map(millis),
        copying: now.copying.map(|copying| CopyView {
            bytes: copying.bytes,
            total: copying.total,
            eta_seconds: copying.remaining.map(|remaining| remaining.as_secs()),
        }),
        followers: others.map(follower).collect(),
    }
}

fn follower(member: &Member) -> FollowerView {
    FollowerView {
        replica_id: member.replica.to_string(),
        pod: member.pod.clone(),
        state: member
            .state
            .map(|state| state.to_string())
            .unwrap_or_default(),
    }
}
