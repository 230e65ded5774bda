//! The cables: one bridge on the host, one network namespace and one cable per node.
//!
//! ```text
//! host: percolate0 198.18.0.1 ── percolate-n1 ═ eth0 198.18.0.11 :node1: cni0 ── pods 10.244.1.0/24
//!                             └─ percolate-n2 ═ eth0 198.18.0.12 :node2: cni0 ── pods 10.244.2.0/24
//! ```
//!
//! A node has no default route: it reaches the bridge and the other nodes' pods, and nothing else.
//! The host routes the pods' range of each node to it, and Services' addresses to the first node,
//! whose kube-proxy translates them; the host's own firewall rules and forwarding stay as they are.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::address::{BRIDGE, BRIDGE_ADDRESS, BRIDGE_PREFIX, Node, SERVICE_CIDR};
use crate::command::{run, succeeds, system};

/// Makes the bridge.
pub(super) fn create_bridge() -> Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    let address = format!("{BRIDGE_ADDRESS}/{BRIDGE_PREFIX}");
    ip(&["address", "add", &address, "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    let docker_drops_bridged_frames = run(system("iptables").args(["-S", "FORWARD"]))
        .is_ok_and(|rules| rules.contains("-P FORWARD DROP"));
    if docker_drops_bridged_frames {
        run(&mut forward_rule("-I"))?;
    }
    Ok(())
}

/// Makes a node's namespace, its cable and its routes.
pub(super) fn create_node(node: Node) -> Result<()> {
    let namespace = node.namespace();
    let link = node.host_link();
    ip(&["netns", "add", &namespace])?;
    ip(&[
        "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
    ])?;
    ip(&["link", "set", &link, "master", BRIDGE, "up"])?;

    let address = format!("{}/{BRIDGE_PREFIX}", node.address());
    ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
    ip(&["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
    ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
    // Without a route a connection of the node itself to a Service fails before kube-proxy's rules see it.
    ip(&[
        "-n",
        &namespace,
        "route",
        "add",
        SERVICE_CIDR,
        "dev",
        "eth0",
    ])?;
    for other in Node::all_possible().filter(|other| *other != node) {
        let gateway = other.address().to_string();
        ip(&[
            "-n",
            &namespace,
            "route",
            "add",
            &other.pod_cidr(),
            "via",
            &gateway,
        ])?;
    }
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    run(inside(node).args(["sh", "-c", forward]))?;
    ip(&[
        "route",
        "replace",
        &node.pod_cidr(),
        "via",
        &node.address().to_string(),
    ])?;
    Ok(())
}

/// Sends what the host says to Services through this node.
pub(super) fn route_services_via(node: Node) -> Result<()> {
    ip(&[
        "route",
        "replace",
        SERVICE_CIDR,
        "via",
        &node.address().to_string(),
    ])
}

/// Pulls or plugs the node's cable. Pulled at the host's end, so that the node keeps its routes.
pub(super) fn set_cable(node: Node, plugged: bool) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    ip(&["link", "set", &node.host_link(), state])
}

/// Lets `node` drop, or no longer drop, what it and its pods would send to `other` and its pods.
pub(super) fn set_dropping(node: Node, other: Node, dropping: bool) -> Result<()> {
    let namespace = node.namespace();
    let (pods, host) = (other.pod_cidr(), format!("{}/32", other.address()));
    let gateway = other.address().to_string();
    let (to_pods, to_host): (&[&str], &[&str]) = if dropping {
        (&["blackhole", &pods], &["blackhole", &host])
    } else {
        (
            &[&pods, "via", &gateway, "onlink", "dev", "eth0"],
            &[&host, "dev", "eth0"],
        )
    };
    let replace = ["-n", &namespace, "route", "replace"];
    // The gateway must be reachable before a route may lead through it.
    ip(&[&replace, to_host].concat())?;
    ip(&[&replace, to_pods].concat())
}

/// Removes every namespace, cable and route that [`create_bridge`] and [`create_node`] may have made.
pub(super) fn remove() -> Result<()> {
    for node in Node::all_possible() {
        if exists_link(&node.host_link()) {
            ip(&["link", "delete", &node.host_link()])?;
        }
        let namespace = node.namespace();
        if Path::new("/var/run/netns").join(&namespace).exists() {
            ip(&["netns", "delete", &namespace])?;
        }
    }
    // Its routes go with it.
    if exists_link(BRIDGE) {
        ip(&["link", "delete", BRIDGE])?;
    }
    while succeeds(&mut forward_rule("-C")) {
        run(&mut forward_rule("-D"))?;
    }
    Ok(())
}

/// A command that runs the rest of its words in the node's network.
pub(super) fn inside(node: Node) -> std::process::Command {
    let mut command = system("nsenter");
    command.arg(format!("--net=/var/run/netns/{}", node.namespace()));
    command
}

fn forward_rule(action: &str) -> std::process::Command {
    let mut command = system("iptables");
    command.args([
        action, "FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT",
    ]);
    command
}

fn exists_link(name: &str) -> bool {
    fs::exists(Path::new("/sys/class/net").join(name)).unwrap_or(false)
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(system("ip").args(arguments)).map(drop)
}
