//! Pods and volumes that are lost, and how they come back without a person.
//!
//! ```text
//! machine silent too long ─▶ its pod is deleted by force ─▶ made anew elsewhere, on its volume
//!     … whose volume is on that machine ─▶ volume given up ─▶ pod made anew, empty ─▶ re-cloned
//! volume lost or being deleted ─▶ pod deleted, volume made anew ─▶ re-cloned
//! ```
//!
//! Deleting by force does not prove that the old process is dead, and need not: a replica is known
//! by the id on its disk, and what may be acknowledged is decided by the register. A volume is given
//! up only while another replica, in sync and alive, leads: then it holds every acknowledged write.

use std::time::Duration;

use jiff::Timestamp;
use percolate_crds::{
    conditions,
    replication::{Request, RequestKind},
};

use super::{Act, Delays, Note, rollout};
use crate::controller::{
    observe::{Claim, Machine, Observed, Pod, Trouble, volume::ClaimPhase},
    validate::Tenant,
};

/// How long a pod may wait for a claim that does not exist before it is made anew: its controller
/// makes the claim first, so this is only ever a claim deleted under a pod that was not running.
const CLAIM_MISSING_AFTER: Duration = Duration::from_secs(15);
/// How soon to look again when the machine under a pod that is not ready still seems to answer.
const WATCH_UNREADY: Duration = Duration::from_secs(30);

/// The decision.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// What to delete, so that it is made anew.
    pub acts: Vec<Act>,
    /// The handover to ask for first.
    pub requests: Vec<Request>,
    /// What is under way.
    pub activity: Option<Note>,
    /// When a delay ends.
    pub look_again: Option<Duration>,
}

/// Decides. What only the lost replicas in sync hold may be `given_up`: then, and while no pod runs that
/// could lead without them, their volumes are replaced as any other's.
pub fn plan(
    tenant: &Tenant,
    observed: &Observed,
    delays: &Delays,
    now: Timestamp,
    given_up: bool,
) -> Repair {
    let mut repair = Repair::default();
    let mut pods = observed.pods.values();
    let nobody_runs = pods.all(|pod| !pod.running || pod.machine.is_lost());
    let given_up = given_up && nobody_runs;
    for (ordinal, pod) in observed.pods.range(..tenant.replicas.max(0)) {
        let claim = observed.claims.get(ordinal);
        if silent_machine(&mut repair, pod, delays, now) {
            continue;
        }
        match claim {
            Some(claim) => {
                if let Some(why) = broken_volume(&mut repair, pod, claim, delays, now) {
                    let given_up = given_up && observed.is_in_sync(&pod.name);
                    replace_volume(&mut repair, observed, pod, claim, why, given_up);
                }
            }
            None => missing_claim(&mut repair, pod, now),
        }
        if !pod.ready {
            look_again(&mut repair, WATCH_UNREADY);
        }
    }
    repair
}

/// A pod on a machine that does not answer. True when there is nothing else to see to.
fn silent_machine(repair: &mut Repair, pod: &Pod, delays: &Delays, now: Timestamp) -> bool {
    let Machine::Silent { since } = pod.machine else {
        return false;
    };
    if let Some(wait) = remaining(since, delays.machine_lost, now) {
        look_again(repair, wait);
    } else {
        repair.acts.push(Act::DeletePod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            force: true,
            why: "its machine does not answer".to_owned(),
        });
        repairing(
            repair,
            format!("{} is on a machine that does not answer", pod.name),
        );
    }
    true
}

/// Why a pod's volume is of no use any more.
fn broken_volume(
    repair: &mut Repair,
    pod: &Pod,
    claim: &Claim,
    delays: &Delays,
    now: Timestamp,
) -> Option<&'static str> {
    let stranded = match &pod.trouble {
        Some(Trouble::Unschedulable { since, .. }) if claim.on_lost_machine => Some(*since),
        _ => None,
    };
    if claim.deleting {
        return Some("its volume is being deleted");
    }
    if claim.phase == ClaimPhase::Lost {
        return Some("its volume does not exist any more");
    }
    if let Some(wait) = remaining(stranded?, delays.volume_lost, now) {
        look_again(repair, wait);
        return None;
    }
    Some("its volume is on a machine that is lost")
}

/// Has the volume made anew. Unless what it held is given up, another replica has to lead first.
fn replace_volume(
    repair: &mut Repair,
    observed: &Observed,
    pod: &Pod,
    claim: &Claim,
    why: &str,
    given_up: bool,
) {
    if pod.deleting {
        return repairing(repair, format!("{}: {why}", pod.name));
    }
    let then = if given_up {
        "what only it held was given up"
    } else if observed
        .leader()
        .is_some_and(|leader| leader.name == pod.name)
    {
        return hand_over_first(repair, observed, pod, why);
    } else if observed.ready_leader().is_none() {
        // Not even the leader is there: this volume may be the last copy. Status tells.
        return;
    } else {
        "it is cloned anew from the leader"
    };
    repairing(repair, format!("{}: {why}; {then}", pod.name));
    if !claim.deleting {
        repair.acts.push(Act::DeleteClaim {
            name: claim.name.clone(),
            uid: claim.uid.clone(),
            why: why.to_owned(),
        });
    }
    repair.acts.push(Act::DeletePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        force: false,
        why: why.to_owned(),
    });
}

/// The leader's own volume goes: somebody else in sync has to lead before it may.
fn hand_over_first(repair: &mut Repair, observed: &Observed, leader: &Pod, why: &str) {
    let successor = observed
        .pods
        .values()
        .find(|pod| pod.name != leader.name && pod.is_serving() && observed.is_in_sync(&pod.name));
    let Some(successor) = successor else {
        return;
    };
    let standing = observed.register.as_ref().and_then(|register| {
        register
            .spec
            .requests
            .iter()
            .find(|request| request.kind == RequestKind::HandOver)
    });
    repair
        .requests
        .push(rollout::hand_over(observed, standing, &successor.name));
    repairing(
        repair,
        format!("{}: {why}; handing over to {}", leader.name, successor.name),
    );
}

fn missing_claim(repair: &mut Repair, pod: &Pod, now: Timestamp) {
    let Some(created_at) = pod.created_at else {
        return;
    };
    if pod.running || pod.deleting {
        return;
    }
    if let Some(wait) = remaining(created_at, CLAIM_MISSING_AFTER, now) {
        look_again(repair, wait);
    } else {
        repair.acts.push(Act::DeletePod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            force: false,
            why: "its volume claim is missing".to_owned(),
        });
        repairing(repair, format!("{}: its volume claim is missing", pod.name));
    }
}

/// What is left of a delay; nothing once it is over.
fn remaining(since: Timestamp, delay: Duration, now: Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    delay.checked_sub(passed).filter(|left| !left.is_zero())
}

fn repairing(repair: &mut Repair, message: String) {
    repair
        .activity
        .get_or_insert_with(|| Note::new(conditions::REPAIRING, message));
}

fn look_again(repair: &mut Repair, after: Duration) {
    repair.look_again = Some(repair.look_again.map_or(after, |sooner| sooner.min(after)));
}
