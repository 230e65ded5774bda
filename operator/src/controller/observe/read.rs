//! Reading the caches into [`Observed`].
//!
//! Everything is looked up by name, so a pass costs the same with one tenant and with thousands.
//! Two things are asked of the API server, and only while they matter: the storage class of volumes
//! that are not there yet or should grow, and the volume of a pod that no machine can take.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume},
    storage::v1::StorageClass as StorageClassObject,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::reflector::{Lookup, ObjectRef, Store},
};
use percolate_crds::{names, tenant::MAX_REPLICAS};

use super::{
    Child, ChildKind, Claim, Machine, Observed, Owner, Pod, Register, StatefulSet, StorageClass,
    Trouble,
    volume::{ClaimPhase, MachineName, machines_of},
};
use crate::{
    controller::{plan::storage::is_larger, validate::Tenant},
    watches::Caches,
};

/// Label of a node with the name its kubelet knows it by.
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// Reads what is known of a tenant.
pub async fn observe(
    tenant: &Tenant,
    caches: &Caches,
    client: &Client,
) -> Result<Observed, kube::Error> {
    let mut observed = cached(tenant, caches);
    if asks_for_class(tenant, &observed)
        && let Some(name) = &tenant.storage.class
    {
        let class = Api::<StorageClassObject>::all(client.clone())
            .get_opt(name)
            .await?;
        observed.storage_class = StorageClass::of(class.as_ref());
    }
    for ordinal in stranded(&observed) {
        if let Some(claim) = observed.claims.get_mut(&ordinal) {
            claim.on_lost_machine = is_on_lost_machine(claim, caches, client).await?;
        }
    }
    Ok(observed)
}

/// What the caches alone know.
fn cached(tenant: &Tenant, caches: &Caches) -> Observed {
    let namespace = &tenant.namespace;
    let mut observed = Observed {
        register: get(
            &caches.registers,
            &names::replication(&tenant.name),
            namespace,
        )
        .map(|object| Register {
            child: child(&*object),
            spec: object.spec.clone(),
            status: object.status.clone(),
        }),
        stateful_set: get(
            &caches.stateful_sets,
            &names::stateful_set(&tenant.name),
            namespace,
        )
        .map(|object| stateful_set(&object)),
        children: children(tenant, caches),
        ..Observed::default()
    };
    for ordinal in 0..MAX_REPLICAS {
        let name = names::pod(&tenant.name, ordinal);
        if let Some(claim) = get(&caches.claims, &names::claim(&name), namespace) {
            observed.claims.insert(ordinal, Claim::of(&claim));
        }
        if let Some(pod) = get(&caches.pods, &name, namespace) {
            let machine = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.as_deref())
                .map_or(Machine::Unknown, |node| {
                    Machine::of(caches.nodes.get(&ObjectRef::new(node)).as_deref())
                });
            observed.pods.insert(ordinal, Pod::of(&pod, machine));
        }
    }
    observed
}

fn get<K>(store: &Store<K>, name: &str, namespace: &str) -> Option<std::sync::Arc<K>>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

fn stateful_set(object: &k8s_openapi::api::apps::v1::StatefulSet) -> StatefulSet {
    let spec = &object.spec;
    let status = object.status.as_ref();
    // Before its controller has seen the latest spec, its revision speaks of an older one.
    let current =
        status.and_then(|status| status.observed_generation) == object.metadata.generation;
    StatefulSet {
        child: child(object),
        replicas: spec.replicas.unwrap_or_default(),
        update_revision: status
            .filter(|_| current)
            .and_then(|status| status.update_revision.clone()),
        volume_size: spec
            .volume_claim_templates
            .as_ref()
            .and_then(|templates| templates.first()?.spec.as_ref())
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"))
            .map(|size| size.0.clone()),
    }
}

/// What every object has.
pub fn child<K: Resource>(object: &K) -> Child {
    let annotation = |key: &str| object.annotations().get(key).cloned();
    Child {
        uid: object.meta().uid.clone().unwrap_or_default(),
        owner: object
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| Owner {
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
            }),
        tenant_label: object.labels().get(names::TENANT_LABEL).cloned(),
        desired_hash: annotation(names::DESIRED_HASH_ANNOTATION),
        authority: annotation(names::AUTHORITY_ANNOTATION),
        renew_at: annotation(names::RENEW_AT_ANNOTATION).and_then(|text| text.parse().ok()),
        deleting: object.meta().deletion_timestamp.is_some(),
    }
}

