//! The register's spec. Its status belongs to the nodes alone.

use percolate_crds::{
    PercolateReplication, names, replication::ReplicationSpec, tenant::DeletionPolicy,
};

use super::metadata;
use crate::controller::{plan::RegisterPlan, validate::Tenant};

/// The register.
pub fn register(tenant: &Tenant, plan: &RegisterPlan) -> PercolateReplication {
    let mut metadata = metadata(tenant, names::replication(&tenant.name));
    if tenant.deletion_policy == DeletionPolicy::Retain {
        // Volumes without their register are worth nothing: what is retained, is retained together.
        metadata.owner_references = None;
    }
    PercolateReplication {
        metadata,
        spec: ReplicationSpec {
            min_in_sync: plan.min_in_sync,
            bootstrap: plan.bootstrap,
            requests: plan.requests.clone(),
        },
        status: None,
    }
}
