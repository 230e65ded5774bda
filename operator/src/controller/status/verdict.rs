//! One function for each condition: which status, which reason, which sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use percolate_crds::{
    conditions::{self, Reason},
    names,
    tenant::TenantStatus,
};

use super::super::{
    observe::{Observed, StorageClass, volume::ClaimPhase},
    plan::{Note, Plan, acceptance, storage::is_larger},
    validate::Tenant,
};

/// What a condition says, without the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// True, False or Unknown.
    pub status: String,
    /// One of the documented reasons.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Verdict {
    fn new(status: &str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// It is so.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self::new("True", reason, message)
    }

    /// It is not so.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self::new("False", reason, message)
    }

    /// Nobody can tell.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new("Unknown", conditions::INVALID_SPEC.name, message)
    }

    /// What a condition says already.
    pub fn of(condition: &Condition) -> Self {
        Self::new(
            &condition.status,
            &condition.reason,
            condition.message.clone(),
        )
    }
}

/// Whether reads and writes are served.
pub fn ready(
    tenant: &Tenant,
    observed: &Observed,
    plan: &Plan,
    previous: Option<&TenantStatus>,
) -> Verdict {
    if tenant.replicas == 0 {
        return Verdict::no(
            conditions::STOPPED.name,
            "spec.replicas is 0: volumes and register are kept",
        );
    }
    if let Some(note) = lost_history(plan) {
        return Verdict::no(note.reason.name, &note.message);
    }
    let Some(status) = observed.replication() else {
        return Verdict::no(conditions::STARTING.name, "there has not been a leader yet");
    };
    let Some(leader) = observed.ready_leader() else {
        if is_starting(previous) {
            let message = format!("{} leads and is about to be ready", status.leader_pod);
            return Verdict::no(conditions::STARTING.name, message);
        }
        return no_leader(tenant, observed, &status.leader_pod);
    };
    let needed = minimum(observed);
    if status.in_sync.len() < needed {
        return Verdict::no(
            conditions::BELOW_MIN_IN_SYNC.name,
            format!(
                "{} of at least {needed} replicas are in sync: writes are refused until more are",
                status.in_sync.len()
            ),
        );
    }
    let absent = absent(tenant, observed);
    if absent.is_empty() {
        return Verdict::yes(
            conditions::SERVING.name,
            format!(
                "{} leads, {} replicas in sync",
                leader.name,
                status.in_sync.len()
            ),
        );
    }
    let message = format!(
        "{} leads; not ready and in sync: {}",
        leader.name,
        absent.join(", ")
    );
    if is_starting(previous) {
        // Whoever waits for a new tenant to be ready wants all of it.
        return Verdict::no(conditions::STARTING.name, message);
    }
    Verdict::yes(conditions::DEGRADED.name, message)
}

fn no_leader(tenant: &Tenant, observed: &Observed, leader_pod: &str) -> Verdict {
    let candidates = acceptance::candidates(tenant, observed);
    Verdict::no(
        conditions::NO_LEADER.name,
        format!(
            "{leader_pod} was the last leader and is not ready; {candidates} in-sync replicas can lead once their pods run"
        ),
    )
}

/// Whether this tenant has never been ready.
fn is_starting(previous: Option<&TenantStatus>) -> bool {
    previous
        .into_iter()
        .flat_map(|status| &status.conditions)
        .find(|condition| condition.type_ == conditions::READY)
        .is_none_or(|condition| condition.reason == conditions::STARTING.name)
}

/// Whether the tenant is being changed.
pub fn reconciling(tenant: &Tenant, plan: &Plan, failure: Option<&Note>) -> Verdict {
    if tenant.suspend {
        return suspended_no();
    }
    if let Some(failure) = failure.filter(|failure| is_for(failure.reason, conditions::RECONCILING))
    {
        return Verdict::yes(failure.reason.name, &failure.message);
    }
    if tenant.deleted_at.is_some() && tenant.deletion_protection {
        return Verdict::yes(
            conditions::DELETION_PROTECTED.name,
            "deletion was asked for and is held back: set spec.deletionProtection to false to let it go through",
        );
    }
    match &plan.activity {
        Some(note) => Verdict::yes(note.reason.name, &note.message),
        None => as_desired(),
    }
}

