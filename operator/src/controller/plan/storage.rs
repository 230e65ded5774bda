//! Volumes that should be larger, and classes that do not exist.
//!
//! A claim is enlarged in place. The StatefulSet's own template cannot be changed, so once every
//! claim asks for the new size the set is deleted without its pods and made anew around them; later
//! pods then get volumes of the new size too.

use percolate_crds::conditions;

use super::{Act, Note};
use crate::{
    controller::{
        observe::{Observed, StorageClass, volume::ClaimPhase},
        validate::Tenant,
    },
    quantity,
};

/// The decision.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    /// Enlargements.
    pub acts: Vec<Act>,
    /// What is under way.
    pub activity: Option<Note>,
    /// What cannot be done.
    pub hindrances: Vec<Note>,
}

/// Decides.
pub fn plan(tenant: &Tenant, observed: &Observed) -> Storage {
    if observed.storage_class == StorageClass::Missing {
        return missing_class(tenant, observed);
    }
    let too_small: Vec<_> = observed
        .claims
        .values()
        .filter(|claim| {
            claim.phase == ClaimPhase::Bound
                && !claim.deleting
                && is_larger(&tenant.storage.size, claim.requested.as_deref())
        })
        .collect();
    if !too_small.is_empty() {
        if observed.storage_class == (StorageClass::Present { expandable: false }) {
            // Told by the StorageHealthy condition; nothing hinders the tenant otherwise.
            return Storage::default();
        }
        return Storage {
            acts: too_small
                .iter()
                .map(|claim| Act::ExpandClaim {
                    name: claim.name.clone(),
                    size: tenant.storage.size.clone(),
                })
                .collect(),
            activity: Some(Note::new(
                conditions::EXPANDING_VOLUMES,
                format!("to {}", tenant.storage.size),
            )),
            hindrances: Vec::new(),
        };
    }
    let replaced = observed.stateful_set.as_ref().filter(|set| {
        is_larger(&tenant.storage.size, set.volume_size.as_deref())
            && observed
                .claims
                .values()
                .all(|claim| !is_larger(&tenant.storage.size, claim.requested.as_deref()))
    });
    Storage {
        acts: replaced
            .map(|set| Act::ReplaceStatefulSet {
                uid: set.child.uid.clone(),
            })
            .into_iter()
            .collect(),
        ..Storage::default()
    }
}

/// Whether one size is larger than another; not, where either is unknown.
pub fn is_larger(wanted: &str, present: Option<&str>) -> bool {
    match (quantity::parse(wanted), present.and_then(quantity::parse)) {
        (Some(wanted), Some(present)) => wanted > present,
        _ => false,
    }
}

fn missing_class(tenant: &Tenant, observed: &Observed) -> Storage {
    // Volumes that exist already do not need their class any more.
    let all_bound = !observed.claims.is_empty()
        && observed
            .claims
            .values()
            .all(|claim| claim.phase == ClaimPhase::Bound);
    let hindrance = (!all_bound && tenant.replicas > 0).then(|| {
        Note::new(
            conditions::STORAGE_CLASS_NOT_FOUND,
            format!(
                "there is no storage class {:?}: create it, or create the tenant anew with one of `kubectl get storageclass`",
                tenant.storage.class.as_deref().unwrap_or_default()
            ),
        )
    });
    Storage {
        hindrances: hindrance.into_iter().collect(),
        ..Storage::default()
    }
}
