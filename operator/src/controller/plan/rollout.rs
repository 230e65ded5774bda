//! Replacing pods whose template has changed: followers first and one at a time, each awaited in
//! sync, then a planned handover, and the former leader last.
//!
//! Only called for a tenant that has all its pods and nothing to repair. A pod that is outdated
//! *and* broken is replaced at once, so that a wrong image can be corrected.

use percolate_crds::{
    conditions,
    replication::{Outcome, Request, RequestKind},
};

use super::{Act, Note};
use crate::controller::observe::{Observed, Pod};

/// The decision.
#[derive(Debug, Clone, Default)]
pub struct Rollout {
    /// The pod to replace now.
    pub acts: Vec<Act>,
    /// The handover to ask for.
    pub requests: Vec<Request>,
    /// What is under way.
    pub activity: Option<Note>,
    /// Why it does not go on.
    pub hindrances: Vec<Note>,
}

/// Decides.
pub fn plan(observed: &Observed) -> Rollout {
    let Some(set) = &observed.stateful_set else {
        return Rollout::default();
    };
    let Some(revision) = &set.update_revision else {
        return Rollout::default();
    };
    let outdated: Vec<&Pod> = observed
        .pods
        .values()
        .rev()
        .filter(|pod| pod.revision.as_ref() != Some(revision))
        .collect();
    if outdated.is_empty() {
        return Rollout::default();
    }
    if let Some(broken) = outdated
        .iter()
        .find(|pod| !pod.running && !pod.ready && !pod.deleting)
    {
        return replace(broken, "it is outdated and does not run");
    }
    if let Some(awaited) = awaited(observed, set.replicas) {
        return waiting(format!("waiting for {awaited} to be ready and in sync"));
    }
    let leader = observed.leader().map(|pod| pod.name.as_str());
    match outdated
        .iter()
        .find(|pod| Some(pod.name.as_str()) != leader)
    {
        Some(follower) => replace(follower, "its template has changed"),
        None => last(observed, outdated[0], revision),
    }
}

/// The first pod without which the next one must not be touched.
fn awaited(observed: &Observed, replicas: i32) -> Option<String> {
    (0..replicas).find_map(|ordinal| match observed.pods.get(&ordinal) {
        None => Some(format!("the pod of ordinal {ordinal}")),
        Some(pod) if !pod.is_serving() || !observed.is_in_sync(&pod.name) => Some(pod.name.clone()),
        Some(_) => None,
    })
}

/// Only the leader is left: hand over first, where there is somebody to hand over to.
fn last(observed: &Observed, leader: &Pod, revision: &String) -> Rollout {
    let successor = observed
        .pods
        .values()
        .find(|pod| pod.name != leader.name && pod.revision.as_ref() == Some(revision));
    let Some(successor) = successor else {
        return replace(
            leader,
            "its template has changed, and there is no other replica to lead meanwhile",
        );
    };
    let standing = observed.register.as_ref().and_then(|register| {
        register
            .spec
            .requests
            .iter()
            .find(|request| request.kind == RequestKind::HandOver)
    });
    let refused = standing
        .and_then(|request| observed.replication()?.answer(&request.id))
        .filter(|answer| answer.outcome == Outcome::Refused);
    let message = match refused {
        Some(answer) => format!(
            "{} refused to hand over to {}: {}",
            leader.name, successor.name, answer.message
        ),
        None => format!("handing over from {} to {}", leader.name, successor.name),
    };
    Rollout {
        requests: vec![hand_over(observed, standing, &successor.name)],
        ..waiting(message)
    }
}

/// A request to make a pod the leader.
pub fn hand_over(observed: &Observed, standing: Option<&Request>, successor: &str) -> Request {
    // An answered handover has changed the epoch, and with it the id: it cannot be carried out twice.
    let epoch = observed.replication().map_or(0, |status| status.epoch);
    let what = format!("handover-{epoch}");
    let standing = standing.filter(|request| {
        request.pod.as_deref() == Some(successor) && request.id.starts_with(&format!("{what}-"))
    });
    Request {
        id: super::register::request_id(observed, &what, standing),
        kind: RequestKind::HandOver,
        pod: Some(successor.to_owned()),
        epoch: None,
    }
}

fn replace(pod: &Pod, why: &str) -> Rollout {
    Rollout {
        acts: vec![Act::DeletePod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            force: false,
            why: why.to_owned(),
        }],
        ..waiting(format!("replacing {}: {why}", pod.name))
    }
}

fn waiting(message: String) -> Rollout {
    Rollout {
        activity: Some(Note::new(conditions::ROLLING_UPDATE, message)),
        ..Rollout::default()
    }
}
