//! Ways to reach a tenant: each pod by name, the leader, or any ready replica.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use percolate_crds::{names, tenant::NodeRole};

use super::{Desired, metadata, seal, selector};
use crate::controller::{observe::ChildKind, validate::Tenant};

/// The three Services.
pub fn objects(tenant: &Tenant) -> Vec<Desired> {
    let all = selector(&tenant.name);
    let mut leader = all.clone();
    leader.insert(
        names::ROLE_LABEL.to_owned(),
        NodeRole::Leader.as_label().to_owned(),
    );
    let headless = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        // Nodes must find each other before they are ready: that is how they become it.
        publish_not_ready_addresses: Some(true),
        ..spec(all.clone(), &[API, PEER, HEALTH])
    };
    [
        (names::headless_service(&tenant.name), headless),
        (
            names::read_write_service(&tenant.name),
            spec(leader, &[API]),
        ),
        (names::read_only_service(&tenant.name), spec(all, &[API])),
    ]
    .into_iter()
    .map(|(name, spec)| {
        let service = Service {
            metadata: metadata(tenant, name),
            spec: Some(spec),
            status: None,
        };
        seal(ChildKind::Service, &service)
    })
    .collect()
}

const API: (&str, i32) = ("api", names::API_PORT);
const PEER: (&str, i32) = ("peer", names::PEER_PORT);
const HEALTH: (&str, i32) = ("health", names::HEALTH_PORT);

fn spec(selector: BTreeMap<String, String>, ports: &[(&str, i32)]) -> ServiceSpec {
    ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        selector: Some(selector),
        ports: Some(
            ports
                .iter()
                .map(|(name, port)| ServicePort {
                    name: Some((*name).to_owned()),
                    port: *port,
                    target_port: Some(IntOrString::String((*name).to_owned())),
                    protocol: Some("TCP".to_owned()),
                    ..ServicePort::default()
                })
                .collect(),
        ),
        ..ServiceSpec::default()
    }
}
