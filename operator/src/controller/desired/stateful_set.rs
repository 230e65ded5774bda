//! The StatefulSet, its pods and their volumes.
//!
//! Pods pass the `restricted` Pod Security Standard: not root, nothing writable but the volume, no
//! capability, no token but the short-lived one the node needs for its register. Pods are replaced
//! by the operator (`OnDelete`), because only it knows who leads.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            Capabilities, ConfigMapEnvSource, ConfigMapProjection, Container, ContainerPort,
            DownwardAPIProjection, DownwardAPIVolumeFile, EnvFromSource, EnvVar, EnvVarSource,
            HTTPGetAction, KeyToPath, ObjectFieldSelector, PersistentVolumeClaim,
            PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretVolumeSource,
            SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
            VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use percolate_crds::{names, tenant::DeletionPolicy};

use super::{labels, metadata, selector, settings};
use crate::controller::{observe, validate::Tenant};

/// User and group of the nodes.
const NODE_USER: i64 = 65532;
/// Time for a leader to hand over and for RocksDB to close.
const TERMINATION_GRACE_SECONDS: i64 = 60;
/// Lifetime of the node's API token; the kubelet renews it at four fifths.
const TOKEN_SECONDS: i64 = 3607;
/// Where programs expect the in-cluster credentials.
const SERVICE_ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Annotation on pods: hash of the environment they were started with.
const SETTINGS_HASH_ANNOTATION: &str = "percolationlabs.ai/settings-hash";
/// Set aside for a node whose tenant says nothing: an idle node's need, so that it is never the
/// first to be evicted.
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "10m"), ("memory", "64Mi")];
/// More than a node's own limits add up to (docs/limits.md): only a defect reaches it, and then harms
/// no neighbour.
const DEFAULT_LIMITS: [(&str, &str); 1] = [("memory", "1Gi")];

/// The StatefulSet. `present` gives the fields that cannot be changed in place.
pub fn stateful_set(
    tenant: &Tenant,
    replicas: i32,
    present: Option<&observe::StatefulSet>,
    settings_hash: &str,
) -> StatefulSet {
    let when_deleted = match tenant.deletion_policy {
        // While a deletion is held back, even a foreground deletion must find nothing to take along.
        DeletionPolicy::Delete if !tenant.deletion_protection => "Delete",
        DeletionPolicy::Delete | DeletionPolicy::Retain => "Retain",
    };
    StatefulSet {
        metadata: metadata(tenant, names::stateful_set(&tenant.name)),
        spec: StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(names::headless_service(&tenant.name)),
            // Any replica may be the one the others wait for.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(when_deleted.to_owned()),
                    // Stopping a tenant keeps its volumes; the operator removes those of dropped replicas.
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            selector: LabelSelector {
                match_labels: Some(selector(&tenant.name)),
                match_expressions: None,
            },
            template: pod_template(tenant, settings_hash),
            volume_claim_templates: Some(vec![claim_template(tenant, present)]),
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}

fn pod_template(tenant: &Tenant, settings_hash: &str) -> PodTemplateSpec {
    let pods = &tenant.pods;
    let mut all_labels = pods.labels.clone();
    all_labels.extend(labels(&tenant.name));
    let mut annotations = pods.annotations.clone();
    annotations.insert(
        SETTINGS_HASH_ANNOTATION.to_owned(),
        settings_hash.to_owned(),
    );
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::node(&tenant.name)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(NODE_USER),
                run_as_group: Some(NODE_USER),
                fs_group: Some(NODE_USER),
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            node_selector: Some(pods.node_selector.clone()).filter(|map| !map.is_empty()),
            affinity: pods.affinity.clone(),
            tolerations: Some(pods.tolerations.clone()).filter(|list| !list.is_empty()),
            topology_spread_constraints: Some(pods.spread.clone()).filter(|list| !list.is_empty()),
            priority_class_name: pods.priority_class.clone(),
            containers: vec![container(tenant)],
            volumes: Some(volumes(tenant)),
            ..PodSpec::default()
        }),
    }
}

