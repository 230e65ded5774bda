use axum::body::Body;
use http_body_util::BodyExt;
use percolate_core::identity::ReplicaId;
use percolate_core::register::ReplicaState;
use tower::ServiceExt;

use super::*;
use crate::tenant::Role;

fn status(role: Role, serving: bool) -> Status {
    Status {
        replica_id: ReplicaId(1),
        incarnation: None,
        loss: 0,
        role,
        epoch: 4,
        leader: None,
        leader_pod: None,
        leader_url: None,
        in_sync: Vec::new(),
        last: 9,
        committed: 9,
        applied: 8,
        lag: 1,
        serving,
        state: ReplicaState::Streaming,
        copying: None,
        members: Vec::new(),
        as_of: None,
        cut_off: false,
    }
}

async fn ask(health: &Health, path: &str) -> (StatusCode, String) {
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let answer = router(health.clone()).oneshot(request).await.unwrap();
    let code = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

fn health(role: Role, serving: bool) -> (Health, watch::Sender<Status>) {
    let (sender, status) = watch::channel(status(role, serving));
    (
        Health {
            liveness: Liveness::default(),
            status,
            metrics: Arc::new(Metrics::new()),
        },
        sender,
    )
}

#[tokio::test]
async fn ready_follows_the_replica() {
    let (health, sender) = health(Role::Joining, false);
    assert_eq!(
        ask(&health, "/readyz").await,
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: joining in epoch 4, applied 8, 1 behind\n".into()
        )
    );
    sender.send(status(Role::Leader, true)).unwrap();
    assert_eq!(
        ask(&health, "/readyz").await,
        (
            StatusCode::OK,
            "ready: leader in epoch 4, applied 8, 1 behind\n".into()
        )
    );
    let (code, metrics) = ask(&health, "/metrics").await;
    assert_eq!(code, StatusCode::OK);
    assert!(
        metrics.contains("percolate_node_role{role=\"leader\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn alive_does_not_depend_on_being_ready() {
    let (health, _sender) = health(Role::Joining, false);
    assert_eq!(ask(&health, "/healthz").await.0, StatusCode::OK);
}

#[test]
fn a_driver_that_stopped_turning_is_not_alive() {
    let liveness = Liveness::default();
    let start = liveness.started;
    let late = start + STALLED_AFTER + Duration::from_secs(1);
    assert!(liveness.is_alive(start), "a start may take its time");
    assert!(!liveness.is_alive(late), "never ticked");
    liveness.clone().tick(late);
    assert!(liveness.is_alive(late), "clones share the sign of life");
    assert!(!liveness.is_alive(late + STALLED_AFTER));
}
