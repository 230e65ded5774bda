//! `PercolateTenant`: one isolated database, as a person asks for it.
//!
//! In: the manifest. Out: a spec whose impossible combinations the API server has already refused,
//! each with a sentence that says what to do. Defaults are in the schema, except those that depend
//! on another field ([`TenantSpec::min_in_sync`]).

pub mod status;
pub mod template;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use status::{NodeRole, NodeState, NodeStatus, TenantStatus};
pub use template::PodTemplate;

/// Most replicas one tenant may have: each write waits for all of them, and the register lists them.
pub const MAX_REPLICAS: i32 = 9;
/// Fewest replicas in sync when a tenant is large enough to lose one and still have two copies.
const MIN_IN_SYNC_OF_MANY: i32 = 2;
/// Replicas up to which one copy in sync is enough for writes to go on.
const FEW_REPLICAS: i32 = 2;

/// A tenant: one private database, replicated by its own pods.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "percolationlabs.ai",
    version = "v1alpha1",
    kind = "PercolateTenant",
    plural = "percolatetenants",
    namespaced,
    status = "TenantStatus",
    derive = "PartialEq",
    shortname = "ptenant",
    category = "percolate",
    doc = "A tenant: one private database, replicated by its own pods.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the tenant serves reads and writes"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader", description = "The pod that takes writes"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.readyOfDesired", description = "Ready and desired replicas"),
    printcolumn(name = "In-Sync", type_ = "integer", json_path = ".status.inSyncReplicas", description = "Replicas that hold every acknowledged write"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", description = "Counts the leaderships", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why the tenant is or is not ready", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')").message("metadata.name must be at most 40 lower-case letters, digits and '-', start with a letter and end with a letter or digit, because Services and pods are named after it: choose another name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tenantId) == has(oldSelf.tenantId) && (!has(self.tenantId) || self.tenantId == oldSelf.tenantId)").message("tenantId cannot be changed, added or removed after creation, because the data on the volumes belongs to it: create a new tenant instead").field_path(".tenantId"),
    validation = Rule::new("self.replicas == 0 || !has(self.replication) || !has(self.replication.minInSync) || self.replication.minInSync <= self.replicas").message("replication.minInSync is larger than replicas, so no write could ever be acknowledged: lower minInSync or raise replicas").field_path(".replication.minInSync")
)]
pub struct TenantSpec {
    /// Identity of the data; names the directory on every volume. Default: the resource's name. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$')").message("tenantId must be 1 to 40 lower-case letters, digits and '-', starting and ending with a letter or digit: choose another id"))]
    pub tenant_id: Option<String>,

    /// Copies of the data, each in a pod with its own volume. 0 stops all pods and keeps volumes and register.
    #[serde(default = "default_replicas")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 9").message("replicas must be between 0 (stopped, volumes kept) and 9: choose a number in that range"))]
    pub replicas: i32,

    /// Container image of the nodes. Default: the image that belongs to the running operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[^\\\\s]+$')").message("image must be an image reference without spaces: correct it, or leave it out to use the operator's own node image"))]
    pub image: Option<String>,

    /// The volume of each replica.
    #[serde(default)]
    pub storage: StorageSpec,

    /// How the replicas keep each other in step.
    #[serde(default)]
    pub replication: ReplicationSettings,

    /// What the pods carry in addition to what the operator gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,

    /// What becomes of volumes and register when the tenant is deleted. Retain: they stay, and a tenant of the same name continues with them. Delete: they go.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Holds back a deletion, with everything running, until this is set to false.
    #[serde(default)]
    pub deletion_protection: bool,

    /// Stops the operator from changing anything of this tenant. Its nodes go on serving and failing over.
    #[serde(default)]
    pub suspend: bool,
}

/// The volume of each replica.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName cannot be changed on existing volumes: create a new tenant with the other class and import the data").field_path(".storageClassName")
)]
pub struct StorageSpec {
    /// Size of each volume. Can be raised where the storage class allows it, never lowered.
    #[serde(default = "default_size")]
    #[schemars(length(max = 20))]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("storage.size must be a quantity above zero, like 10Gi: correct it"),
        validation = Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0").message("storage.size can only grow, because a volume cannot be made smaller: keep the old size or choose a larger one")
    )]
    pub size: String,

    /// Storage class of the volumes. Default: the cluster's default class. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,

    /// `ReadWriteOncePod` where the storage driver has it, else `ReadWriteOnce`. Cannot be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("storage.accessMode cannot be changed on existing volumes: create a new tenant with the other mode and import the data"))]
    pub access_mode: AccessMode,
}

