//! Who the nodes are to the Kubernetes API, and the little they may do there: read their own
//! register and replace its status.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
};
use percolate_crds::{GROUP, names};

use super::{Desired, metadata, seal};
use crate::controller::{observe::ChildKind, validate::Tenant};

/// The identity, the role and their binding.
pub fn objects(tenant: &Tenant) -> Vec<Desired> {
    let name = names::node(&tenant.name);
    let account = ServiceAccount {
        metadata: metadata(tenant, name.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    let role = Role {
        metadata: metadata(tenant, name.clone()),
        rules: Some(vec![
            // A list with a field selector on the name is covered by resourceNames too.
            rule(tenant, "percolatereplications", &["get", "list", "watch"]),
            rule(
                tenant,
                "percolatereplications/status",
                &["get", "update", "patch"],
            ),
        ]),
    };
    let binding = RoleBinding {
        metadata: metadata(tenant, name.clone()),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: Some(tenant.namespace.clone()),
            api_group: None,
        }]),
    };
    vec![
        seal(ChildKind::ServiceAccount, &account),
        seal(ChildKind::Role, &role),
        seal(ChildKind::RoleBinding, &binding),
    ]
}

fn rule(tenant: &Tenant, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![GROUP.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(vec![names::replication(&tenant.name)]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        non_resource_urls: None,
    }
}