fn container(tenant: &Tenant) -> Container {
    let ports = [
        ("api", names::API_PORT),
        ("peer", names::PEER_PORT),
        ("health", names::HEALTH_PORT),
    ];
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(tenant.image.clone()),
        args: Some(vec!["serve".to_owned()]),
        env: Some(vec![
            from_field("PERCOLATE_POD", "metadata.name"),
            from_field("PERCOLATE_NAMESPACE", "metadata.namespace"),
        ]),
        env_from: Some(vec![EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource {
                name: names::node(&tenant.name),
                optional: None,
            }),
            ..EnvFromSource::default()
        }]),
        ports: Some(
            ports
                .map(|(name, number)| ContainerPort {
                    name: Some(name.to_owned()),
                    container_port: number,
                    protocol: Some("TCP".to_owned()),
                    ..ContainerPort::default()
                })
                .to_vec(),
        ),
        resources: Some(
            tenant
                .pods
                .resources
                .clone()
                .unwrap_or_else(default_resources),
        ),
        // Opening a large store replays its log: the process lives before it serves.
        startup_probe: Some(probe("/healthz", 1, 120)),
        // A pod whose process is fine but which does not serve leaves its Services within seconds.
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount(names::DATA_VOLUME, &settings::data_directory(tenant), false),
            mount("tls", settings::TLS_DIRECTORY, true),
            mount("admin", settings::ADMIN_DIRECTORY, true),
            mount("api-token", SERVICE_ACCOUNT_DIRECTORY, true),
        ]),
        ..Container::default()
    }
}

fn default_resources() -> ResourceRequirements {
    let amounts = |amounts: &[(&str, &str)]| {
        let amounts = amounts.iter();
        amounts
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(amounts(&DEFAULT_REQUESTS)),
        limits: Some(amounts(&DEFAULT_LIMITS)),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only).filter(|read_only| *read_only),
        ..VolumeMount::default()
    }
}

fn volumes(tenant: &Tenant) -> Vec<Volume> {
    let secret = |volume: &str, secret_name: String, keys: &[&str]| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret_name),
            default_mode: Some(0o440),
            items: Some(keys.iter().map(|key| whole(key)).collect()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![
        secret(
            "tls",
            names::certificate_secret(&tenant.name),
            &["tls.crt", "tls.key", "ca.crt"],
        ),
        secret("admin", names::admin_secret(&tenant.name), &["token"]),
        Volume {
            name: "api-token".to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(api_credentials()),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

/// The token, the authority and the namespace, as every in-cluster client expects them.
fn api_credentials() -> Vec<VolumeProjection> {
    vec![
        VolumeProjection {
            service_account_token: Some(ServiceAccountTokenProjection {
                path: "token".to_owned(),
                expiration_seconds: Some(TOKEN_SECONDS),
                ..ServiceAccountTokenProjection::default()
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: "kube-root-ca.crt".to_owned(),
                items: Some(vec![whole("ca.crt")]),
                optional: None,
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "namespace".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        api_version: Some("v1".to_owned()),
                        field_path: "metadata.namespace".to_owned(),
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
            }),
            ..VolumeProjection::default()
        },
    ]
}

fn whole(key: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: key.to_owned(),
        ..KeyToPath::default()
    }
}

fn claim_template(
    tenant: &Tenant,
    present: Option<&observe::StatefulSet>,
) -> PersistentVolumeClaim {
    // A template cannot be changed in place: the present size stands until the set is replaced.
    let size = present
        .and_then(|set| set.volume_size.clone())
        .unwrap_or_else(|| tenant.storage.size.clone());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.to_owned()),
            labels: Some(labels(&tenant.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![tenant.storage.access_mode.as_str().to_owned()]),
            storage_class_name: tenant.storage.class.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
