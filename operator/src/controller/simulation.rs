//! The whole pass against a small world in memory: an API server, the StatefulSet's controller, and
//! nodes that lead, follow and answer requests.
//!
//! ```text
//! caches(world, as fresh or as old as the test says) ─▶ reconcile ─▶ writes ─▶ world ─▶ its own step ─▶ …
//! ```
//!
//! What is shown: the operator comes to rest and then writes nothing; cut off after any write, or
//! deciding on an old view, it comes to the same rest; and volumes are only ever deleted when their
//! replica was dropped.

pub(super) mod server;
pub(super) mod world;

use std::sync::Arc;

use kube::runtime::{
    reflector::{Store, store},
    watcher::Event,
};
use percolate_crds::PercolateTenant;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::{server::Server, world::step};
use super::{
    desired::Surroundings,
    fixtures::{defaults, delays},
    reconcile::{Context, reconcile},
};
use crate::{
    backoff::Backoff, error::ReconcileError, events::Events, metrics::Metrics, watches::Caches,
};

/// Passes after which a world that still moves is called restless.
const PATIENCE: usize = 60;

/// Everything an API server holds at one moment.
pub(super) type Snapshot = std::collections::BTreeMap<String, Value>;

fn cache<K>(snapshot: &Snapshot, collection: &str) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + 'static,
{
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for (path, object) in snapshot {
        if path.contains(&format!("/{collection}/")) {
            let object = serde_json::from_value(object.clone())
                .unwrap_or_else(|error| panic!("{path}: {error}: {object}"));
            writer.apply_watcher_event(&Event::InitApply(object));
        }
    }
    writer.apply_watcher_event(&Event::InitDone);
    reader
}

fn caches(snapshot: &Snapshot) -> Caches {
    Caches {
        tenants: cache(snapshot, "percolatetenants"),
        registers: cache(snapshot, "percolatereplications"),
        stateful_sets: cache(snapshot, "statefulsets"),
        pods: cache(snapshot, "pods"),
        claims: cache(snapshot, "persistentvolumeclaims"),
        nodes: cache(snapshot, "nodes"),
        secrets: cache(snapshot, "secrets"),
        config_maps: cache(snapshot, "configmaps"),
        services: cache(snapshot, "services"),
        service_accounts: cache(snapshot, "serviceaccounts"),
        roles: cache(snapshot, "roles"),
        role_bindings: cache(snapshot, "rolebindings"),
        budgets: cache(snapshot, "poddisruptionbudgets"),
        policies: cache(snapshot, "networkpolicies"),
    }
}

/// One pass of an operator that has just started and sees what `seen` shows.
async fn pass(server: &Server, seen: &Snapshot) -> Result<(), ReconcileError> {
    let metrics = Arc::new(Metrics::default());
    let client = server.client();
    let (events, _worker) =
        Events::start(Server::deaf_client(), "test".to_owned(), metrics.clone());
    let caches = caches(seen);
    let tenant: Option<Arc<PercolateTenant>> = caches.tenants.state().into_iter().next();
    let Some(tenant) = tenant else {
        return Ok(());
    };
    let context = Context {
        client,
        caches,
        events,
        backoff: Backoff::default(),
        metrics,
        defaults: defaults(),
        surroundings: Surroundings {
            api_server_ports: vec![443],
        },
        delays: delays(),
    };
    reconcile(tenant, Arc::new(context)).await.map(|_| ())
}

/// How the operator is disturbed on the way.
#[derive(Debug, Clone, Copy)]
enum Disturbance {
    /// Not at all.
    None,
    /// It is cut off after so many writes, once.
    CrashAfter(usize),
    /// Its caches are always one pass behind.
    StaleCaches,
}

/// Passes until nothing moves any more. The number of passes.
async fn settle(server: &Server, disturbance: Disturbance) -> usize {
    let mut seen = server.snapshot();
    if let Disturbance::CrashAfter(writes) = disturbance {
        server.fail_after(writes);
    }
    let mut quiet = 0;
    for passes in 1..=PATIENCE {
        let before = server.snapshot();
        let view = match disturbance {
            Disturbance::StaleCaches => std::mem::replace(&mut seen, before.clone()),
            _ => before.clone(),
        };
        // A failed pass is simply made again, as the controller does.
        let result = pass(server, &view).await;
        server.fail_after(usize::MAX);
        step(server);
        quiet = if result.is_ok() && server.snapshot() == before {
            quiet + 1
        } else {
            0
        };
        // Old caches need one pass more to be sure of.
        if quiet == 3 {
            return passes;
        }
    }
    panic!("still moving after {PATIENCE} passes: {:#?}", server.log());
}

/// A life of a tenant: created, scaled up, given another image, scaled down.
async fn life(disturbance: Disturbance) -> Server {
    let server = Server::default();
    server.create_tenant(2);
    settle(&server, disturbance).await;
    server.edit_tenant(|spec| spec["replicas"] = 3.into());
    settle(&server, disturbance).await;
    server.edit_tenant(|spec| spec["image"] = "example.org/percolate-node:2".into());
    settle(&server, disturbance).await;
    server.edit_tenant(|spec| spec["replicas"] = 1.into());
    settle(&server, disturbance).await;
    server
}

/// What the end of a life must look like, however it came about.
fn end(server: &Server) -> Vec<String> {
    server
        .snapshot()
        .into_iter()
        .map(|(path, object)| {
            let hash = &object["metadata"]["annotations"]["percolationlabs.ai/desired-hash"];
            format!("{path} {}", hash.as_str().unwrap_or_default())
        })
        .collect()
}

