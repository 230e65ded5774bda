//! What people are told about a tenant: status, conditions, and the events of a change.
//!
//! In: [`Tenant`], [`Observed`], [`Plan`], a failure of this pass if there was one, the previous
//! status, now. Out: the next [`TenantStatus`], and the [`Happening`]s between the two. Pure, and
//! stable: the same situation gives the same bytes, so that a settled tenant costs no write.

pub mod happening;
pub mod verdict;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use percolate_crds::{
    conditions, names,
    replication::{KnownReplica, ReplicationStatus},
    tenant::{NodeState, NodeStatus, TenantStatus},
};

use super::{
    observe::{Machine, Observed, Pod},
    plan::{Note, Plan, labels},
    validate::Tenant,
};

pub use happening::{Happening, happenings};
pub use verdict::Verdict;

/// Longest message of a condition: what an API object should carry, not a log.
const MAX_MESSAGE: usize = 1024;

/// What the register says of a replica that is in sync, and of one that is silent.
const IN_SYNC: &str = "InSync";
const PROBING: &str = "Probing";

/// Makes the next status. `failure` is what kept this pass from finishing.
pub fn status(
    tenant: &Tenant,
    observed: &Observed,
    plan: &Plan,
    failure: Option<&Note>,
    previous: Option<&TenantStatus>,
    now: Timestamp,
) -> TenantStatus {
    let replication = observed.replication();
    let ready = observed
        .pods
        .values()
        .filter(|pod| pod.is_serving())
        .count();
    TenantStatus {
        observed_generation: Some(tenant.generation),
        replicas: count(observed.pods.len()),
        ready_replicas: count(ready),
        ready_of_desired: Some(format!("{ready}/{}", tenant.replicas)),
        in_sync_replicas: count(replication.map_or(0, |status| status.in_sync.len())),
        selector: Some(names::selector_string(&tenant.name)),
        leader: observed.leader().map(|pod| pod.name.clone()),
        epoch: replication.map(|status| status.epoch),
        image: Some(tenant.image.clone()),
        nodes: observed
            .pods
            .values()
            .map(|pod| node(observed, pod))
            .collect(),
        last_failover: replication.and_then(|status| status.last_failover.clone()),
        conditions: conditions_of(tenant, observed, plan, failure, previous, now),
    }
}

/// The status of a tenant nothing can be made of: only the conditions change.
pub fn invalid(
    generation: i64,
    note: &Note,
    previous: Option<&TenantStatus>,
    now: Timestamp,
) -> TenantStatus {
    let mut next = previous.cloned().unwrap_or_default();
    next.observed_generation = Some(generation);
    let known = |type_: &str| {
        next.conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .map_or_else(
                || Verdict::unknown("the manifest has to be corrected first"),
                Verdict::of,
            )
    };
    let verdicts = conditions::TYPES.map(|type_| match type_ {
        conditions::STALLED => (type_, Verdict::yes(note.reason.name, &note.message)),
        conditions::RECONCILING => (type_, Verdict::no(note.reason.name, &note.message)),
        _ => (type_, known(type_)),
    });
    next.conditions = dated(&verdicts, generation, previous, now);
    next
}

fn conditions_of(
    tenant: &Tenant,
    observed: &Observed,
    plan: &Plan,
    failure: Option<&Note>,
    previous: Option<&TenantStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    let verdicts = [
        (
            conditions::READY,
            verdict::ready(tenant, observed, plan, previous),
        ),
        (
            conditions::RECONCILING,
            verdict::reconciling(tenant, plan, failure),
        ),
        (conditions::STALLED, verdict::stalled(tenant, plan, failure)),
        (
            conditions::LEADER_ELECTED,
            verdict::leader_elected(tenant, observed, plan),
        ),
        (
            conditions::REPLICATION_HEALTHY,
            verdict::replication_healthy(tenant, observed, plan),
        ),
        (
            conditions::STORAGE_HEALTHY,
            verdict::storage_healthy(tenant, observed),
        ),
        (conditions::SUSPENDED, verdict::suspended(tenant)),
    ];
    dated(&verdicts, tenant.generation, previous, now)
}

/// Gives each verdict the time since which it holds.
fn dated(
    verdicts: &[(&str, Verdict)],
    generation: i64,
    previous: Option<&TenantStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    verdicts
        .iter()
        .map(|(type_, verdict)| {
            let unchanged = previous
                .into_iter()
                .flat_map(|status| &status.conditions)
                .find(|condition| condition.type_ == *type_ && condition.status == verdict.status);
            let mut message = verdict.message.clone();
            if message.len() > MAX_MESSAGE {
                message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            }
            Condition {
                type_: (*type_).to_owned(),
                status: verdict.status.clone(),
                reason: verdict.reason.clone(),
                message,
                observed_generation: Some(generation),
                last_transition_time: unchanged.map_or(Time(now), |condition| {
                    condition.last_transition_time.clone()
                }),
            }
        })
        .collect()
}

fn node(observed: &Observed, pod: &Pod) -> NodeStatus {
    let known = observed
        .replication()
        .and_then(|status| replica_of(status, pod));
    NodeStatus {
        name: pod.name.clone(),
        replica_id: known.map(|replica| replica.replica_id.clone()),
        role: labels::role_of(observed, pod),
        state: state_of(pod, known.and_then(|replica| replica.state.as_deref())),
        zone: match &pod.machine {
            Machine::Answering { zone } => zone.clone(),
            _ => None,
        },
    }
}

/// An emptied volume is a new replica in an old pod: the one in sync is the one that counts, then the
/// one that is heard of.
fn replica_of<'a>(status: &'a ReplicationStatus, pod: &Pod) -> Option<&'a KnownReplica> {
    let known = status
        .replicas
        .iter()
        .filter(|replica| replica.pod == pod.name);
    known.min_by_key(|replica| {
        let in_sync = status.in_sync.contains(&replica.replica_id);
        let is_heard = replica
            .state
            .as_deref()
            .is_some_and(|state| state != PROBING);
        (!in_sync, !is_heard)
    })
}

/// How the pod is, and where nothing is wrong with it, how far its replica is.
fn state_of(pod: &Pod, replica: Option<&str>) -> NodeState {
    if pod.machine.is_lost() {
        return NodeState::Lost;
    }
    if pod.deleting {
        return NodeState::Terminating;
    }
    if !pod.running {
        return if pod.ready {
            NodeState::Ready
        } else {
            NodeState::Pending
        };
    }
    match replica {
        Some(IN_SYNC) | None if !pod.ready => NodeState::NotReady,
        Some(state) => NodeState::Replica(state.to_owned()),
        None => NodeState::Ready,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
