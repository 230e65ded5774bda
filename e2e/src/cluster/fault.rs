//! What stories do to the cluster: pull a node's cable, part two nodes, stop, kill and restart
//! processes, be they Kubernetes' own or a pod's.
//!
//! No function here asks the API server anything, so that faults can be done while it is away.
//! Every fault is undone by [`Cluster::heal`], which `cluster up` calls, too: a story that ended
//! half-way does not spoil the next.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::address::Node;
use super::control_plane::{self, API_SERVER};
use super::machine::ctr;
use super::process::{Record, send};
use super::{Cluster, network};
use crate::command::run;
use crate::programs::Kubernetes;

/// An API server that was killed reads etcd anew before it is ready.
const API_SERVER_RESTART: Duration = Duration::from_mins(1);

/// The main process of a pod's container, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcess {
    /// The node it runs on.
    pub node: String,
    /// Its process id on the host; `/proc/<pid>` tells its memory and processor time.
    pub pid: i32,
}

impl Cluster {
    /// Cuts the node off from everything: control plane, other nodes, host. Its pods run on and
    /// reach one another.
    pub fn cut_node(&self, node: &str) -> Result<()> {
        network::set_cable(Node::parse(node)?, false)
    }

    /// Undoes [`Self::cut_node`].
    pub fn heal_node(&self, node: &str) -> Result<()> {
        network::set_cable(Node::parse(node)?, true)
    }

    /// Parts two nodes from each other; both still reach the control plane.
    pub fn part_nodes(&self, one: &str, other: &str) -> Result<()> {
        self.drop_from(one, other)?;
        self.drop_from(other, one)
    }

    /// Half of [`Self::part_nodes`]: what `from` and its pods send to `to` is lost, not the reverse.
    pub fn drop_from(&self, from: &str, to: &str) -> Result<()> {
        network::set_dropping(Node::parse(from)?, Node::parse(to)?, true)
    }

    /// Undoes [`Self::part_nodes`] and [`Self::drop_from`].
    pub fn rejoin_nodes(&self, one: &str, other: &str) -> Result<()> {
        let (one, other) = (Node::parse(one)?, Node::parse(other)?);
        network::set_dropping(one, other, false)?;
        network::set_dropping(other, one, false)
    }

    /// Sends what the host says to Services through this node: before the first one, which is the
    /// usual way, is cut.
    pub fn route_services_via(&self, node: &str) -> Result<()> {
        network::route_services_via(Node::parse(node)?)
    }

    /// Stops a process as SIGSTOP does: connections stay open and nobody answers. Its name is as in
    /// [`Self::process_names`].
    pub fn freeze(&self, process: &str) -> Result<()> {
        self.processes().get(process)?.signal(Signal::STOP)
    }

    /// Undoes [`Self::freeze`].
    pub fn thaw(&self, process: &str) -> Result<()> {
        self.processes().get(process)?.signal(Signal::CONT)
    }

    /// Kills a process with SIGKILL and waits until it is gone: connections are refused.
    pub fn kill(&self, process: &str) -> Result<()> {
        self.processes().get(process)?.kill()
    }

    /// Starts a process again as it was started first; one that still runs is killed before.
    pub fn restart(&self, process: &str) -> Result<()> {
        let table = self.processes();
        let record = table.get(process)?;
        record.kill()?;
        let restarted = table.start(record.service)?;
        if process == API_SERVER {
            let kubernetes = Kubernetes::ready()?;
            control_plane::wait_ready(&self.layout, &kubernetes, &restarted, API_SERVER_RESTART)?;
        }
        Ok(())
    }

    /// The names of all processes of the cluster, for instance `kube-apiserver`, `node1/kubelet`.
    pub fn process_names(&self) -> Vec<String> {
        self.processes()
            .all()
            .into_iter()
            .map(|record| record.service.name)
            .collect()
    }

    /// Undoes every fault that leaves processes alive: plugs cables, rejoins nodes, thaws processes.
    pub fn heal(&self) -> Result<()> {
        let nodes = self.nodes();
        for node in &nodes {
            network::set_cable(*node, true)?;
            for other in nodes.iter().filter(|other| *other != node) {
                network::set_dropping(*node, *other, false)?;
            }
        }
        if let Some(first) = nodes.first() {
            network::route_services_via(*first)?;
        }
        self.processes()
            .all()
            .iter()
            .filter(|record| record.is_alive())
            .try_for_each(|record: &Record| record.signal(Signal::CONT))
    }

    /// Finds the main process of a pod's container, on whichever node it is.
    ///
    /// # Errors
    /// When no node runs it, or the container has just ended.
    pub fn pod_process(&self, namespace: &str, pod: &str, container: &str) -> Result<PodProcess> {
        for node in self.nodes() {
            let socket = self.layout.containerd_socket(node);
            let filter = format!(
                "labels.\"io.kubernetes.pod.namespace\"=={namespace},\
                 labels.\"io.kubernetes.pod.name\"=={pod},\
                 labels.\"io.kubernetes.container.name\"=={container}"
            );
            let containers = run(ctr(&socket).args(["containers", "list", "--quiet", &filter]))?;
            let tasks = running_tasks(&run(ctr(&socket).args(["tasks", "list"]))?);
            // Containers that ended stay listed until kubelet collects them; at most one has a task.
            if let Some(pid) = containers.lines().find_map(|id| tasks.get(id.trim())) {
                return Ok(PodProcess {
                    node: node.to_string(),
                    pid: *pid,
                });
            }
        }
        bail!("no node runs container {container} of pod {namespace}/{pod}")
    }

    /// Kills the main process of a pod's container with SIGKILL; kubelet starts it again.
    pub fn kill_in_pod(&self, namespace: &str, pod: &str, container: &str) -> Result<PodProcess> {
        self.signal_in_pod(namespace, pod, container, Signal::KILL)
    }

    /// Stops the main process of a pod's container as SIGSTOP does.
    pub fn freeze_in_pod(&self, namespace: &str, pod: &str, container: &str) -> Result<PodProcess> {
        self.signal_in_pod(namespace, pod, container, Signal::STOP)
    }

    /// Undoes [`Self::freeze_in_pod`].
    pub fn thaw_in_pod(&self, namespace: &str, pod: &str, container: &str) -> Result<PodProcess> {
        self.signal_in_pod(namespace, pod, container, Signal::CONT)
    }

    fn signal_in_pod(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        signal: Signal,
    ) -> Result<PodProcess> {
        let process = self.pod_process(namespace, pod, container)?;
        send(process.pid, signal).with_context(|| format!("{container} of {namespace}/{pod}"))?;
        Ok(process)
    }
}

/// Container id to process id, from the table that `ctr tasks list` prints.
fn running_tasks(table: &str) -> BTreeMap<String, i32> {
    table
        .lines()
        .filter_map(
            |line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [id, pid, "RUNNING" | "PAUSED"] => Some((id.to_owned(), pid.parse().ok()?)),
                _ => None,
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tasks_that_still_run_count() {
        let table =
            "TASK    PID     STATUS    \nabc     4321    RUNNING\ndef     0       STOPPED\n";
        assert_eq!(
            running_tasks(table),
            BTreeMap::from([("abc".to_owned(), 4321)])
        );
        assert_eq!(running_tasks(""), BTreeMap::new());
    }
}