fn children(tenant: &Tenant, caches: &Caches) -> BTreeMap<(ChildKind, String), Child> {
    let mut found = BTreeMap::new();
    let name = &tenant.name;
    let node = names::node(name);
    let mut add = |kind: ChildKind, name: String, child: Option<Child>| {
        if let Some(child) = child {
            found.insert((kind, name), child);
        }
    };
    let namespace = &tenant.namespace;
    for secret in [
        names::authority_secret(name),
        names::certificate_secret(name),
        names::admin_secret(name),
    ] {
        let object = get(&caches.secrets, &secret, namespace);
        add(
            ChildKind::Secret,
            secret,
            object.map(|object| child(&*object)),
        );
    }
    for service in [
        names::headless_service(name),
        names::read_write_service(name),
        names::read_only_service(name),
    ] {
        let object = get(&caches.services, &service, namespace);
        add(
            ChildKind::Service,
            service,
            object.map(|object| child(&*object)),
        );
    }
    add(
        ChildKind::ConfigMap,
        node.clone(),
        get(&caches.config_maps, &node, namespace).map(|object| child(&*object)),
    );
    add(
        ChildKind::ServiceAccount,
        node.clone(),
        get(&caches.service_accounts, &node, namespace).map(|object| child(&*object)),
    );
    add(
        ChildKind::Role,
        node.clone(),
        get(&caches.roles, &node, namespace).map(|object| child(&*object)),
    );
    add(
        ChildKind::RoleBinding,
        node.clone(),
        get(&caches.role_bindings, &node, namespace).map(|object| child(&*object)),
    );
    let policy = names::policy(name);
    add(
        ChildKind::PodDisruptionBudget,
        policy.clone(),
        get(&caches.budgets, &policy, namespace).map(|object| child(&*object)),
    );
    add(
        ChildKind::NetworkPolicy,
        policy.clone(),
        get(&caches.policies, &policy, namespace).map(|object| child(&*object)),
    );
    found
}

/// Whether the storage class decides anything now.
fn asks_for_class(tenant: &Tenant, observed: &Observed) -> bool {
    let bound = observed
        .claims
        .values()
        .filter(|claim| claim.phase == ClaimPhase::Bound)
        .count();
    let wanted = usize::try_from(tenant.replicas).unwrap_or_default();
    bound < wanted.max(observed.claims.len())
        || observed
            .claims
            .values()
            .any(|claim| is_larger(&tenant.storage.size, claim.requested.as_deref()))
}

/// Pods that no machine can take, and that have a volume already.
fn stranded(observed: &Observed) -> Vec<i32> {
    observed
        .pods
        .iter()
        .filter(|(_, pod)| matches!(pod.trouble, Some(Trouble::Unschedulable { .. })))
        .map(|(ordinal, _)| *ordinal)
        .collect()
}

/// Whether a claim's volume names machines, and all of them are lost.
async fn is_on_lost_machine(
    claim: &Claim,
    caches: &Caches,
    client: &Client,
) -> Result<bool, kube::Error> {
    let Some(volume) = &claim.volume else {
        return Ok(false);
    };
    let volume = Api::<PersistentVolume>::all(client.clone())
        .get_opt(volume)
        .await?;
    let machines = volume.as_ref().map(machines_of).unwrap_or_default();
    Ok(!machines.is_empty()
        && machines
            .iter()
            .all(|machine| Machine::of(find(machine, &caches.nodes).as_deref()).is_lost()))
}

fn find(machine: &MachineName, nodes: &Store<Node>) -> Option<std::sync::Arc<Node>> {
    match machine {
        MachineName::Node(name) => nodes.get(&ObjectRef::new(name)),
        MachineName::Hostname(hostname) => {
            nodes.find(|node| node.labels().get(HOSTNAME_LABEL) == Some(hostname))
        }
    }
}

/// Now, by the operator's clock. The one place that reads it for a pass.
pub fn now() -> Timestamp {
    Timestamp::now()
}