fn deleted_claims(server: &Server) -> Vec<String> {
    let mut claims: Vec<String> = server
        .log()
        .into_iter()
        .filter(|line| line.starts_with("DELETE") && line.contains("persistentvolumeclaims"))
        .filter_map(|line| line.rsplit('/').next().map(str::to_owned))
        .collect();
    claims.sort();
    claims.dedup();
    claims
}

#[tokio::test]
async fn a_settled_tenant_costs_no_write() {
    let server = Server::default();
    server.create_tenant(3);
    settle(&server, Disturbance::None).await;
    let before = server.writes();
    for _ in 0..5 {
        pass(&server, &server.snapshot()).await.unwrap();
    }
    assert_eq!(server.writes(), before, "{:#?}", server.log());
    let tenant = server.tenant();
    assert_eq!(tenant["status"]["readyOfDesired"], "3/3");
    let ready = &tenant["status"]["conditions"][0];
    assert_eq!(
        (ready["type"].as_str(), ready["status"].as_str()),
        (Some("Ready"), Some("True"))
    );
}

#[tokio::test]
async fn a_life_ends_as_its_last_manifest_says() {
    let server = life(Disturbance::None).await;
    let names: Vec<String> = end(&server)
        .iter()
        .filter(|line| line.contains("/pods/") || line.contains("persistentvolumeclaims"))
        .filter_map(|line| line.trim().rsplit('/').next().map(str::to_owned))
        .collect();
    assert_eq!(names, ["data-acme-0", "acme-0"]);
    assert_eq!(deleted_claims(&server), ["data-acme-1", "data-acme-2"]);
    assert_eq!(server.register()["spec"]["requests"], Value::Null);
    assert_eq!(server.register()["spec"]["bootstrap"], false);
    assert_eq!(server.pod_images(), ["example.org/percolate-node:2"]);
}

#[tokio::test]
async fn cut_off_after_any_write_it_ends_in_the_same_place() {
    let undisturbed = life(Disturbance::None).await;
    for writes in 0..24 {
        let disturbed = life(Disturbance::CrashAfter(writes)).await;
        assert_eq!(end(&disturbed), end(&undisturbed), "after {writes} writes");
        assert_eq!(
            deleted_claims(&disturbed),
            deleted_claims(&undisturbed),
            "after {writes} writes"
        );
    }
}

#[tokio::test]
async fn deciding_on_an_old_view_it_ends_in_the_same_place() {
    let undisturbed = life(Disturbance::None).await;
    let disturbed = life(Disturbance::StaleCaches).await;
    assert_eq!(end(&disturbed), end(&undisturbed));
    assert_eq!(deleted_claims(&disturbed), deleted_claims(&undisturbed));
}

#[tokio::test]
async fn a_stopped_tenant_keeps_its_volumes_and_goes_on_with_them() {
    let server = Server::default();
    server.create_tenant(2);
    settle(&server, Disturbance::None).await;
    let incarnation = server.register()["status"]["incarnation"].clone();
    server.edit_tenant(|spec| spec["replicas"] = 0.into());
    settle(&server, Disturbance::None).await;
    assert_eq!(server.pod_images(), [""; 0]);
    assert_eq!(server.register()["status"]["incarnation"], incarnation);
    server.edit_tenant(|spec| spec["replicas"] = 2.into());
    settle(&server, Disturbance::None).await;
    assert_eq!(server.pod_images().len(), 2);
    assert_eq!(server.register()["status"]["incarnation"], incarnation);
    assert_eq!(deleted_claims(&server), [""; 0]);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_and_the_rest_is_made() {
    let server = Server::default();
    server.create_tenant(1);
    let path = "/api/v1/namespaces/tenants/services/acme-rw";
    server.put(
        path,
        serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "acme-rw", "namespace": "tenants"},
        }),
    );
    let mine = server.snapshot()[path].clone();
    let error = pass(&server, &server.snapshot()).await.unwrap_err();
    assert!(matches!(error, ReconcileError::Taken { .. }), "{error}");
    assert_eq!(server.snapshot()[path], mine);
    assert!(
        server
            .snapshot()
            .keys()
            .any(|path| path.contains("statefulsets"))
    );
    let conditions = server.tenant()["status"]["conditions"].to_string();
    assert!(conditions.contains("NameTaken"), "{conditions}");
}

#[tokio::test]
async fn a_suspended_tenant_is_not_touched() {
    let server = Server::default();
    server.create_tenant(2);
    settle(&server, Disturbance::None).await;
    server.edit_tenant(|spec| {
        spec["suspend"] = true.into();
        spec["replicas"] = 3.into();
    });
    settle(&server, Disturbance::None).await;
    assert_eq!(server.pod_images().len(), 2);
    assert!(
        server.tenant()["status"]["conditions"]
            .to_string()
            .contains("SuspendedBySpec")
    );
}

#[tokio::test]
async fn a_protected_tenant_outlives_its_deletion_until_the_protection_is_lifted() {
    let server = Server::default();
    server.create_tenant(1);
    server.edit_tenant(|spec| {
        spec["deletionProtection"] = true.into();
        spec["deletionPolicy"] = "Delete".into();
    });
    settle(&server, Disturbance::None).await;
    server.delete_tenant();
    settle(&server, Disturbance::None).await;
    assert_eq!(server.pod_images().len(), 1);
    assert_eq!(server.count("persistentvolumeclaims"), 1);
    server.edit_tenant(|spec| spec["deletionProtection"] = false.into());
    pass(&server, &server.snapshot()).await.unwrap();
    assert_eq!(server.count("percolatetenants"), 0);
    assert_eq!(server.count("persistentvolumeclaims"), 0);
}
