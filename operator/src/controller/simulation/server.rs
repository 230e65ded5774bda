//! An API server in memory: objects by path, server-side apply by one manager, merge patches,
//! preconditions, and a count of writes after which it fails.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::Engine as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::Snapshot;
use crate::controller::fixtures::{UID, manifest};

const TENANT: &str = "/apis/percolationlabs.ai/v1alpha1/namespaces/tenants/percolatetenants/acme";
const REGISTER: &str =
    "/apis/percolationlabs.ai/v1alpha1/namespaces/tenants/percolatereplications/acme";

/// The server. Clones share their objects.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: Snapshot,
    version: u64,
    writes: usize,
    writes_left: Option<usize>,
    log: Vec<String>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (code, answer) = server.answer(&parts, &body);
                let response = http::Response::builder()
                    .status(code)
                    .header("content-type", "application/json")
                    .body(Body::from(answer.to_string().into_bytes()));
                response.map_err(tower::BoxError::from)
            }
        });
        Client::new(service, "tenants")
    }

    /// A client whose requests lead nowhere: events are news, not state.
    pub(crate) fn deaf_client() -> Client {
        Self::default().client()
    }

    /// All objects.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.state().objects.clone()
    }

    /// How many objects of a kind there are, by its plural.
    pub(crate) fn count(&self, kind: &str) -> usize {
        let objects = &self.state().objects;
        objects.keys().filter(|path| path.contains(kind)).count()
    }

    /// Requests that changed something or tried to.
    pub(crate) fn writes(&self) -> usize {
        self.state().writes
    }

    /// Each write, as `METHOD path`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Lets so many writes through, then none.
    pub(crate) fn fail_after(&self, writes: usize) {
        self.state().writes_left = (writes != usize::MAX).then_some(writes);
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> Value {
        self.snapshot()[TENANT].clone()
    }

    /// The register.
    pub(crate) fn register(&self) -> Value {
        self.snapshot()[REGISTER].clone()
    }

    /// Images of all pods.
    pub(crate) fn pod_images(&self) -> Vec<String> {
        self.snapshot()
            .iter()
            .filter(|(path, _)| path.contains("/pods/"))
            .filter_map(|(_, pod)| Some(pod["spec"]["containers"][0]["image"].as_str()?.to_owned()))
            .collect()
    }

    /// A person applies the tenant.
    pub(crate) fn create_tenant(&self, replicas: i32) {
        self.put(TENANT, serde_json::to_value(manifest(replicas)).unwrap());
    }

    /// A person edits the tenant.
    pub(crate) fn edit_tenant(&self, edit: impl FnOnce(&mut Value)) {
        let mut tenant = self.tenant();
        edit(&mut tenant["spec"]);
        let generation = tenant["metadata"]["generation"].as_i64().unwrap();
        tenant["metadata"]["generation"] = (generation + 1).into();
        self.put(TENANT, tenant);
    }

    /// A person deletes the tenant.
    pub(crate) fn delete_tenant(&self) {
        let mut tenant = self.tenant();
        tenant["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z".into();
        self.put(TENANT, tenant);
    }

    /// Puts an object there as it is, with a new version if it differs.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state().put(path, object);
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    fn answer(&self, parts: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let path = parts.uri.path().to_owned();
        let mut state = self.state();
        if parts.method == http::Method::GET {
            return match state.objects.get(&path) {
                Some(object) => (200, object.clone()),
                None => failure(404, "NotFound"),
            };
        }
        if state.writes_left == Some(0) {
            return failure(500, "InternalError");
        }
        if let Some(left) = &mut state.writes_left {
            *left -= 1;
        }
        state.writes += 1;
        state.log.push(format!("{} {path}", parts.method));
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if parts.method == http::Method::DELETE {
            return state.delete(&path, &body);
        }
        let apply = parts.headers["content-type"]
            .to_str()
            .unwrap()
            .contains("apply-patch");
        state.patch(&path, body, apply)
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) {
        let same = self.objects.get(path).is_some_and(|present| {
            let mut present = present.clone();
            present["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            present == object
        });
        if same {
            return;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = if path == TENANT {
                UID.into()
            } else {
                format!("uid-{}", self.version).into()
            };
        }
        let finalizers = object["metadata"]["finalizers"]
            .as_array()
            .map_or(0, Vec::len);
        if object["metadata"]["deletionTimestamp"].is_string() && finalizers == 0 {
            self.objects.remove(path);
        } else {
            self.objects.insert(path.to_owned(), object);
        }
    }

    fn delete(&mut self, path: &str, parameters: &Value) -> (u16, Value) {
        let Some(present) = self.objects.get(path) else {
            return failure(404, "NotFound");
        };
        let wanted = &parameters["preconditions"]["uid"];
        if !wanted.is_null() && wanted != &present["metadata"]["uid"] {
            return failure(409, "Conflict");
        }
        let object = self.objects.remove(path).unwrap();
        (200, object)
    }

    fn patch(&mut self, url: &str, patch: Value, apply: bool) -> (u16, Value) {
        let (address, status_only) = match url.strip_suffix("/status") {
            Some(object) => (object, true),
            None => (url, false),
        };
        let present = self.objects.get(address).cloned();
        if let Some(present) = &present {
            for field in ["uid", "resourceVersion"] {
                let wanted = &patch["metadata"][field];
                if !wanted.is_null() && wanted != &present["metadata"][field] {
                    return failure(409, "Conflict");
                }
            }
        }
        let next = match (present, apply) {
            (None, true) if !status_only => patch,
            (None, _) => return failure(404, "NotFound"),
            (Some(mut present), true) if status_only => {
                present["status"] = patch["status"].clone();
                present
            }
            (Some(present), true) => applied(&present, patch),
            (Some(mut present), false) => {
                merge(&mut present, &patch);
                present
            }
        };
        let next = with_generation(self.objects.get(address), next);
        self.put(address, next.clone());
        // An object whose last finalizer went is gone, and answered all the same.
        (200, self.objects.get(address).cloned().unwrap_or(next))
    }
}

/// What one manager applies replaces what it applied before; the rest stays.
fn applied(present: &Value, mut patch: Value) -> Value {
    for field in ["uid", "generation", "finalizers", "deletionTimestamp"] {
        if !present["metadata"][field].is_null() {
            patch["metadata"][field] = present["metadata"][field].clone();
        }
    }
    if !present["status"].is_null() {
        patch["status"] = present["status"].clone();
    }
    patch["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
    patch
}

fn with_generation(present: Option<&Value>, mut next: Value) -> Value {
    let before = present.map_or(0, |present| {
        present["metadata"]["generation"]
            .as_i64()
            .unwrap_or_default()
    });
    let changed = present.is_none_or(|present| present["spec"] != next["spec"]);
    next["metadata"]["generation"] = (before + i64::from(changed)).into();
    next
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": reason, "metadata": {},
    });
    (code, status)
}

/// Names of a collection's objects, for the world's own steps.
pub(crate) fn collection(snapshot: &Snapshot, name: &str) -> BTreeMap<String, Value> {
    snapshot
        .iter()
        .filter(|(path, _)| path.contains(&format!("/{name}/")))
        .map(|(path, object)| (path.clone(), object.clone()))
        .collect()
}

/// Random-looking, always the same: hash of a pod template, as the StatefulSet's controller makes one.
pub(crate) fn revision(template: &Value) -> String {
    let digest = blake3::hash(template.to_string().as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.as_bytes()[..6])
}
