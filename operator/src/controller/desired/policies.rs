//! How many pods may be disturbed at once, and who may talk to them.

use k8s_openapi::{
    api::{
        networking::v1::{
            NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicyPort, NetworkPolicySpec,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use percolate_crds::names;

use super::{Desired, metadata, seal, selector};
use crate::controller::{observe::ChildKind, validate::Tenant};

/// Port on which names are resolved.
const DNS_PORT: i32 = 53;

/// The budget and the policy.
pub fn objects(tenant: &Tenant, api_server_ports: &[i32]) -> Vec<Desired> {
    let pods = LabelSelector {
        match_labels: Some(selector(&tenant.name)),
        match_expressions: None,
    };
    let budget = PodDisruptionBudget {
        metadata: metadata(tenant, names::policy(&tenant.name)),
        spec: Some(PodDisruptionBudgetSpec {
            // One at a time. A tenant of one replica does not block a drain for ever.
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(pods.clone()),
            // A pod that serves nobody must not keep a machine from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            min_available: None,
        }),
        status: None,
    };
    let policy = NetworkPolicy {
        metadata: metadata(tenant, names::policy(&tenant.name)),
        spec: Some(network_policy(&pods, api_server_ports)),
    };
    vec![
        seal(ChildKind::PodDisruptionBudget, &budget),
        seal(ChildKind::NetworkPolicy, &policy),
    ]
}

/// Closed, except: clients to the API (which asks for a token), scrapers to the metrics, the nodes
/// to each other, to names and to the API server (which is no pod and has no label to select by).
fn network_policy(pods: &LabelSelector, api_server_ports: &[i32]) -> NetworkPolicySpec {
    let peers = vec![NetworkPolicyPeer {
        pod_selector: Some(pods.clone()),
        ..NetworkPolicyPeer::default()
    }];
    NetworkPolicySpec {
        pod_selector: Some(pods.clone()),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        ingress: Some(vec![
            NetworkPolicyIngressRule {
                from: None,
                ports: Some(vec![tcp(names::API_PORT), tcp(names::HEALTH_PORT)]),
            },
            NetworkPolicyIngressRule {
                from: Some(peers.clone()),
                ports: Some(vec![tcp(names::PEER_PORT)]),
            },
        ]),
        egress: Some(vec![
            NetworkPolicyEgressRule {
                to: Some(peers),
                ports: Some(vec![tcp(names::API_PORT), tcp(names::PEER_PORT)]),
            },
            NetworkPolicyEgressRule {
                to: None,
                ports: Some(vec![port("UDP", DNS_PORT), tcp(DNS_PORT)]),
            },
            NetworkPolicyEgressRule {
                to: None,
                ports: Some(api_server_ports.iter().map(|number| tcp(*number)).collect()),
            },
        ]),
    }
}

fn tcp(number: i32) -> NetworkPolicyPort {
    port("TCP", number)
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}
