//! What to do next for a tenant, decided from what is wanted, what is there, and the time.
//!
//! In: [`Tenant`], [`Observed`], [`Delays`], now. Out: [`Plan`]: the few free choices inside the
//! desired objects (how many pods, what to ask the leader), deletions and other single acts, and
//! what to tell people. Pure: the same input gives the same plan, so a pass that was cut short is
//! simply planned again.
//!
//! The order of precedence is fixed here: what is lost is repaired first, then pods are added or
//! removed, and only a whole tenant is rolled.

pub mod acceptance;
pub mod labels;
pub mod membership;
pub mod register;
pub mod repair;
pub mod rollout;
pub mod storage;

use std::time::Duration;

use jiff::Timestamp;
use percolate_crds::{
    conditions::{self, Reason},
    replication::Request,
    tenant::NodeRole,
};

use super::{observe::Observed, validate::Tenant};

/// How long the operator waits before it takes something for lost.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// From a machine falling silent to its pods being replaced.
    pub machine_lost: Duration,
    /// From a pod waiting for a volume on a lost machine to the volume being given up.
    pub volume_lost: Duration,
}

/// What to do next.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Pods the StatefulSet is to have now. Absent: leave it alone, or do not make one yet.
    pub replicas: Option<i32>,
    /// What the register's spec is to be. Absent: do not make one yet.
    pub register: Option<RegisterPlan>,
    /// Single acts, in order.
    pub acts: Vec<Act>,
    /// What is under way, for people.
    pub activity: Option<Note>,
    /// What hinders the tenant until somebody does something.
    pub hindrances: Vec<Note>,
    /// When to look again although nothing has happened.
    pub look_again: Option<Duration>,
}

/// What the register's spec is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterPlan {
    /// Replicas in sync without which writes are refused.
    pub min_in_sync: i32,
    /// Whether an empty node may become the first leader.
    pub bootstrap: bool,
    /// What the leader is asked to do.
    pub requests: Vec<Request>,
}

/// A reason and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One of the documented reasons.
    pub reason: Reason,
    /// What it is about, and what to do.
    pub message: String,
}

impl Note {
    /// A reason with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// A single act on one object. Identities are carried along, so that an act planned on an old view
/// cannot hit a newer object of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Delete a pod, so that the StatefulSet makes it anew.
    DeletePod {
        /// Its name.
        name: String,
        /// Its identity.
        uid: String,
        /// Without waiting for a kubelet that does not answer.
        force: bool,
        /// Why.
        why: String,
    },
    /// Delete a volume claim and with it the volume.
    DeleteClaim {
        /// Its name.
        name: String,
        /// Its identity.
        uid: String,
        /// Why.
        why: String,
    },
    /// Ask for a larger volume.
    ExpandClaim {
        /// The claim.
        name: String,
        /// The size wanted.
        size: String,
    },
    /// Delete the StatefulSet and leave its pods, because a field of it cannot be changed in place.
    ReplaceStatefulSet {
        /// Its identity.
        uid: String,
    },
    /// Tell the Services what a pod is.
    LabelPod {
        /// Its name.
        name: String,
        /// Its identity.
        uid: String,
        /// What it is.
        role: NodeRole,
    },
}

/// Decides what to do next.
pub fn plan(tenant: &Tenant, observed: &Observed, delays: &Delays, now: Timestamp) -> Plan {
    if let Some(wait) = register::wait_for_removal(tenant, observed) {
        return wait;
    }
    let membership = membership::plan(tenant, observed);
    let acceptance = acceptance::plan(tenant, observed);
    let given_up = acceptance.request.is_some();
    let repair = repair::plan(tenant, observed, delays, now, given_up);
    let storage = storage::plan(tenant, observed);
    let settled = repair.activity.is_none() && membership.is_settled();
    let rollout = if settled {
        rollout::plan(observed)
    } else {
        rollout::Rollout::default()
    };
    let requests = [membership.requests, repair.requests, rollout.requests];
    let requests = requests.into_iter().flatten().chain(acceptance.request);
    let register = register::plan(tenant, observed, requests.collect());

    let mut acts = labels::plan(observed);
    acts.extend(repair.acts);
    acts.extend(membership.acts);
    acts.extend(rollout.acts);
    acts.extend(storage.acts);
    let mut hindrances = register.hindrances;
    hindrances.extend(acceptance.hindrance);
    hindrances.extend(membership.refusal);
    // Causes before what follows from them: the first one is told.
    hindrances.extend(storage.hindrances);
    hindrances.extend(pod_troubles(tenant, observed));
    hindrances.extend(rollout.hindrances);
    Plan {
        replicas: Some(membership.replicas),
        register: Some(register.plan),
        acts,
        activity: repair
            .activity
            .or(membership.activity)
            .or(rollout.activity)
            .or(storage.activity)
            .or_else(|| waiting_for_pods(tenant, observed)),
        hindrances,
        look_again: repair.look_again,
    }
}

/// What keeps single pods from working, one note for each kind of trouble.
fn pod_troubles(tenant: &Tenant, observed: &Observed) -> Vec<Note> {
    use super::observe::Trouble;

    let mut notes: Vec<Note> = Vec::new();
    for pod in observed.pods.values() {
        let note = match &pod.trouble {
            Some(Trouble::Image { message }) => Note::new(
                conditions::IMAGE_PULL_FAILED,
                format!(
                    "{} cannot get its image {}: {message}. Correct spec.image, or give the machines access to the registry.",
                    pod.name, tenant.image
                ),
            ),
            Some(Trouble::Crashing { restarts }) => Note::new(
                conditions::POD_CRASHING,
                format!(
                    "{0} ended {restarts} times. Look at: kubectl logs -n {1} {0} --previous",
                    pod.name, tenant.namespace
                ),
            ),
            Some(Trouble::Container { message }) => Note::new(
                conditions::POD_CRASHING,
                format!("the container of {} cannot be made: {message}", pod.name),
            ),
            Some(Trouble::Unschedulable { message, .. }) => Note::new(
                conditions::POD_UNSCHEDULABLE,
                format!("no machine can take {}: {message}", pod.name),
            ),
            None => continue,
        };
        if notes.iter().all(|known| known.reason != note.reason) {
            notes.push(note);
        }
    }
    notes
}

fn waiting_for_pods(tenant: &Tenant, observed: &Observed) -> Option<Note> {
    let absent: Vec<String> = (0..tenant.replicas)
        .filter(|ordinal| {
            observed
                .pods
                .get(ordinal)
                .is_none_or(|pod| !pod.is_serving() || !observed.is_in_sync(&pod.name))
        })
        .map(|ordinal| percolate_crds::names::pod(&tenant.name, ordinal))
        .collect();
    if absent.is_empty() {
        return None;
    }
    let reason = if observed.stateful_set.is_none() {
        conditions::CREATING
    } else {
        conditions::WAITING_FOR_PODS
    };
    Some(Note::new(
        reason,
        format!("not ready and in sync yet: {}", absent.join(", ")),
    ))
}

#[cfg(test)]
mod tests;