/// Whether somebody has to do something.
pub fn stalled(tenant: &Tenant, plan: &Plan, failure: Option<&Note>) -> Verdict {
    if tenant.suspend {
        return suspended_no();
    }
    let hindrance = failure
        .filter(|failure| is_for(failure.reason, conditions::STALLED))
        .or_else(|| {
            plan.hindrances
                .iter()
                .find(|note| is_for(note.reason, conditions::STALLED))
        });
    match hindrance {
        Some(note) => Verdict::yes(note.reason.name, &note.message),
        None if plan.activity.is_some() => {
            Verdict::no(conditions::PROGRESSING.name, "work is under way")
        }
        None => as_desired(),
    }
}

fn as_desired() -> Verdict {
    Verdict::no(
        conditions::AS_DESIRED.name,
        "everything is as the spec says",
    )
}

fn suspended_no() -> Verdict {
    Verdict::no(
        conditions::SUSPENDED_BY_SPEC.name,
        "spec.suspend is true: the operator changes nothing",
    )
}

/// Whether the register's leader serves.
pub fn leader_elected(tenant: &Tenant, observed: &Observed, plan: &Plan) -> Verdict {
    if tenant.replicas == 0 {
        return Verdict::no(conditions::STOPPED.name, "no pods are wanted");
    }
    if let Some(note) = lost_history(plan) {
        return Verdict::no(note.reason.name, &note.message);
    }
    match (observed.replication(), observed.ready_leader()) {
        (Some(status), Some(leader)) => Verdict::yes(
            conditions::LEADER_READY.name,
            format!("{} leads epoch {}", leader.name, status.epoch),
        ),
        (Some(status), None) => no_leader(tenant, observed, &status.leader_pod),
        (None, _) => Verdict::no(conditions::STARTING.name, "there has not been a leader yet"),
    }
}

/// Whether every wanted replica is in sync.
pub fn replication_healthy(tenant: &Tenant, observed: &Observed, plan: &Plan) -> Verdict {
    if let Some(note) = lost_history(plan) {
        return Verdict::no(note.reason.name, &note.message);
    }
    if tenant.replicas == 0 {
        return Verdict::yes(conditions::STOPPED.name, "no pods are wanted");
    }
    let Some(status) = observed.replication() else {
        return Verdict::no(conditions::STARTING.name, "there has not been a leader yet");
    };
    let refusal = plan
        .hindrances
        .iter()
        .find(|note| note.reason == conditions::SCALE_DOWN_REFUSED);
    if let Some(note) = refusal {
        return Verdict::no(note.reason.name, &note.message);
    }
    let needed = minimum(observed);
    if status.in_sync.len() < needed {
        return Verdict::no(
            conditions::BELOW_MIN_IN_SYNC.name,
            format!(
                "{} of at least {needed} replicas are in sync",
                status.in_sync.len()
            ),
        );
    }
    let behind: Vec<String> = (0..tenant.replicas)
        .map(|ordinal| names::pod(&tenant.name, ordinal))
        .filter(|pod| !status.is_in_sync(pod))
        .collect();
    if behind.is_empty() {
        return Verdict::yes(
            conditions::ALL_IN_SYNC.name,
            format!("{} replicas in sync", status.in_sync.len()),
        );
    }
    Verdict::no(
        conditions::CATCHING_UP.name,
        format!("not in sync yet: {}", behind.join(", ")),
    )
}

