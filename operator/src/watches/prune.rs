//! What is thrown away before an object is kept: what nobody reads, and what is large.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Node, NodeSpec, NodeStatus, PersistentVolumeClaim, Pod, PodSpec},
};
use kube::{Resource, ResourceExt as _};

/// Annotation in which `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Field managers and copies of the object in its own annotations.
pub fn metadata<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove(LAST_APPLIED);
}

/// A pod keeps its machine and how it is.
pub fn pod(pod: &mut Pod) {
    metadata(pod);
    pod.annotations_mut().clear();
    if let Some(spec) = pod.spec.take() {
        pod.spec = Some(PodSpec {
            node_name: spec.node_name,
            ..PodSpec::default()
        });
    }
    if let Some(status) = &mut pod.status {
        status.pod_ips = None;
        status.host_ips = None;
        status.init_container_statuses = None;
        status.ephemeral_container_statuses = None;
    }
}

/// A StatefulSet keeps its size and the size of its volumes; its pod template is only ever written.
pub fn stateful_set(set: &mut StatefulSet) {
    metadata(set);
    set.spec.template.metadata = None;
    set.spec.template.spec = None;
}

/// A claim keeps everything but its history.
pub fn claim(claim: &mut PersistentVolumeClaim) {
    metadata(claim);
    claim.annotations_mut().clear();
}

/// A machine keeps its labels and whether it is ready.
pub fn node(node: &mut Node) {
    metadata(node);
    node.annotations_mut().clear();
    node.spec = None::<NodeSpec>;
    if let Some(status) = node.status.take() {
        node.status = Some(NodeStatus {
            conditions: status.conditions.map(|conditions| {
                conditions
                    .into_iter()
                    .filter(|condition| condition.type_ == "Ready")
                    // The heartbeat moves all the time and is never read.
                    .map(|mut condition| {
                        condition.last_heartbeat_time = None;
                        condition
                    })
                    .collect()
            }),
            ..NodeStatus::default()
        });
    }
}
