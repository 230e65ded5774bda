//! As much of the Kubernetes API as a register needs: one object that is read, watched, and changed by
//! compare-and-swap of its version.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures::stream;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const NAMESPACE: &str = "tenants";
pub(crate) const NAME: &str = "acme";

/// A server with one register, until it is dropped.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    object: Arc<watch::Sender<Value>>,
    task: JoinHandle<()>,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(rename = "resourceVersion")]
    version: Option<String>,
}

impl ApiServer {
    /// A register that nobody has filled yet.
    pub(crate) async fn start(min_in_sync: usize) -> Self {
        let object = Arc::new(watch::Sender::new(json!({
            "apiVersion": "percolationlabs.ai/v1alpha1",
            "kind": "PercolateReplication",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": "1"},
            "spec": {"minInSync": min_in_sync, "bootstrap": true},
        })));
        let kind = format!(
            "/apis/percolationlabs.ai/v1alpha1/namespaces/{NAMESPACE}/percolatereplications"
        );
        let router = Router::new()
            .route(&kind, get(follow))
            .route(&format!("{kind}/{NAME}"), get(read))
            .route(&format!("{kind}/{NAME}/status"), put(change))
            .with_state(Arc::clone(&object));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves");
        });
        Self {
            address,
            object,
            task,
        }
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self, authority: &Path) -> String {
        let server = format!("http://{}", self.address);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "replica", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "replica"}}],
            "current-context": "here",
        })
        .to_string()
    }

    /// Who leads and who is in sync; null before there is a leader.
    pub(crate) fn register(&self) -> Value {
        self.object.borrow()["status"].clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(State(object): State<Arc<watch::Sender<Value>>>) -> Json<Value> {
    Json(object.borrow().clone())
}

async fn change(State(object): State<Arc<watch::Sender<Value>>>, body: Bytes) -> Response {
    let wanted: Value = serde_json::from_slice(&body).expect("a replica sends JSON");
    let is_changed = object.send_if_modified(|object| {
        let version = version(object);
        if wanted["metadata"]["resourceVersion"] != json!(version.to_string()) {
            return false;
        }
        object["status"] = wanted["status"].clone();
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        true
    });
    if is_changed {
        return Json(object.borrow().clone()).into_response();
    }
    let conflict = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the object has been modified", "reason": "Conflict", "code": 409,
    });
    (StatusCode::CONFLICT, Json(conflict)).into_response()
}

/// Every version after the one asked for, as far as it is not overtaken by a newer one.
async fn follow(
    State(object): State<Arc<watch::Sender<Value>>>,
    Query(query): Query<ListQuery>,
) -> Response {
    let since = query.version.and_then(|version| version.parse().ok());
    let start = (object.subscribe(), since.unwrap_or(0_u64));
    let events = stream::unfold(start, |(mut object, since)| async move {
        loop {
            let now = object.borrow_and_update().clone();
            if version(&now) > since {
                let since = version(&now);
                let line = format!("{}\n", json!({"type": "MODIFIED", "object": now}));
                return Some((Ok::<_, std::io::Error>(line), (object, since)));
            }
            object.changed().await.ok()?;
        }
    });
    Body::from_stream(events).into_response()
}

fn version(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}
