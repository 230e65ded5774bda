//! A tenant as stories handle it: applied, watched until it is as wanted, changed, deleted.
//!
//! ```text
//! manifest ─► kubectl apply        PercolateTenant, register, pods ─► View ─► wait ─► progress lines
//! ```
//!
//! What people do is done with `kubectl`, so that a story shows the commands; what is waited for is
//! read with a client, because starting `kubectl` twice a second would slow down what is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams};
use percolate_crds::replication::ReplicationStatus;
use percolate_crds::{PercolateReplication, PercolateTenant, conditions, names};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::install::Installation;
use crate::progress::{elapsed, say};

/// How often the cluster is asked while waiting: changes take seconds.
const POLL: Duration = Duration::from_millis(300);
/// Longest wait for one answer of the API server: it may be stopped on purpose.
const ANSWER: Duration = Duration::from_secs(5);
/// Who applies what stories apply.
const FIELD_MANAGER: &str = "percolate-e2e";

/// A tenant of a story.
#[derive(Clone)]
pub struct Tenant {
    /// Where it runs.
    pub installation: Arc<Installation>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What the API server says of a tenant at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The resource; none if there is none.
    pub tenant: Option<PercolateTenant>,
    /// Who leads and who is in sync; none before the first leader.
    pub register: Option<ReplicationStatus>,
    /// Its pods, by name.
    pub pods: Vec<Pod>,
}

impl Tenant {
    /// A tenant in this namespace, applied or not.
    pub fn new(installation: Arc<Installation>, namespace: &str, name: &str) -> Self {
        Self {
            installation,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its manifest with this spec.
    pub fn manifest(&self, spec: &Value) -> Value {
        json!({
            "apiVersion": format!("{}/{}", percolate_crds::GROUP, percolate_crds::VERSION),
            "kind": "PercolateTenant",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        })
    }

    /// Applies it as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// With the API server's sentence if it refuses the manifest.
    pub async fn apply(&self, spec: &Value) -> Result<()> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(self.manifest(spec));
        self.untyped()
            .patch(&self.name, &parameters, &patch)
            .await?;
        Ok(())
    }

    /// Changes it as `kubectl patch --type=merge` does.
    pub async fn patch(&self, change: &Value) -> Result<()> {
        self.untyped()
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(change))
            .await?;
        Ok(())
    }

    /// `kubectl` in the tenant's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let whole = [&["--namespace", &self.namespace], arguments].concat();
        self.installation.run_kubectl(&whole).await
    }

    /// Deletes a pod and its volume, as if its disk were gone.
    pub async fn lose_volume(&self, pod: &str) -> Result<()> {
        let claim = names::claim(pod);
        self.kubectl(&["delete", "pvc", &claim, "--wait=false"])
            .await?;
        self.kubectl(&["delete", "pod", pod, "--wait=false"])
            .await?;
        Ok(())
    }

    /// `kubectl scale`.
    pub async fn scale(&self, replicas: i32) -> Result<String> {
        let (resource, count) = (self.resource(), format!("--replicas={replicas}"));
        self.kubectl(&["scale", &resource, &count]).await
    }

    /// `ptenant/<name>`, as it stands on command lines.
    pub fn resource(&self) -> String {
        format!("ptenant/{}", self.name)
    }

    /// Everything there is to see of it now.
    pub async fn view(&self) -> Result<View> {
        let (registers, pods) = (self.registers(), self.pods());
        let selector = ListParams::default().labels(&names::selector_string(&self.name));
        let asked = async {
            let tenant = self.tenants().get_opt(&self.name).await?;
            let register = registers.get_opt(&names::replication(&self.name)).await?;
            let pods = pods.list(&selector).await?;
            anyhow::Ok(View {
                tenant,
                register: register.and_then(|register| register.status),
                pods: pods.items,
            })
        };
        timeout(ANSWER, asked)
            .await
            .context("the API server does not answer")?
    }

    /// Waits until `condition` holds and says every change on the way.
    ///
    /// # Errors
    /// When `limit` has passed, with what was last seen.
    pub async fn wait(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&View) -> bool,
    ) -> Result<View> {
        let begun = Instant::now();
        let mut said = String::new();
        loop {
            match self.view().await {
                Ok(view) => {
                    let line = view.line();
                    if line != said {
                        say(&format!("    {}: {line}", self.name));
                        said = line;
                    }
                    if condition(&view) {
                        say(&format!("  {what}: after {}", elapsed(begun.elapsed())));
                        return Ok(view);
                    }
                }
                Err(error) => said = format!("{error:#}"),
            }
            if begun.elapsed() >= limit {
                bail!(
                    "{what}: not so within {} s. {}: {said}",
                    limit.as_secs(),
                    self.name
                );
            }
            sleep(POLL).await;
        }
    }

    /// Waits until everything is as the spec says, with `replicas` of them in sync.
    pub async fn wait_settled(&self, replicas: usize, limit: Duration) -> Result<View> {
        let what = format!(
            "{} has {replicas} replicas in sync and is settled",
            self.name
        );
        self.wait(&what, limit, |view| view.is_settled(replicas))
            .await
    }

    /// Waits until a condition has this status and reason.
    pub async fn wait_condition(
        &self,
        kind: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> Result<Condition> {
        let what = format!("{} is {kind}={status} ({reason})", self.name);
        let is_so =
            |condition: &Condition| condition.status == status && condition.reason == reason;
        let view = self
            .wait(&what, limit, |view| view.condition(kind).is_some_and(is_so))
            .await?;
        view.condition(kind)
            .cloned()
            .context("the condition is gone again")
    }

    /// Deletes it and waits until it is gone.
    pub async fn delete(&self, limit: Duration) -> Result<()> {
        let (resource, limit) = (self.resource(), format!("--timeout={}s", limit.as_secs()));
        self.kubectl(&["delete", &resource, "--ignore-not-found", &limit])
            .await
            .map(drop)
    }

    fn tenants(&self) -> kube::Api<PercolateTenant> {
        kube::Api::namespaced(self.installation.client.clone(), &self.namespace)
    }

    /// Not by its type: a story may apply what the type does not allow.
    fn untyped(&self) -> kube::Api<kube::api::DynamicObject> {
        kube::Api::namespaced_with(
            self.installation.client.clone(),
            &self.namespace,
            &kube::api::ApiResource::erase::<PercolateTenant>(&()),
        )
    }

    fn registers(&self) -> kube::Api<PercolateReplication> {
        kube::Api::namespaced(self.installation.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> kube::Api<Pod> {
        kube::Api::namespaced(self.installation.client.clone(), &self.namespace)
    }
}

/// Makes a namespace in which only pods without any privilege may run, as tenants' should be.
pub async fn create_namespace(installation: &Installation, name: &str) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }))?;
    let api = kube::Api::<Namespace>::all(installation.client.clone());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &parameters, &Patch::Apply(&namespace))
        .await?;
    Ok(())
}

