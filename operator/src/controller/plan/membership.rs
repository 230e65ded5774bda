//! How many pods there should be now, on the way to how many are wanted.
//!
//! ```text
//! fewer wanted: ask the leader to drop the highest ordinals ─▶ answered ─▶ fewer pods
//!               ─▶ pods gone ─▶ their volumes deleted ─▶ requests withdrawn
//! more wanted:  more pods at once; the leader takes them in when they have caught up
//! none wanted:  no pods, and nothing else touched
//! ```
//!
//! A pod leaves only after its replica has left the in-sync set, and the set is never taken below
//! `minInSync`. A tenant that was stopped may have its only in-sync replica on a high ordinal:
//! that pod is started even if fewer are wanted, and leaves again in the ordinary way.

use percolate_crds::{
    conditions, names,
    replication::{Outcome, Request, RequestKind},
};

use super::{Act, Note};
use crate::controller::{observe::Observed, validate::Tenant};

/// The decision.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Pods to have now.
    pub replicas: i32,
    /// Replicas the leader is to drop.
    pub requests: Vec<Request>,
    /// Volumes of pods that have left.
    pub acts: Vec<Act>,
    /// What is under way.
    pub activity: Option<Note>,
    /// Why fewer pods are not possible now.
    pub refusal: Option<Note>,
}

impl Membership {
    /// Whether as many pods as wanted are meant to be there, and nothing else is left to do.
    pub fn is_settled(&self) -> bool {
        self.activity.is_none() && self.refusal.is_none()
    }
}

/// Decides.
pub fn plan(tenant: &Tenant, observed: &Observed) -> Membership {
    let wanted = tenant.replicas;
    let current = current(observed);
    let needed = wanted.max(members_end(tenant, observed));
    if wanted == 0 {
        return stop(observed);
    }
    if current < needed {
        return Membership {
            replicas: needed,
            activity: observed.stateful_set.as_ref().map(|_| {
                Note::new(
                    conditions::SCALING_UP,
                    format!("from {current} to {wanted} replicas"),
                )
            }),
            ..Membership::default()
        };
    }
    let leaving = leaving(wanted, current, observed);
    if leaving.is_empty() {
        return Membership {
            replicas: wanted,
            ..Membership::default()
        };
    }
    shrink(tenant, observed, current, &leaving)
}

/// Pods the StatefulSet is meant to have; where it is missing, what is left of it.
fn current(observed: &Observed) -> i32 {
    match &observed.stateful_set {
        Some(set) => set.replicas,
        None => observed
            .pods
            .keys()
            .next_back()
            .map_or(0, |highest| highest + 1),
    }
}

/// One more than the highest ordinal whose replica is in sync.
fn members_end(tenant: &Tenant, observed: &Observed) -> i32 {
    let Some(status) = observed.replication() else {
        return 0;
    };
    status
        .in_sync
        .iter()
        .filter_map(|replica| names::ordinal(&tenant.name, status.pod_of(replica)?))
        .max()
        .map_or(0, |highest| highest + 1)
}

fn stop(observed: &Observed) -> Membership {
    let activity = (!observed.pods.is_empty()).then(|| {
        Note::new(
            conditions::STOPPING,
            format!("{} pods are still there", observed.pods.len()),
        )
    });
    Membership {
        replicas: 0,
        activity,
        ..Membership::default()
    }
}

/// Ordinals that are to leave, or have left something behind, highest first.
fn leaving(wanted: i32, current: i32, observed: &Observed) -> Vec<i32> {
    let mut ordinals: Vec<i32> = (wanted..current)
        .chain(observed.pods.range(wanted..).map(|(ordinal, _)| *ordinal))
        .chain(observed.claims.range(wanted..).map(|(ordinal, _)| *ordinal))
        .collect();
    ordinals.sort_unstable_by(|left, right| right.cmp(left));
    ordinals.dedup();
    ordinals
}

