//! `PercolateReplication`: the register of a tenant, that is who leads and who is in sync.
//!
//! ```text
//! operator ──spec (minInSync, bootstrap, requests)──▶ register ◀──status (compare-and-swap)── nodes
//! ```
//!
//! The status is the one thing the whole replication protocol trusts. Nodes replace it with the
//! `resourceVersion` they read, and the transition rules below make the API server itself refuse an
//! unsafe change, whoever asks for it. Rules over the whole status stand at the root, because a rule
//! on the status field would not run when the field is removed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Most requests that can stand at one time.
pub const MAX_REQUESTS: usize = 32;
/// Most members of the in-sync set: every replica, and one replacement of each.
pub const MAX_IN_SYNC: usize = 18;
/// Most replicas the register lists, including ones about to be forgotten.
pub const MAX_KNOWN_REPLICAS: usize = 32;

/// What the operator asks of the nodes. Nodes read it and never write it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "percolationlabs.ai",
    version = "v1alpha1",
    kind = "PercolateReplication",
    plural = "percolatereplications",
    namespaced,
    status = "ReplicationStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "preplication",
    category = "percolate",
    doc = "The register of a tenant: who leads it and which replicas are in sync. Written by the operator (spec) and the tenant's nodes (status), not by people.",
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leaderPod", description = "The pod that takes writes"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", description = "Counts the leaderships"),
    printcolumn(name = "In-Sync", type_ = "string", json_path = ".status.inSync", description = "Replicas that hold every acknowledged write"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("!has(oldSelf.status) || has(self.status)").message("the status of a register cannot be erased, because it is the only record of who holds the acknowledged writes: leave it as it is"),
    validation = Rule::new("!has(self.status) || has(oldSelf.status) || self.status.epoch == 1").message("the first leader of a register has epoch 1: read the register again").field_path(".status.epoch"),
    // Here and not at the status, because who may accept a loss stands in the spec.
    validation = Rule::new("!has(self.status) || !has(oldSelf.status) || self.status.leader in oldSelf.status.inSync || (has(self.status.lossEpoch) && self.status.lossEpoch == self.status.epoch)").message("only a replica that was in sync can lead, because any other may miss acknowledged writes: bring it in sync first, or accept the loss").field_path(".status.leader"),
    validation = Rule::new("!has(self.status) || !has(oldSelf.status) || (has(self.status.lossEpoch) ? self.status.lossEpoch : 0) == (has(oldSelf.status.lossEpoch) ? oldSelf.status.lossEpoch : 0) || (has(self.status.lossEpoch) && self.status.lossEpoch == self.status.epoch && self.status.epoch > oldSelf.status.epoch && self.status.inSync.size() == 1 && has(self.spec.requests) && self.spec.requests.exists(request, request.kind == 'AcceptLoss' && request.epoch == oldSelf.status.epoch))").message("only a person can accept a loss, for the epoch of the last leader, and it begins an epoch with its leader alone in sync: read the register again").field_path(".status.lossEpoch")
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationSpec {
    /// Fewest replicas in sync at which a write may be acknowledged.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 9").message("minInSync must be between 1 and 9: correct it"))]
    pub min_in_sync: i32,

    /// Whether a node with an empty disk may become the first leader of this register.
    #[serde(default)]
    pub bootstrap: bool,

    /// What the leader is asked to do. A request stands until it is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".to_string()]))]
    pub requests: Vec<Request>,
}

/// One thing the leader is asked to do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.kind != 'Drop' || has(self.pod)").message("a Drop request must name the pod to drop: set pod").field_path(".pod"),
    validation = Rule::new("(self.kind == 'AcceptLoss') == has(self.epoch)").message("an AcceptLoss request must name the epoch of the last leader, and no other does: set epoch").field_path(".epoch")
)]
pub struct Request {
    /// Names the request, so that its answer can be found. Unique within the register.
    #[schemars(length(min = 1, max = 63))]
    pub id: String,

    /// What is asked.
    pub kind: RequestKind,

    /// The pod concerned: the successor of a `HandOver` (default: any in-sync one), the pod of a Drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pod: Option<String>,

    /// The epoch whose loss is accepted by an `AcceptLoss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epoch: Option<i64>,
}

/// What the leader can be asked to do.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Give the leadership to an in-sync replica, without losing a write.
    HandOver,
    /// Take a pod's replica out of the in-sync set and the known replicas, and keep it out while the request stands.
    Drop,
    /// Let the most complete of the remaining replicas lead without what only the lost ones held. Carried out by it, while no leader is heard.
    AcceptLoss,
}

