//! What a person may add to a tenant's pods: a small, named subset instead of a whole `PodSpec`.
//!
//! Everything here is passed on; nothing here can loosen the pod's security or rename what the
//! operator's selectors rely on.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::api::resource::Quantity};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::StringMap;

/// What the pods carry in addition to what the operator gives them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// CPU and memory of the database container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Labels a node must have to run a pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: StringMap,

    /// Affinity of the pods, in the form of a pod's `spec.affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub affinity: Option<serde_json::Value>,

    /// Taints the pods accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,

    /// How the pods of the tenant are spread. Default: over nodes, where possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub topology_spread_constraints: Vec<Spread>,

    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,

    /// More labels on the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('percolationlabs.ai/') && !key.startsWith('app.kubernetes.io/'))").message("template.labels must not set percolationlabs.ai/ or app.kubernetes.io/ labels, because the operator selects pods by them: use another prefix"))]
    pub labels: StringMap,

    /// More annotations on the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('percolationlabs.ai/'))").message("template.annotations must not set percolationlabs.ai/ annotations, because the operator keeps its own there: use another prefix"))]
    pub annotations: StringMap,
}

/// CPU and memory of a container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub requests: BTreeMap<String, Quantity>,

    /// What the container may not exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub limits: BTreeMap<String, Quantity>,
}

/// How the pods of the tenant are spread over one kind of place.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// By how many pods the fullest and the emptiest place may differ.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self >= 1").message("maxSkew must be at least 1: correct it"))]
    pub max_skew: i32,

    /// The node label that names the place, like `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,

    /// What to do with a pod that would break the rule.
    #[serde(default)]
    pub when_unsatisfiable: Unsatisfiable,
}

/// What to do with a pod that would break a spread rule.
#[derive(
    schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq,
)]
pub enum Unsatisfiable {
    /// Place it where the rule is broken least.
    #[default]
    ScheduleAnyway,
    /// Leave it unscheduled.
    DoNotSchedule,
}

impl Unsatisfiable {
    /// The name Kubernetes knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScheduleAnyway => "ScheduleAnyway",
            Self::DoNotSchedule => "DoNotSchedule",
        }
    }
}

fn one() -> i32 {
    1
}

/// Affinity is a deep, rarely used tree: spelling it out would double the CRD, so the API server
/// checks it when the StatefulSet is written, and a mistake shows as a condition.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
