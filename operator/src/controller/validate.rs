//! The tenant's manifest, parsed once into a form in which later steps cannot fail.
//!
//! In: what the API server accepted, and the operator's defaults. Out: [`Tenant`], or the one
//! sentence a person needs to correct the manifest. The API server's own rules have already refused
//! most mistakes; what is left here is what a schema cannot say.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use percolate_crds::{
    PercolateTenant, duration, names,
    tenant::{AccessMode, DeletionPolicy, PodTemplate},
};

/// What a tenant gets where its manifest says nothing.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The node image that belongs to this operator.
    pub node_image: String,
}

/// A tenant whose every field is usable as it is.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Name of the resource and of most of its objects.
    pub name: String,
    /// Namespace of the resource and of all its objects.
    pub namespace: String,
    /// Distinguishes this tenant from a deleted one of the same name.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Identity of the data.
    pub tenant_id: String,
    /// Copies wanted.
    pub replicas: i32,
    /// Copies in sync without which writes are refused.
    pub min_in_sync: i32,
    /// Image of the nodes.
    pub image: String,
    /// The volumes.
    pub storage: Storage,
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// How long it may be silent.
    pub takeover_after: Duration,
    /// What the pods carry besides.
    pub pods: Pods,
    /// What becomes of volumes and register.
    pub deletion_policy: DeletionPolicy,
    /// Whether a deletion is held back.
    pub deletion_protection: bool,
    /// Whether the operator keeps its hands off.
    pub suspend: bool,
    /// What the annotation says by which a person gives up what only lost replicas held.
    pub accepts_data_loss: Option<String>,
    /// When deletion was asked for.
    pub deleted_at: Option<Timestamp>,
}

/// The volumes wanted.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Size of each.
    pub size: String,
    /// Class, or the cluster's default.
    pub class: Option<String>,
    /// How many pods may mount one.
    pub access_mode: AccessMode,
}

/// What the pods carry besides what every tenant's pods do.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    /// CPU and memory, if the person chose.
    pub resources: Option<ResourceRequirements>,
    /// Labels a machine must have.
    pub node_selector: BTreeMap<String, String>,
    /// Affinity.
    pub affinity: Option<Affinity>,
    /// Taints accepted.
    pub tolerations: Vec<Toleration>,
    /// How pods are spread.
    pub spread: Vec<TopologySpreadConstraint>,
    /// Priority class.
    pub priority_class: Option<String>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// More annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest no objects can be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// The API server always sets these.
    #[error("metadata.{field} is missing")]
    MissingMetadata {
        /// Which one.
        field: &'static str,
    },
    /// A duration the schema should have refused.
    #[error("spec.replication.{field} is {source}")]
    Duration {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        source: duration::ParseDurationError,
    },
    /// Affinity that is no pod affinity.
    #[error("spec.template.affinity is not what a pod's spec.affinity looks like: {reason}")]
    Affinity {
        /// Where the parser stopped.
        reason: String,
    },
}

/// Parses a tenant.
pub fn validate(tenant: &PercolateTenant, defaults: &Defaults) -> Result<Tenant, InvalidSpec> {
    let spec = &tenant.spec;
    let name = required(tenant.metadata.name.as_ref(), "name")?;
    Ok(Tenant {
        pods: pods(spec.template.as_ref(), &name)?,
        name,
        namespace: required(tenant.metadata.namespace.as_ref(), "namespace")?,
        uid: required(tenant.metadata.uid.as_ref(), "uid")?,
        generation: tenant.metadata.generation.unwrap_or_default(),
        tenant_id: tenant.tenant_id().to_owned(),
        replicas: spec.replicas,
        min_in_sync: spec.min_in_sync(),
        image: spec
            .image
            .clone()
            .unwrap_or_else(|| defaults.node_image.clone()),
        storage: Storage {
            size: spec.storage.size.clone(),
            class: spec.storage.storage_class_name.clone(),
            access_mode: spec.storage.access_mode,
        },
        heartbeat: parse_duration("heartbeat", &spec.replication.heartbeat)?,
        takeover_after: parse_duration("takeoverAfter", &spec.replication.takeover_after)?,
        deletion_policy: spec.deletion_policy,
        deletion_protection: spec.deletion_protection,
        suspend: spec.suspend,
        accepts_data_loss: tenant
            .annotations()
            .get(names::ACCEPT_DATA_LOSS_ANNOTATION)
            .cloned(),
        deleted_at: tenant
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|time| time.0),
    })
}

fn required(value: Option<&String>, field: &'static str) -> Result<String, InvalidSpec> {
    value.cloned().ok_or(InvalidSpec::MissingMetadata { field })
}

fn parse_duration(field: &'static str, text: &str) -> Result<Duration, InvalidSpec> {
    duration::parse(text).map_err(|source| InvalidSpec::Duration { field, source })
}

fn pods(template: Option<&PodTemplate>, tenant: &str) -> Result<Pods, InvalidSpec> {
    let Some(template) = template else {
        return Ok(Pods {
            spread: vec![default_spread(tenant)],
            ..Pods::default()
        });
    };
    let affinity = template
        .affinity
        .clone()
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| InvalidSpec::Affinity {
            reason: error.to_string(),
        })?;
    let spread = if template.topology_spread_constraints.is_empty() {
        vec![default_spread(tenant)]
    } else {
        template
            .topology_spread_constraints
            .iter()
            .map(|rule| {
                spread(
                    tenant,
                    rule.max_skew,
                    &rule.topology_key,
                    rule.when_unsatisfiable.as_str(),
                )
            })
            .collect()
    };
    Ok(Pods {
        resources: template
            .resources
            .as_ref()
            .map(|resources| ResourceRequirements {
                requests: Some(resources.requests.clone()).filter(|map| !map.is_empty()),
                limits: Some(resources.limits.clone()).filter(|map| !map.is_empty()),
                claims: None,
            }),
        node_selector: template.node_selector.clone(),
        affinity,
        tolerations: template.tolerations.clone(),
        spread,
        priority_class: template.priority_class_name.clone(),
        labels: template.labels.clone(),
        annotations: template.annotations.clone(),
    })
}

/// Over machines, where possible: two copies on one machine survive nothing, but a cluster of one
/// machine must still be able to run a tenant.
fn default_spread(tenant: &str) -> TopologySpreadConstraint {
    spread(tenant, 1, "kubernetes.io/hostname", "ScheduleAnyway")
}

fn spread(tenant: &str, max_skew: i32, topology_key: &str, when: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: when.to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(
                names::selector_labels(tenant)
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            ),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    }
}
