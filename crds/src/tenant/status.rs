//! What the operator reports about a tenant. Small, rebuilt from observation at every pass, and
//! free of numbers that move all the time (lag is a metric, not status).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::replication::Failover;

/// What the operator last saw of the tenant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,

    /// Pods that serve.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Ready and desired replicas, as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_of_desired: Option<String>,

    /// Replicas that hold every acknowledged write.
    #[serde(default)]
    pub in_sync_replicas: i32,

    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The pod that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,

    /// Counts the leaderships.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,

    /// The image the pods should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// The pods, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub nodes: Vec<NodeStatus>,

    /// The last change of leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Failover>,

    /// Ready, Reconciling, Stalled, `LeaderElected`, `ReplicationHealthy`, `StorageHealthy`, Suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

/// One pod of a tenant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The pod.
    pub name: String,

    /// The replica on its volume, once the register knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<String>,

    /// What the register says it is.
    pub role: NodeRole,

    /// How the pod is (Ready, `NotReady`, Pending, Terminating, Lost), or, while it runs, how far its
    /// replica is: Probing, Streaming, Snapshotting with a percentage, `InSync`.
    #[schemars(with = "String", length(max = 63))]
    pub state: NodeState,

    /// Zone of the machine it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What the register says a replica is.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Takes writes.
    Leader,
    /// In sync.
    Follower,
    /// Catching up, or not yet known.
    Learner,
}

impl NodeRole {
    /// The value of the role label.
    pub fn as_label(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Learner => "learner",
        }
    }
}

/// How a pod is, or how far the replica is that runs in it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(from = "String", into = "String")]
pub enum NodeState {
    /// Serves, and no leader has said yet how far its replica is.
    Ready,
    /// Runs, and is not ready to serve.
    NotReady,
    /// Waits for a machine, a volume or an image.
    Pending,
    /// Shuts down.
    Terminating,
    /// Its machine does not answer.
    Lost,
    /// Runs, and its replica is so far: what the register says.
    Replica(String),
}

impl From<String> for NodeState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "Ready" => Self::Ready,
            "NotReady" => Self::NotReady,
            "Pending" => Self::Pending,
            "Terminating" => Self::Terminating,
            "Lost" => Self::Lost,
            _ => Self::Replica(text),
        }
    }
}

impl From<NodeState> for String {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Ready => "Ready".to_owned(),
            NodeState::NotReady => "NotReady".to_owned(),
            NodeState::Pending => "Pending".to_owned(),
            NodeState::Terminating => "Terminating".to_owned(),
            NodeState::Lost => "Lost".to_owned(),
            NodeState::Replica(state) => state,
        }
    }
}