/// Who leads and who is in sync. Written by nodes only, by compare-and-swap on the resource version.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.incarnation == oldSelf.incarnation").message("incarnation cannot change, because it names the history the replicas hold: read the register again").field_path(".incarnation"),
    validation = Rule::new("self.epoch >= oldSelf.epoch").message("epoch cannot fall, because a newer leader exists: read the register again and follow it").field_path(".epoch"),
    validation = Rule::new("self.epoch <= oldSelf.epoch + 1").message("epoch can rise by one at a time: read the register again").field_path(".epoch"),
    validation = Rule::new("self.epoch != oldSelf.epoch || self.leader == oldSelf.leader").message("an epoch has one leader: raise epoch to change the leader").field_path(".leader"),
    validation = Rule::new("self.leader in self.inSync").message("the leader must be in inSync: keep it there").field_path(".inSync")
)]
pub struct ReplicationStatus {
    /// Random id of this history, 32 hexadecimal digits. Never changes.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{32}$')").message("incarnation must be 32 hexadecimal digits: correct it"))]
    pub incarnation: String,

    /// Counts the leaderships: one more with each change of leader or restart of its process.
    #[x_kube(validation = Rule::new("self >= 1").message("epoch starts at 1: correct it"))]
    pub epoch: i64,

    /// Replica id of the leader.
    #[schemars(length(min = 1, max = 64))]
    pub leader: String,

    /// Pod of the leader, for people and routing; the identity is `leader`.
    #[schemars(length(min = 1, max = 63))]
    pub leader_pod: String,

    /// Replica ids that hold every acknowledged write. Never empty.
    #[schemars(length(max = 18), inner(length(min = 1, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.size() >= 1").message("inSync cannot be empty, because then nobody could ever lead again: keep at least the leader")
    )]
    pub in_sync: Vec<String>,

    /// The replicas that are known, in sync or not.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["replicaId".to_string()]))]
    pub replicas: Vec<KnownReplica>,

    /// Every replica in sync holds the log at least up to this index. Written with any other change.
    #[serde(default)]
    pub held_index: i64,

    /// The last change of leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Failover>,

    /// The latest epoch that began with a loss a person accepted. What stood at an index before need not be what stands there since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub loss_epoch: Option<i64>,

    /// What came of the requests that stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".to_string()]))]
    pub answers: Vec<Answer>,
}

/// A replica and where it was last seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KnownReplica {
    /// Identity of the replica, kept on its disk.
    #[schemars(length(min = 1, max = 64))]
    pub replica_id: String,
    /// The pod that mounted that disk last.
    #[schemars(length(min = 1, max = 63))]
    pub pod: String,
    /// How far it is, as the leader last said, for people: Probing (where it parts from the leader's
    /// log is being found out, or it is silent), Streaming, Snapshotting with a percentage, `InSync`.
    /// Absent where no leader has said it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub state: Option<String>,
}

/// A change of leader.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Replica id of the leader before; absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub from: Option<String>,
    /// Replica id of the leader after.
    #[schemars(length(max = 64))]
    pub to: String,
    /// Pod of the leader before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub from_pod: Option<String>,
    /// Pod of the leader after.
    #[schemars(length(max = 63))]
    pub to_pod: String,
    /// The epoch the new leader began.
    pub epoch: i64,
    /// Why the leader changed.
    pub reason: FailoverReason,
    /// When the need for a new leader was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<MicroTime>,
    /// When the new leader was entered into the register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_at: Option<MicroTime>,
    /// The new leader's last log index when it was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_index: Option<i64>,
    /// Transactions that leaders before it had not acknowledged, and that were merged since.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub rescued: i64,
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// Why a leader changed.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverReason {
    /// The leader was not heard any more.
    LeaderLost,
    /// The leader's process started again and kept its office.
    LeaderRestarted,
    /// The leader gave its office to another replica.
    HandedOver,
    /// The first leader.
    Bootstrapped,
    /// No replica in sync was left, and a person accepted the loss of what only those held.
    LossAccepted,
}

/// What came of a request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The request answered.
    #[schemars(length(min = 1, max = 63))]
    pub id: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was refused, as a sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What came of a request.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// Not carried out, and it will not be tried again under this id.
    Refused,
}

impl ReplicationStatus {
    /// Whether any replica of `pod` is in sync.
    pub fn is_in_sync(&self, pod: &str) -> bool {
        self.replicas
            .iter()
            .any(|known| known.pod == pod && self.in_sync.contains(&known.replica_id))
    }

    /// Whether the disk of an in-sync replica is in `pod`, as far as the register knows: a replica that
    /// is not in sync there says that the pod has another disk by now.
    pub fn may_lead(&self, pod: &str) -> bool {
        let mut disks = self.replicas.iter().filter(|known| known.pod == pod);
        self.is_in_sync(pod) && disks.all(|known| self.in_sync.contains(&known.replica_id))
    }

    /// The pod that mounted a replica's disk last.
    pub fn pod_of(&self, replica_id: &str) -> Option<&str> {
        self.replicas
            .iter()
            .find(|known| known.replica_id == replica_id)
            .map(|known| known.pod.as_str())
    }

    /// The answer to a request, once there is one.
    pub fn answer(&self, id: &str) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.id == id)
    }
}
