//! Every name of a tenant's objects, labels and annotations, in one place.
//!
//! The operator writes objects under these names, nodes and tests find them by the same functions;
//! nobody formats a name elsewhere.

/// Label on every child: the tenant it belongs to. The operator's watches select by
/// [`MANAGED_BY`], events are mapped back to the tenant by this one.
pub const TENANT_LABEL: &str = "percolationlabs.ai/tenant";
/// Label on pods: what the register says the pod is (`leader`, `follower`, `learner`).
pub const ROLE_LABEL: &str = "percolationlabs.ai/role";
/// Annotation: hash of what the operator last wanted an object to be. An object is written only
/// when this differs, so a settled tenant costs no writes.
pub const DESIRED_HASH_ANNOTATION: &str = "percolationlabs.ai/desired-hash";
/// Annotation on credentials: RFC 3339 time at which the operator next has to act on them.
pub const RENEW_AT_ANNOTATION: &str = "percolationlabs.ai/renew-at";
/// Annotation on credentials: hash of the authorities they were issued under.
pub const AUTHORITY_ANNOTATION: &str = "percolationlabs.ai/authority";
/// Annotation by which a person gives up what only lost in-sync replicas held: the register's epoch.
pub const ACCEPT_DATA_LOSS_ANNOTATION: &str = "percolationlabs.ai/accept-data-loss";
/// Finalizer that holds a tenant while `spec.deletionProtection` is on.
pub const PROTECTION_FINALIZER: &str = "percolationlabs.ai/deletion-protection";

/// Standard label: the application's name.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Standard label: the tenant.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Standard label: the role of the object within the tenant.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Standard label: the whole this is part of.
pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// Standard label: who manages the object.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`APP_NAME`] and [`APP_PART_OF`].
pub const PERCOLATE: &str = "percolate";
/// Value of [`APP_MANAGED_BY`], field manager of every write, and reporter of every event.
pub const MANAGED_BY: &str = "percolate-operator";
/// Value of [`APP_COMPONENT`] of everything that serves a tenant's database.
pub const COMPONENT: &str = "database";

/// Name of the volume in the pod and of the StatefulSet's claim template.
pub const DATA_VOLUME: &str = "data";
/// Name of the database container.
pub const CONTAINER: &str = "percolate";
/// Where volumes are mounted, each at `<this>/<tenant id>`.
pub const DATA_ROOT: &str = "/var/lib/percolate";

/// HTTPS API.
pub const API_PORT: i32 = 8000;
/// gRPC between the nodes of a tenant (mutual TLS).
pub const PEER_PORT: i32 = 7400;
/// Plain `/healthz`, `/readyz` and `/metrics`.
pub const HEALTH_PORT: i32 = 9100;

/// Label selector of everything the operator manages.
pub fn managed_selector() -> String {
    format!("{APP_MANAGED_BY}={MANAGED_BY}")
}

/// Labels that select a tenant's pods: few, and never changing.
pub fn selector_labels(tenant: &str) -> [(&'static str, String); 3] {
    [
        (APP_NAME, PERCOLATE.to_owned()),
        (APP_INSTANCE, tenant.to_owned()),
        (APP_COMPONENT, COMPONENT.to_owned()),
    ]
}

/// [`selector_labels`] in the form the scale subresource publishes.
pub fn selector_string(tenant: &str) -> String {
    selector_labels(tenant)
        .map(|(key, value)| format!("{key}={value}"))
        .join(",")
}

/// The register.
pub fn replication(tenant: &str) -> String {
    tenant.to_owned()
}

/// The StatefulSet.
pub fn stateful_set(tenant: &str) -> String {
    tenant.to_owned()
}

/// The pod of one ordinal.
pub fn pod(tenant: &str, ordinal: i32) -> String {
    format!("{tenant}-{ordinal}")
}

/// The ordinal of a pod, when the pod belongs to the tenant.
pub fn ordinal(tenant: &str, pod: &str) -> Option<i32> {
    pod.strip_prefix(tenant)?.strip_prefix('-')?.parse().ok()
}

/// The volume claim of one pod.
pub fn claim(pod: &str) -> String {
    format!("{DATA_VOLUME}-{pod}")
}

/// The pod of a volume claim.
pub fn pod_of_claim(claim: &str) -> Option<&str> {
    claim.strip_prefix(DATA_VOLUME)?.strip_prefix('-')
}

/// The headless Service by which pods find each other.
pub fn headless_service(tenant: &str) -> String {
    tenant.to_owned()
}

/// The Service of the leader.
pub fn read_write_service(tenant: &str) -> String {
    format!("{tenant}-rw")
}

/// The Service of every ready replica.
pub fn read_only_service(tenant: &str) -> String {
    format!("{tenant}-ro")
}

/// The `ServiceAccount`, Role, `RoleBinding` and ConfigMap of the nodes.
pub fn node(tenant: &str) -> String {
    format!("{tenant}-node")
}

/// The Secret with the authority's key; only the operator reads it.
pub fn authority_secret(tenant: &str) -> String {
    format!("{tenant}-ca")
}

/// The Secret with the nodes' certificate.
pub fn certificate_secret(tenant: &str) -> String {
    format!("{tenant}-tls")
}

/// The Secret with the administrator's token and where to use it.
pub fn admin_secret(tenant: &str) -> String {
    format!("{tenant}-admin")
}

/// The `PodDisruptionBudget` and NetworkPolicy.
pub fn policy(tenant: &str) -> String {
    tenant.to_owned()
}

/// Domain under which each pod has its own name.
pub fn peer_domain(tenant: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc", headless_service(tenant))
}

/// Where clients of a tenant connect within the cluster.
pub fn endpoint(tenant: &str, namespace: &str) -> String {
    format!(
        "https://{}.{namespace}.svc:{API_PORT}",
        read_write_service(tenant)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_and_its_ordinal_name_each_other() {
        for (tenant, ordinal_number) in [("acme", 0), ("a-1", 12)] {
            let pod = pod(tenant, ordinal_number);
            assert_eq!(ordinal(tenant, &pod), Some(ordinal_number));
            assert_eq!(pod_of_claim(&claim(&pod)), Some(pod.as_str()));
        }
        assert_eq!(ordinal("acme", "acme-rw-0"), None);
        assert_eq!(ordinal("acme", "other-0"), None);
        assert_eq!(pod_of_claim("scratch-acme-0"), None);
    }

    #[test]
    fn published_names_stay_as_documented() {
        assert_eq!(peer_domain("acme", "tenants"), "acme.tenants.svc");
        assert_eq!(
            endpoint("acme", "tenants"),
            "https://acme-rw.tenants.svc:8000"
        );
        assert_eq!(
            selector_string("acme"),
            "app.kubernetes.io/name=percolate,app.kubernetes.io/instance=acme,app.kubernetes.io/component=database"
        );
    }
}
