//! Everything the operator asks of the API server: what its role must hold, no more and no less.
//!
//! The chart's role is written by hand and checked against this table. A node's own rights are in
//! [`NODE`]: the operator must hold them too, because nobody may grant what they do not have.

/// Verbs on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, or `resource/subresource`.
    pub resource: &'static str,
    /// What is done to it.
    pub verbs: &'static [&'static str],
    /// Where.
    pub scope: Scope,
}

/// Where a permission is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace with tenants.
    Tenants,
    /// In the operator's own namespace.
    Operator,
    /// On objects without a namespace.
    Cluster,
}

const OURS: &str = percolate_crds::GROUP;
const CHILD: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

macro_rules! permissions {
    ($($scope:ident $group:expr, $resource:literal, $verbs:expr;)+) => {
        &[$(Permission { group: $group, resource: $resource, verbs: $verbs, scope: Scope::$scope }),+]
    };
}

/// What the operator does. `create` goes with `patch`, because objects are made by server-side apply.
pub const OPERATOR: &[Permission] = permissions! {
    Tenants OURS, "percolatetenants", &["get", "list", "watch", "patch"];
    Tenants OURS, "percolatetenants/status", &["patch"];
    Tenants OURS, "percolatetenants/finalizers", &["update"];
    Tenants OURS, "percolatereplications", &["get", "list", "watch", "create", "patch"];
    Tenants "apps", "statefulsets", CHILD;
    Tenants "", "pods", &["list", "watch", "patch", "delete"];
    Tenants "", "persistentvolumeclaims", &["list", "watch", "patch", "delete"];
    Tenants "", "secrets", &["get", "list", "watch", "create", "patch"];
    Tenants "", "services", &["get", "list", "watch", "create", "patch"];
    Tenants "", "configmaps", &["get", "list", "watch", "create", "patch"];
    Tenants "", "serviceaccounts", &["get", "list", "watch", "create", "patch"];
    Tenants "rbac.authorization.k8s.io", "roles", &["get", "list", "watch", "create", "patch"];
    Tenants "rbac.authorization.k8s.io", "rolebindings", &["get", "list", "watch", "create", "patch"];
    Tenants "policy", "poddisruptionbudgets", &["get", "list", "watch", "create", "patch"];
    Tenants "networking.k8s.io", "networkpolicies", &["get", "list", "watch", "create", "patch"];
    Tenants "events.k8s.io", "events", &["create", "patch"];
    Operator "coordination.k8s.io", "leases", &["get", "create", "update"];
    Cluster "", "nodes", &["list", "watch"];
    Cluster "", "persistentvolumes", &["get"];
    Cluster "storage.k8s.io", "storageclasses", &["get"];
};

/// What a node does with its own register; the operator grants it.
pub const NODE: &[Permission] = permissions! {
    Tenants OURS, "percolatereplications", &["get", "list", "watch"];
    Tenants OURS, "percolatereplications/status", &["get", "update", "patch"];
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;

    use super::{NODE, OPERATOR, Permission, Scope};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rule {
        api_groups: Vec<String>,
        resources: Vec<String>,
        verbs: Vec<String>,
    }

    /// `group/resource verb`, one for each.
    fn granted(file: &str) -> BTreeSet<String> {
        let path = format!("../charts/percolate/files/rbac/{file}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let rules: Vec<Rule> = serde_saphyr::from_str(&text).unwrap();
        let mut all = BTreeSet::new();
        for rule in rules {
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    for verb in &rule.verbs {
                        all.insert(format!("{group}/{resource} {verb}"));
                    }
                }
            }
        }
        all
    }

    fn needed(scope: Scope) -> BTreeSet<String> {
        let lines = |permission: &Permission| {
            let Permission {
                group,
                resource,
                verbs,
                ..
            } = *permission;
            verbs
                .iter()
                .map(move |verb| format!("{group}/{resource} {verb}"))
        };
        OPERATOR
            .iter()
            .chain(NODE)
            .filter(|permission| permission.scope == scope)
            .flat_map(lines)
            .collect()
    }

    #[test]
    fn the_chart_grants_what_is_needed_and_nothing_else() {
        for (file, scope) in [
            ("tenants.yaml", Scope::Tenants),
            ("lease.yaml", Scope::Operator),
            ("cluster.yaml", Scope::Cluster),
        ] {
            assert_eq!(granted(file), needed(scope), "{file}");
        }
    }
}
