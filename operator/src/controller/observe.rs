//! What the caches show of one tenant, reduced to what decisions need.
//!
//! In: the caches (and, for a pod no machine can take, the one volume it waits for). Out:
//! [`Observed`], plain data without a client behind it. Nothing is judged here except presence:
//! what an object *means* is the business of `plan` and `status`.

pub mod machine;
pub mod pod;
pub mod read;
pub mod volume;

use std::collections::BTreeMap;

use jiff::Timestamp;
use percolate_crds::replication::{ReplicationSpec, ReplicationStatus};

pub use machine::Machine;
pub use pod::{Pod, StorageFault, Trouble};
pub use volume::{Claim, StorageClass};

/// A tenant's surroundings at one moment, as far as the caches know.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The register.
    pub register: Option<Register>,
    /// The StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// Pods by ordinal.
    pub pods: BTreeMap<i32, Pod>,
    /// Volume claims by the ordinal of their pod.
    pub claims: BTreeMap<i32, Claim>,
    /// The class the volumes are to be of.
    pub storage_class: StorageClass,
    /// Everything else the operator made, by kind and name.
    pub children: BTreeMap<(ChildKind, String), Child>,
}

/// The kinds of object a tenant consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// Credentials.
    Secret,
    /// The nodes' identity.
    ServiceAccount,
    /// What the nodes may do.
    Role,
    /// Who may do it.
    RoleBinding,
    /// The nodes' environment.
    ConfigMap,
    /// Ways to reach the nodes.
    Service,
    /// The register.
    PercolateReplication,
    /// The pods and volumes.
    StatefulSet,
    /// How many pods may be disturbed at once.
    PodDisruptionBudget,
    /// Who may talk to the pods.
    NetworkPolicy,
}

/// Who an object belongs to, and what it was last wanted to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Child {
    /// Identity.
    pub uid: String,
    /// Controlling owner, if any.
    pub owner: Option<Owner>,
    /// The tenant its label names.
    pub tenant_label: Option<String>,
    /// Hash of what was last wanted.
    pub desired_hash: Option<String>,
    /// Hash of the authorities a credential was issued under.
    pub authority: Option<String>,
    /// When a credential has to be looked at again.
    pub renew_at: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A controlling owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
}

/// The register as last seen.
#[derive(Debug, Clone)]
pub struct Register {
    /// What it shares with every other object.
    pub child: Child,
    /// What the operator asked for.
    pub spec: ReplicationSpec,
    /// What the nodes answered; absent until the first leader.
    pub status: Option<ReplicationStatus>,
}

/// The StatefulSet as last seen.
#[derive(Debug, Clone, Default)]
pub struct StatefulSet {
    /// What it shares with every other object.
    pub child: Child,
    /// Pods it is to have.
    pub replicas: i32,
    /// Revision its pods should be of, once its controller has seen the latest spec.
    pub update_revision: Option<String>,
    /// Size its volumes are made with. Cannot be changed in place.
    pub volume_size: Option<String>,
}

impl Observed {
    /// The register's status, once a leader has filled it.
    pub fn replication(&self) -> Option<&ReplicationStatus> {
        self.register.as_ref()?.status.as_ref()
    }

    /// The pod the register names as leader, when it exists.
    pub fn leader(&self) -> Option<&Pod> {
        let leader_pod = &self.replication()?.leader_pod;
        self.pods.values().find(|pod| &pod.name == leader_pod)
    }

    /// The leader's pod, when it serves.
    pub fn ready_leader(&self) -> Option<&Pod> {
        self.leader().filter(|pod| pod.is_serving())
    }

    /// Whether a replica of the pod is in sync.
    pub fn is_in_sync(&self, pod: &str) -> bool {
        self.replication()
            .is_some_and(|status| status.is_in_sync(pod))
    }
}
