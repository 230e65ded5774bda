//! The role label of each pod, by which the `-rw` Service finds the leader.

use percolate_crds::tenant::NodeRole;

use super::Act;
use crate::controller::observe::{Observed, Pod};

/// Labels that differ from the register, the new leader's first: between the two writes the Service
/// then has two pods, of which the old one forwards, and never none.
pub fn plan(observed: &Observed) -> Vec<Act> {
    let mut acts: Vec<(NodeRole, Act)> = observed
        .pods
        .values()
        .filter(|pod| !pod.deleting)
        .filter_map(|pod| {
            let role = role_of(observed, pod);
            (pod.role.as_deref() != Some(role.as_label())).then(|| {
                let act = Act::LabelPod {
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                    role,
                };
                (role, act)
            })
        })
        .collect();
    acts.sort_by_key(|(role, _)| *role != NodeRole::Leader);
    acts.into_iter().map(|(_, act)| act).collect()
}

/// What the register says a pod is.
pub fn role_of(observed: &Observed, pod: &Pod) -> NodeRole {
    match observed.replication() {
        Some(status) if status.leader_pod == pod.name => NodeRole::Leader,
        Some(status) if status.is_in_sync(&pod.name) => NodeRole::Follower,
        _ => NodeRole::Learner,
    }
}