impl View {
    /// A condition of the tenant.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        let conditions = &self.tenant.as_ref()?.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Whether a condition has this status.
    pub fn is(&self, kind: &str, status: &str) -> bool {
        self.condition(kind)
            .is_some_and(|condition| condition.status == status)
    }

    /// The pod that the register names as leader.
    pub fn leader(&self) -> Option<&str> {
        Some(self.register.as_ref()?.leader_pod.as_str())
    }

    /// The epoch that the register is at; 0 before the first leader.
    pub fn epoch(&self) -> i64 {
        self.register.as_ref().map_or(0, |register| register.epoch)
    }

    /// How many replicas are in sync.
    pub fn in_sync(&self) -> usize {
        self.register
            .as_ref()
            .map_or(0, |register| register.in_sync.len())
    }

    /// A pod in sync that does not lead.
    pub fn follower(&self) -> Option<String> {
        let register = self.register.as_ref()?;
        self.ready_pods()
            .into_iter()
            .find(|pod| *pod != register.leader_pod && register.is_in_sync(pod))
            .map(str::to_owned)
    }

    /// Pods that Kubernetes counts as ready and that are not on their way out.
    pub fn ready_pods(&self) -> Vec<&str> {
        self.pods
            .iter()
            .filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| pod.metadata.name.as_deref())
            .collect()
    }

    /// How a pod, or the replica in it, is said to be in the tenant's status.
    pub fn state(&self, pod: &str) -> Option<String> {
        let status = self.tenant.as_ref()?.status.as_ref()?;
        let node = status.nodes.iter().find(|node| node.name == pod)?;
        Some(node.state.clone().into())
    }

    /// The replica in `pod`, if it is in sync.
    pub fn in_sync_replica(&self, pod: &str) -> Option<String> {
        let register = self.register.as_ref()?;
        let mut known = register.replicas.iter();
        known
            .find(|known| known.pod == pod && register.in_sync.contains(&known.replica_id))
            .map(|known| known.replica_id.clone())
    }

    /// The unique id of a pod: another one means that the pod was made anew.
    pub fn uid(&self, pod: &str) -> Option<&str> {
        self.pods
            .iter()
            .find(|found| found.metadata.name.as_deref() == Some(pod))?
            .metadata
            .uid
            .as_deref()
    }

    /// The cluster's node that a pod runs on.
    pub fn node_of(&self, pod: &str) -> Option<&str> {
        self.pods
            .iter()
            .find(|found| found.metadata.name.as_deref() == Some(pod))?
            .spec
            .as_ref()?
            .node_name
            .as_deref()
    }

    /// Whether everything is as the spec says, and the operator has said so about this very spec.
    pub fn is_settled(&self, replicas: usize) -> bool {
        let is_observed = self.tenant.as_ref().is_some_and(|tenant| {
            let observed = tenant
                .status
                .as_ref()
                .and_then(|status| status.observed_generation);
            observed.is_some() && observed == tenant.metadata.generation
        });
        is_observed
            && self.is(conditions::READY, "True")
            && self.is(conditions::RECONCILING, "False")
            && self.in_sync() == replicas
            && self.pods.len() == replicas
            && self.ready_pods().len() == replicas
    }

    /// All of it in one line, for people who wait.
    pub fn line(&self) -> String {
        let condition = |kind: &str| {
            self.condition(kind).map_or_else(
                || format!("{kind}=?"),
                |condition| format!("{kind}={} ({})", condition.status, condition.reason),
            )
        };
        let pods: Vec<String> = self.pods.iter().map(pod_word).collect();
        format!(
            "{} {} leader={} epoch={} in-sync={} [{}]",
            condition(conditions::READY),
            condition(conditions::RECONCILING),
            self.leader().unwrap_or("none"),
            self.epoch(),
            self.in_sync(),
            pods.join(" ")
        )
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

fn pod_word(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let status = pod.status.as_ref();
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let waiting = container.and_then(|container| {
        container
            .state
            .as_ref()?
            .waiting
            .as_ref()?
            .reason
            .as_deref()
    });
    let phase = status.and_then(|status| status.phase.as_deref());
    let word = if pod.metadata.deletion_timestamp.is_some() {
        "terminating"
    } else if is_ready(pod) {
        "ready"
    } else {
        waiting.or(phase).unwrap_or("unknown")
    };
    let restarts = container.map_or(0, |container| container.restart_count);
    if restarts > 0 {
        format!("{name}:{word}({restarts} restarts)")
    } else {
        format!("{name}:{word}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(ready: &str, observed: i64, in_sync: &[&str], pods: &[(&str, &str)]) -> View {
        let tenant = json!({
            "metadata": {"name": "acme", "generation": 2},
            "spec": {},
            "status": {
                "observedGeneration": observed,
                "conditions": [
                    condition("Ready", ready, "Serving"),
                    condition("Reconciling", "False", "AsDesired"),
                ],
            },
        });
        let replicas: Vec<Value> = in_sync
            .iter()
            .map(|pod| json!({"replicaId": format!("id-{pod}"), "pod": pod}))
            .collect();
        let register = json!({
            "incarnation": "0", "epoch": 1, "leader": "id-acme-0", "leaderPod": "acme-0",
            "inSync": in_sync.iter().map(|pod| format!("id-{pod}")).collect::<Vec<_>>(),
            "replicas": replicas,
        });
        let pods = pods.iter().map(|(name, ready)| {
            json!({
                "metadata": {"name": name, "uid": name},
                "status": {"conditions": [{"type": "Ready", "status": ready}], "phase": "Running"},
            })
        });
        View {
            tenant: Some(serde_json::from_value(tenant).unwrap()),
            register: Some(serde_json::from_value(register).unwrap()),
            pods: pods
                .map(|pod| serde_json::from_value(pod).unwrap())
                .collect(),
        }
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    #[test]
    fn a_tenant_is_settled_only_when_nothing_is_missing() {
        let both = [("acme-0", "True"), ("acme-1", "True")];
        let in_sync = ["acme-0", "acme-1"];
        let cases = [
            ("all there", view("True", 2, &in_sync, &both), true),
            ("not ready", view("False", 2, &in_sync, &both), false),
            (
                "an older spec was judged",
                view("True", 1, &in_sync, &both),
                false,
            ),
            (
                "one is not in sync",
                view("True", 2, &in_sync[..1], &both),
                false,
            ),
            (
                "one pod is missing",
                view("True", 2, &in_sync, &both[..1]),
                false,
            ),
            (
                "one pod is not ready",
                view(
                    "True",
                    2,
                    &in_sync,
                    &[("acme-0", "True"), ("acme-1", "False")],
                ),
                false,
            ),
        ];
        for (case, view, expected) in cases {
            assert_eq!(view.is_settled(2), expected, "{case}: {}", view.line());
        }
    }

    #[test]
    fn a_follower_is_ready_in_sync_and_not_the_leader() {
        let both = [("acme-0", "True"), ("acme-1", "True")];
        assert_eq!(
            view("True", 2, &["acme-0", "acme-1"], &both).follower(),
            Some("acme-1".to_owned())
        );
        assert_eq!(view("True", 2, &["acme-0"], &both).follower(), None);
    }

    #[test]
    fn the_line_says_who_leads_and_how_the_pods_are() {
        let line = view(
            "True",
            2,
            &["acme-0"],
            &[("acme-0", "True"), ("acme-1", "False")],
        )
        .line();
        assert_eq!(
            line,
            "Ready=True (Serving) Reconciling=False (AsDesired) leader=acme-0 epoch=1 in-sync=1 \
             [acme-0:ready acme-1:Running]"
        );
    }
}
