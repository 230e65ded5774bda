//! What the operator writes into the register: `minInSync`, `bootstrap` and the requests.
//!
//! `bootstrap` is the dangerous one: while it stands, an empty node may begin a new history. It is
//! given only to a register that is made where no volumes are, and taken away once there is a
//! leader. An empty register beside volumes (a restored etcd, a register deleted by hand) is never
//! taken for a new tenant.

use percolate_crds::{
    conditions,
    replication::{Outcome, Request},
};

use super::{Note, Plan, RegisterPlan};
use crate::controller::{
    observe::{Claim, Observed},
    validate::Tenant,
};

/// Digits of the fingerprint in a request's id.
const FINGERPRINT_DIGITS: usize = 8;

/// The decision.
#[derive(Debug)]
pub struct Decision {
    /// What the spec is to be.
    pub plan: RegisterPlan,
    /// Whether the register contradicts the volumes.
    pub hindrances: Vec<Note>,
}

/// Waits while objects are still going: those of a deleted tenant of the same name would take the new
/// tenant's volumes or register along.
pub fn wait_for_removal(tenant: &Tenant, observed: &Observed) -> Option<Plan> {
    let register_of_old = observed.register.as_ref().is_some_and(|register| {
        register.child.deleting
            || register
                .child
                .owner
                .as_ref()
                .is_some_and(|owner| owner.uid != tenant.uid && owner.name == tenant.name)
    });
    let set_of_old = observed
        .stateful_set
        .as_ref()
        .and_then(|set| set.child.owner.as_ref())
        .is_some_and(|owner| owner.uid != tenant.uid && owner.name == tenant.name);
    let set_going = observed
        .stateful_set
        .as_ref()
        .is_some_and(|set| set.child.deleting);
    let claims_going = observed.register.is_none()
        && observed
            .claims
            .values()
            .any(|claim| claim.deleting || goes_with_old_set(claim, observed));
    let note = if register_of_old || set_of_old || claims_going {
        Note::new(
            conditions::WAITING_FOR_OLD_TENANT,
            "objects of a deleted tenant of this name are still being removed",
        )
    } else if set_going {
        Note::new(
            conditions::CREATING,
            "the StatefulSet is being replaced around its pods",
        )
    } else {
        return None;
    };
    Some(Plan {
        activity: Some(note),
        ..Plan::default()
    })
}

/// Whether a StatefulSet that is no more will take this claim along.
fn goes_with_old_set(claim: &Claim, observed: &Observed) -> bool {
    let present = observed
        .stateful_set
        .as_ref()
        .map(|set| set.child.uid.as_str());
    claim
        .owning_set
        .as_deref()
        .is_some_and(|owner| Some(owner) != present)
}

/// Decides.
pub fn plan(tenant: &Tenant, observed: &Observed, requests: Vec<Request>) -> Decision {
    let volumes_without_history = observed.replication().is_none()
        && !observed.claims.is_empty()
        && observed
            .register
            .as_ref()
            .is_none_or(|register| !register.spec.bootstrap);
    let bootstrap = match &observed.register {
        None => observed.claims.is_empty(),
        Some(register) => register.spec.bootstrap && register.status.is_none(),
    };
    Decision {
        plan: RegisterPlan {
            min_in_sync: min_in_sync(tenant, observed),
            bootstrap,
            requests,
        },
        hindrances: volumes_without_history
            .then(|| {
                Note::new(
                    conditions::NO_IN_SYNC_REPLICA,
                    "the register is empty while volumes exist, so nobody can tell which of them holds every acknowledged write: restore the PercolateReplication from a backup, or delete the volume claims to begin empty",
                )
            })
            .into_iter()
            .collect(),
    }
}

/// Lowers at once; raises when enough replicas are in sync, because until then a higher number
/// would do nothing but refuse writes.
fn min_in_sync(tenant: &Tenant, observed: &Observed) -> i32 {
    let wanted = tenant.min_in_sync.max(1);
    let Some(register) = &observed.register else {
        return wanted;
    };
    let in_sync = register
        .status
        .as_ref()
        .map_or(0, |status| status.in_sync.len());
    let enough = i32::try_from(in_sync).unwrap_or(i32::MAX) >= wanted;
    if tenant.replicas == 0 || (wanted > register.spec.min_in_sync && !enough) {
        return register.spec.min_in_sync;
    }
    wanted
}

/// The id of a request: that of the one already standing, unless it was refused and the reason for
/// the refusal may be gone since, because the in-sync set or the leader has changed.
pub fn request_id(observed: &Observed, what: &str, standing: Option<&Request>) -> String {
    let fresh = format!("{what}-{}", fingerprint(observed));
    let refused = standing.is_some_and(|request| {
        observed
            .replication()
            .and_then(|status| status.answer(&request.id))
            .is_some_and(|answer| answer.outcome == Outcome::Refused)
    });
    match standing {
        Some(request) if !refused => request.id.clone(),
        _ => fresh,
    }
}

/// Changes with the leader, the in-sync set and `minInSync`.
fn fingerprint(observed: &Observed) -> String {
    let mut hasher = blake3::Hasher::new();
    if let Some(register) = &observed.register {
        hasher.update(&register.spec.min_in_sync.to_be_bytes());
        if let Some(status) = &register.status {
            hasher.update(&status.epoch.to_be_bytes());
            let mut in_sync = status.in_sync.clone();
            in_sync.sort_unstable();
            hasher.update(in_sync.join(",").as_bytes());
        }
    }
    let mut digits = hasher.finalize().to_hex().to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}
