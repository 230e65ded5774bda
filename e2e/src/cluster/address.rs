//! The address plan: which names, addresses and ranges each node has.
//!
//! Everything follows from the node's number, so that a crashed cluster can be found and removed
//! without any record of it, and routes to nodes that do not exist yet can be laid in advance.

use std::fmt;
use std::net::Ipv4Addr;

use anyhow::{Result, bail};

/// The bridge on the host; control plane, DNS and provisioner listen on its address.
pub const BRIDGE: &str = "percolate0";
/// From the benchmarking range of RFC 2544, which no real network routes.
pub const BRIDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Length of the bridge network's prefix.
pub const BRIDGE_PREFIX: u8 = 24;
/// All pods of all nodes.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Cluster IPs of Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The first address of [`SERVICE_CIDR`], which Kubernetes gives to its own API Service.
pub const API_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where the API server listens on [`BRIDGE_ADDRESS`].
pub const API_PORT: u16 = 6443;
/// More nodes than two cores can carry; keeps every address within one octet.
pub const MAX_NODES: u8 = 9;

/// A node by its number, 1 to [`MAX_NODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(u8);

impl Node {
    /// The node with this number.
    pub fn new(number: u8) -> Result<Self> {
        if number == 0 || number > MAX_NODES {
            bail!("node {number} is outside 1 to {MAX_NODES}");
        }
        Ok(Self(number))
    }

    /// The node with this name, for instance `node2`.
    pub fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("node").map(str::parse) {
            Some(Ok(number)) => Self::new(number),
            _ => bail!("{name} is no node of this cluster; they are called node1, node2, ..."),
        }
    }

    /// The first `count` nodes.
    pub fn first(count: u8) -> Result<Vec<Self>> {
        (1..=count).map(Self::new).collect()
    }

    /// Every node there could be.
    pub fn all_possible() -> impl Iterator<Item = Self> {
        (1..=MAX_NODES).map(Self)
    }

    /// Its network namespace, below `/var/run/netns`.
    pub fn namespace(self) -> String {
        format!("percolate-node{}", self.0)
    }

    /// The host's end of its cable; at most 15 characters, the kernel's limit.
    pub fn host_link(self) -> String {
        format!("percolate-n{}", self.0)
    }

    /// Its address on the bridge network.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, 10 + self.0)
    }

    /// The range its pods get their addresses from.
    pub fn pod_cidr(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// The cgroup that holds all its pods, as kubelet's `cgroupRoot` names it.
    pub fn cgroup(self) -> String {
        format!("/percolate-node{}", self.0)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The kernel's IFNAMSIZ without its final NUL.
    const LINK_NAME_MAX: usize = 15;

    #[test]
    fn a_nodes_names_and_addresses_follow_from_its_number() {
        let node = Node::parse("node2").expect("a valid name");
        assert_eq!(node.to_string(), "node2");
        assert_eq!(node.namespace(), "percolate-node2");
        assert_eq!(node.host_link(), "percolate-n2");
        assert_eq!(node.address().to_string(), "198.18.0.12");
        assert_eq!(node.pod_cidr(), "10.244.2.0/24");
        assert_eq!(node.cgroup(), "/percolate-node2");
    }

    #[test]
    fn no_two_nodes_share_an_address_and_every_link_name_fits() {
        let addresses: BTreeSet<_> = Node::all_possible().map(Node::address).collect();
        assert_eq!(addresses.len(), usize::from(MAX_NODES));
        assert!(!addresses.contains(&BRIDGE_ADDRESS));
        for node in Node::all_possible() {
            assert!(node.host_link().len() <= LINK_NAME_MAX);
        }
    }

    #[test]
    fn names_and_numbers_outside_the_plan_are_refused() {
        for name in [
            "", "node", "node0", "node10", "node256", "node-1", "worker1",
        ] {
            assert!(Node::parse(name).is_err(), "{name}");
        }
        assert!(Node::first(MAX_NODES + 1).is_err());
        assert_eq!(Node::first(0).expect("none is fine"), []);
    }
}
