//! The objects a tenant consists of, as they should be now.
//!
//! In: [`Tenant`], [`Plan`], [`Observed`] (only for what cannot be changed in place). Out:
//! [`Desired`] objects in the order they are to exist, each with the hash by which a later pass
//! knows that nothing has to be written. Pure and infallible. Credentials are not here: they are
//! made from randomness and time (`crate::credentials`).

pub mod access;
pub mod policies;
pub mod register;
pub mod services;
pub mod settings;
pub mod stateful_set;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use percolate_crds::{GROUP, VERSION, names};
use serde::Serialize;
use serde_json::Value;

use super::{
    observe::{ChildKind, Observed},
    plan::Plan,
    validate::Tenant,
};

/// Hexadecimal digits of a hash in an annotation: enough that two wishes never look alike.
const HASH_DIGITS: usize = 32;

/// An object as it should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// Hash of everything below, itself excluded.
    pub hash: String,
    /// The object, with the hash among its annotations.
    pub object: Value,
}

/// What cannot be learned from a tenant: facts about the cluster.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Ports on which the API server may be reached, for the nodes' NetworkPolicy.
    pub api_server_ports: Vec<i32>,
}

/// Makes the objects, in the order in which each finds what it needs.
pub fn desired(
    tenant: &Tenant,
    plan: &Plan,
    observed: &Observed,
    surroundings: &Surroundings,
) -> Vec<Desired> {
    let mut objects = access::objects(tenant);
    let settings = settings::config_map(tenant);
    let settings_hash = hash_of(&settings.data);
    objects.push(seal(ChildKind::ConfigMap, &settings));
    objects.extend(services::objects(tenant));
    objects.extend(policies::objects(tenant, &surroundings.api_server_ports));
    // The register before the pods: its absence beside volumes means that history was lost.
    if let Some(register) = &plan.register {
        objects.push(seal(
            ChildKind::PercolateReplication,
            &register::register(tenant, register),
        ));
    }
    if let Some(replicas) = plan.replicas {
        let set = stateful_set::stateful_set(
            tenant,
            replicas,
            observed.stateful_set.as_ref(),
            &settings_hash,
        );
        objects.push(seal(ChildKind::StatefulSet, &set));
    }
    objects
}

/// Metadata every object of a tenant carries.
pub fn metadata(tenant: &Tenant, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(tenant.namespace.clone()),
        labels: Some(labels(&tenant.name)),
        owner_references: Some(vec![owner_reference(tenant)]),
        ..ObjectMeta::default()
    }
}

/// Labels every object of a tenant carries.
pub fn labels(tenant: &str) -> BTreeMap<String, String> {
    names::selector_labels(tenant)
        .into_iter()
        .chain([
            (names::APP_PART_OF, names::PERCOLATE.to_owned()),
            (names::APP_MANAGED_BY, names::MANAGED_BY.to_owned()),
            (names::TENANT_LABEL, tenant.to_owned()),
        ])
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Labels that select a tenant's pods.
pub fn selector(tenant: &str) -> BTreeMap<String, String> {
    names::selector_labels(tenant)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Makes an object go when its tenant goes.
pub fn owner_reference(tenant: &Tenant) -> OwnerReference {
    OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "PercolateTenant".to_owned(),
        name: tenant.name.clone(),
        uid: tenant.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Hash of anything that serialises, stable over restarts and releases.
pub fn hash_of(value: &impl Serialize) -> String {
    // Desired objects are plain data with string keys: serialising them cannot fail, and an empty
    // text would only cost a superfluous write.
    let canonical = serde_json::to_value(value)
        .map(|value| value.to_string())
        .unwrap_or_default();
    let mut digits = blake3::hash(canonical.as_bytes()).to_hex().to_string();
    digits.truncate(HASH_DIGITS);
    digits
}

/// Adds kind and hash to a typed object.
pub fn seal<K>(kind: ChildKind, object: &K) -> Desired
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = Value::from(K::api_version(&()).into_owned());
    value["kind"] = Value::from(K::kind(&()).into_owned());
    let hash = hash_of(&value);
    value["metadata"]["annotations"][names::DESIRED_HASH_ANNOTATION] = Value::from(hash.clone());
    Desired {
        kind,
        name: object.meta().name.clone().unwrap_or_default(),
        hash,
        object: value,
    }
}

#[cfg(test)]
mod tests;