/// How many pods may mount a volume.
#[derive(
    schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq,
)]
pub enum AccessMode {
    /// One node at a time.
    #[default]
    ReadWriteOnce,
    /// One pod at a time.
    ReadWriteOncePod,
}

impl AccessMode {
    /// The name Kubernetes knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// How the replicas keep each other in step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.heartbeat.matches('^[1-9][0-9]{0,5}(ms|s|m)$') || !self.takeoverAfter.matches('^[1-9][0-9]{0,5}(ms|s|m)$') || duration(self.takeoverAfter) >= duration(self.heartbeat) + duration(self.heartbeat) + duration(self.heartbeat)").message("replication.takeoverAfter must be at least three heartbeats, or one lost packet would depose a healthy leader: raise takeoverAfter or lower heartbeat").field_path(".takeoverAfter")
)]
pub struct ReplicationSettings {
    /// Replicas that must hold a write before it is acknowledged; with fewer in sync, writes are refused. Default: 1 with up to two replicas, else 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 9").message("replication.minInSync must be between 1 and the number of replicas: choose a number in that range"))]
    pub min_in_sync: Option<i32>,

    /// How often the leader tells its followers that it lives.
    #[serde(default = "default_heartbeat")]
    #[schemars(length(max = 10))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-9][0-9]{0,5}(ms|s|m)$')").message("replication.heartbeat must be a whole number and a unit, like 500ms or 1s: correct it"),
        validation = Rule::new("!self.matches('^[1-9][0-9]{0,5}(ms|s|m)$') || (duration(self) >= duration('50ms') && duration(self) <= duration('10s'))").message("replication.heartbeat must be between 50ms and 10s: choose a value in that range")
    )]
    pub heartbeat: String,

    /// How long a follower waits without a heartbeat before it takes over.
    #[serde(default = "default_takeover_after")]
    #[schemars(length(max = 10))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-9][0-9]{0,5}(ms|s|m)$')").message("replication.takeoverAfter must be a whole number and a unit, like 2500ms or 5s: correct it"),
        validation = Rule::new("!self.matches('^[1-9][0-9]{0,5}(ms|s|m)$') || duration(self) <= duration('5m')").message("replication.takeoverAfter must be at most 5m: choose a shorter time")
    )]
    pub takeover_after: String,
}

/// What becomes of a deleted tenant's volumes and register.
#[derive(
    schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq,
)]
pub enum DeletionPolicy {
    /// They stay; a tenant of the same name continues with them.
    #[default]
    Retain,
    /// They are deleted with the tenant.
    Delete,
}

impl Default for TenantSpec {
    fn default() -> Self {
        Self {
            tenant_id: None,
            replicas: default_replicas(),
            image: None,
            storage: StorageSpec::default(),
            replication: ReplicationSettings::default(),
            template: None,
            deletion_policy: DeletionPolicy::default(),
            deletion_protection: false,
            suspend: false,
        }
    }
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self {
            size: default_size(),
            storage_class_name: None,
            access_mode: AccessMode::default(),
        }
    }
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self {
            min_in_sync: None,
            heartbeat: default_heartbeat(),
            takeover_after: default_takeover_after(),
        }
    }
}

impl TenantSpec {
    /// The fewest replicas in sync at which writes are acknowledged, for `replicas` of them.
    pub fn min_in_sync(&self) -> i32 {
        self.replication
            .min_in_sync
            .unwrap_or(if self.replicas <= FEW_REPLICAS {
                1
            } else {
                MIN_IN_SYNC_OF_MANY
            })
    }
}

impl PercolateTenant {
    /// The tenant's id: `spec.tenantId`, else the resource's name.
    pub fn tenant_id(&self) -> &str {
        self.spec
            .tenant_id
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }

    /// Metadata of the tenant, for callers that hold only the resource.
    pub fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// Labels or annotations, sorted so that hashes of objects are stable.
pub type StringMap = BTreeMap<String, String>;

fn default_replicas() -> i32 {
    2
}

fn default_size() -> String {
    "10Gi".to_owned()
}

fn default_heartbeat() -> String {
    "500ms".to_owned()
}

fn default_takeover_after() -> String {
    "2500ms".to_owned()
}
