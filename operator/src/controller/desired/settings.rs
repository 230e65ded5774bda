//! The nodes' environment. Its hash is on the pods, so that a change of it rolls them.

use k8s_openapi::api::core::v1::ConfigMap;
use percolate_crds::names;

use super::metadata;
use crate::controller::validate::Tenant;

/// Where the nodes' certificate is mounted.
pub const TLS_DIRECTORY: &str = "/etc/percolate/tls";
/// Where the administrator's token is mounted.
pub const ADMIN_DIRECTORY: &str = "/etc/percolate/admin";

/// The environment all nodes of a tenant share.
pub fn config_map(tenant: &Tenant) -> ConfigMap {
    let data = [
        ("PERCOLATE_TENANT_ID", tenant.tenant_id.clone()),
        ("PERCOLATE_DATA_DIR", data_directory(tenant)),
        ("PERCOLATE_REGISTER", names::replication(&tenant.name)),
        (
            "PERCOLATE_PEER_DOMAIN",
            names::peer_domain(&tenant.name, &tenant.namespace),
        ),
        ("PERCOLATE_TLS_DIR", TLS_DIRECTORY.to_owned()),
        (
            "PERCOLATE_ADMIN_TOKEN_FILE",
            format!("{ADMIN_DIRECTORY}/token"),
        ),
        (
            "PERCOLATE_HEARTBEAT_MS",
            tenant.heartbeat.as_millis().to_string(),
        ),
        (
            "PERCOLATE_TAKEOVER_AFTER_MS",
            tenant.takeover_after.as_millis().to_string(),
        ),
    ];
    ConfigMap {
        metadata: metadata(tenant, names::node(&tenant.name)),
        data: Some(
            data.into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        ),
        ..ConfigMap::default()
    }
}

/// Where a node's volume is mounted.
pub fn data_directory(tenant: &Tenant) -> String {
    format!("{}/{}", names::DATA_ROOT, tenant.tenant_id)
}