fn shrink(tenant: &Tenant, observed: &Observed, current: i32, leaving: &[i32]) -> Membership {
    let wanted = tenant.replicas;
    let pods: Vec<String> = leaving
        .iter()
        .map(|ordinal| names::pod(&tenant.name, *ordinal))
        .collect();
    if let Some(refusal) = refusal(tenant, observed, &pods) {
        return Membership {
            replicas: current,
            refusal: Some(refusal),
            ..Membership::default()
        };
    }
    let requests: Vec<Request> = pods.iter().map(|pod| drop_request(observed, pod)).collect();
    if let Some(refusal) = answered_no(observed, &pods) {
        return Membership {
            replicas: current,
            requests,
            refusal: Some(refusal),
            ..Membership::default()
        };
    }
    let dropped = pods.iter().all(|pod| is_dropped(observed, pod));
    let replicas = if dropped { wanted } else { current };
    let acts = leaving
        .iter()
        .filter(|ordinal| **ordinal >= replicas && current == wanted)
        .filter_map(|ordinal| abandoned_claim(observed, *ordinal))
        .collect();
    Membership {
        replicas,
        requests,
        acts,
        activity: Some(Note::new(
            conditions::SCALING_DOWN,
            format!("to {wanted} replicas; leaving: {}", pods.join(", ")),
        )),
        refusal: None,
    }
}

/// Why the in-sync set must not lose these pods now.
fn refusal(tenant: &Tenant, observed: &Observed, leaving: &[String]) -> Option<Note> {
    let status = observed.replication()?;
    let in_sync_pods: Vec<&str> = status
        .in_sync
        .iter()
        .filter_map(|replica| status.pod_of(replica))
        .collect();
    let staying = in_sync_pods
        .iter()
        .filter(|pod| leaving.iter().all(|name| name != *pod))
        .count();
    let some_leave = staying < in_sync_pods.len();
    let needed = usize::try_from(tenant.min_in_sync.max(1)).unwrap_or(1);
    (some_leave && staying < needed).then(|| {
        Note::new(
            conditions::SCALE_DOWN_REFUSED,
            format!(
                "without {} only {staying} replicas would be in sync, and replication.minInSync is {needed}: wait until the others are in sync, or raise spec.replicas again",
                leaving.join(", ")
            ),
        )
    })
}

/// What the leader said against dropping one of these pods. It is asked again once the in-sync set,
/// the leader or `minInSync` has changed.
fn answered_no(observed: &Observed, leaving: &[String]) -> Option<Note> {
    leaving.iter().find_map(|pod| {
        let request = asked(observed, pod)?;
        let answer = observed.replication()?.answer(&request.id)?;
        (answer.outcome == Outcome::Refused).then(|| {
            Note::new(
                conditions::SCALE_DOWN_REFUSED,
                format!("the leader refused to drop {pod}: {}", answer.message),
            )
        })
    })
}

/// Whether the register knows nothing of a pod any more.
fn is_dropped(observed: &Observed, pod: &str) -> bool {
    let Some(status) = observed.replication() else {
        return true;
    };
    let known =
        status.leader_pod == pod || status.replicas.iter().any(|replica| replica.pod == pod);
    let asked = asked(observed, pod);
    let done = asked
        .and_then(|request| status.answer(&request.id))
        .is_some_and(|answer| answer.outcome == Outcome::Done);
    // A replica that never got as far as the register has nothing to be dropped from, but could
    // still arrive until the leader has promised to keep it out.
    !known && (done || !observed.pods.values().any(|present| present.name == pod))
}

fn asked<'a>(observed: &'a Observed, pod: &str) -> Option<&'a Request> {
    observed
        .register
        .as_ref()?
        .spec
        .requests
        .iter()
        .find(|request| request.kind == RequestKind::Drop && request.pod.as_deref() == Some(pod))
}

fn drop_request(observed: &Observed, pod: &str) -> Request {
    Request {
        id: super::register::request_id(observed, &format!("drop-{pod}"), asked(observed, pod)),
        kind: RequestKind::Drop,
        pod: Some(pod.to_owned()),
        epoch: None,
    }
}

/// The volume of a pod that has left for good.
fn abandoned_claim(observed: &Observed, ordinal: i32) -> Option<Act> {
    let claim = observed.claims.get(&ordinal)?;
    let gone = !observed.pods.contains_key(&ordinal) && !claim.deleting;
    let pod = names::pod_of_claim(&claim.name)?;
    // An empty register cannot tell what the volume is worth.
    let known = observed
        .replication()
        .is_none_or(|status| status.replicas.iter().any(|replica| replica.pod == pod));
    (gone && !known).then(|| Act::DeleteClaim {
        name: claim.name.clone(),
        uid: claim.uid.clone(),
        why: format!("{pod} was removed by scaling down"),
    })
}