/// Whether every volume is there and large enough.
pub fn storage_healthy(tenant: &Tenant, observed: &Observed) -> Verdict {
    let claims = || observed.claims.values();
    let bad: Vec<&str> = claims()
        .filter(|claim| claim.deleting || claim.phase == ClaimPhase::Lost || claim.on_lost_machine)
        .map(|claim| claim.name.as_str())
        .collect();
    if !bad.is_empty() {
        return Verdict::no(
            conditions::VOLUME_UNAVAILABLE.name,
            format!(
                "lost or being deleted: {}; replaced once another replica in sync leads",
                bad.join(", ")
            ),
        );
    }
    if let Some(verdict) = storage_fault(observed) {
        return verdict;
    }
    let all_bound = claims().all(|claim| claim.phase == ClaimPhase::Bound);
    let too_few = i32::try_from(claims().count()).unwrap_or(i32::MAX) < tenant.replicas;
    if observed.storage_class == StorageClass::Missing && (!all_bound || too_few) {
        return Verdict::no(
            conditions::STORAGE_CLASS_NOT_FOUND.name,
            format!(
                "there is no storage class {:?}",
                tenant.storage.class.as_deref().unwrap_or_default()
            ),
        );
    }
    if !all_bound || too_few {
        return Verdict::no(conditions::VOLUME_PENDING.name, "volumes are not bound yet");
    }
    if claims().any(|claim| is_larger(&tenant.storage.size, claim.requested.as_deref())) {
        if observed.storage_class == (StorageClass::Present { expandable: false }) {
            return Verdict::no(
                conditions::EXPANSION_NOT_SUPPORTED.name,
                "the storage class does not allow volumes to grow: the present size stays",
            );
        }
        return Verdict::no(
            conditions::EXPANDING_VOLUMES.name,
            "volumes are being enlarged",
        );
    }
    if claims().any(|claim| is_larger(&tenant.storage.size, claim.capacity.as_deref())) {
        return Verdict::no(
            conditions::EXPANDING_VOLUMES.name,
            "volumes are being enlarged",
        );
    }
    Verdict::yes(
        conditions::VOLUMES_BOUND.name,
        format!("{} volumes bound", claims().count()),
    )
}

/// What the processes said that ended because of their disks. What is ready and in sync again has got
/// over it.
fn storage_fault(observed: &Observed) -> Option<Verdict> {
    let mut faults = observed.pods.values().filter_map(|pod| {
        let recovered = pod.is_serving() && observed.is_in_sync(&pod.name);
        let fault = pod.storage_fault.as_ref().filter(|_| !recovered)?;
        Some((fault, format!("{}: {}", pod.name, fault.message)))
    });
    let (first, mut message) = faults.next()?;
    for (_, another) in faults {
        message = format!("{message}; {another}");
    }
    Some(Verdict::no(first.reason.name, message))
}

/// Whether the operator keeps its hands off.
pub fn suspended(tenant: &Tenant) -> Verdict {
    if tenant.suspend {
        return Verdict::yes(
            conditions::SUSPENDED_BY_SPEC.name,
            "spec.suspend is true: the operator changes nothing",
        );
    }
    Verdict::no(
        conditions::ACTIVE.name,
        "the operator looks after the tenant",
    )
}

fn lost_history(plan: &Plan) -> Option<&Note> {
    plan.hindrances
        .iter()
        .find(|note| note.reason == conditions::NO_IN_SYNC_REPLICA)
}

fn minimum(observed: &Observed) -> usize {
    observed.register.as_ref().map_or(1, |register| {
        usize::try_from(register.spec.min_in_sync).unwrap_or(1)
    })
}

fn absent(tenant: &Tenant, observed: &Observed) -> Vec<String> {
    (0..tenant.replicas)
        .filter(|ordinal| {
            observed
                .pods
                .get(ordinal)
                .is_none_or(|pod| !pod.is_serving() || !observed.is_in_sync(&pod.name))
        })
        .map(|ordinal| names::pod(&tenant.name, ordinal))
        .collect()
}

fn is_for(reason: Reason, condition_type: &str) -> bool {
    reason.status_on(condition_type) == Some("True")
}
