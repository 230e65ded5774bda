//! A real Kubernetes on one machine, without a container engine.
//!
//! ```text
//! up:   prerequisites ─► programs, images (cached) ─► keys ─► network ─► control plane ─► nodes ─► add-ons
//! down: processes ─► mounts ─► network ─► control groups ─► files
//! ```
//!
//! Each node has its own network namespace, containerd, kubelet, kube-proxy and disk for volumes, so
//! that losing one is real; control plane, DNS and provisioner run on the host. The processes outlive
//! the command; state lies in one directory (see [`layout`]). `NetworkPolicy` objects are stored and not
//! enforced: the bridge plugin does not know them.
//!
//! This module does not touch a cluster that the user already has: see [`existing_kubeconfig`].

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{run, succeeds};
use crate::image;
use crate::prerequisites;
use crate::programs::{Addons, Kubernetes};
use crate::progress::{say, step};

use self::address::Node;
use self::certificates::Authority;
use self::layout::Layout;
use self::process::ProcessTable;

mod addon;
pub mod address;
pub mod audit;
mod certificates;
pub(crate) mod cgroup;
mod config;
pub mod control_plane;
pub mod fault;
pub mod layout;
mod machine;
mod mounts;
mod network;
mod process;
mod teardown;

/// A node is ready as soon as its kubelet has looked around once.
const NODES_READY_TIMEOUT: Duration = Duration::from_mins(2);
/// Whether a cluster that should be up answers: more than a busy machine needs.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);

/// The cluster of this machine, up or not.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
}

/// The kubeconfig of a cluster that the user already has, from `KUBECONFIG`; none if that is unset
/// or names the cluster that `up` made.
pub fn existing_kubeconfig() -> Result<Option<PathBuf>> {
    let Some(path) = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let own = Layout::from_environment()?.kubeconfig();
    let is_own = path == own
        || matches!((path.canonicalize(), own.canonicalize()), (Ok(a), Ok(b)) if a == b);
    Ok((!is_own).then_some(path))
}

impl Cluster {
    /// The cluster whose state lies where the environment says.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            layout: Layout::from_environment()?,
        })
    }

    /// The administrator's kubeconfig; it exists while the cluster does.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// `kubectl` as administrator of this cluster.
    pub fn kubectl(&self) -> Result<Command> {
        Ok(Kubernetes::ready()?.kubectl(&self.kubeconfig()))
    }

    /// Directory with `kubectl` of the cluster's version, for a person's `PATH`.
    pub fn programs(&self) -> PathBuf {
        self.layout.state().join("bin")
    }

    /// The log of a process, see [`Self::process_names`].
    pub fn log(&self, process: &str) -> PathBuf {
        self.processes().log(process)
    }

    /// The names of the nodes that were started.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes().iter().map(Node::to_string).collect()
    }

    /// Brings up a cluster of at least `count` nodes (0: the control plane alone) and waits until
    /// all are ready. One that runs is kept, faults done to it are undone, missing nodes are added;
    /// one in ruins is removed first.
    pub fn up(&self, count: u8) -> Result<()> {
        let wanted = Node::first(count)?;
        let _lock = self.lock()?;
        if self.is_healthy() {
            let missing: Vec<Node> = wanted
                .into_iter()
                .filter(|node| !self.nodes().contains(node))
                .collect();
            if missing.is_empty() {
                say(&format!("already up: {} nodes", self.nodes().len()));
                return Ok(());
            }
            return self.add_nodes(&missing, &Kubernetes::ready()?);
        }
        if self.layout.state().exists() {
            step("what an earlier cluster left is removed", || {
                teardown::remove(&self.layout)
            })?;
        }
        prerequisites::ensure()?;
        let kubernetes = Kubernetes::ready()?;
        let addons = Addons::ready()?;
        self.start(&wanted, &kubernetes, &addons)
            .with_context(|| format!("logs are in {}", self.layout.logs().display()))
    }

    /// Removes the cluster and everything that belongs to it.
    pub fn down(&self) -> Result<()> {
        let _lock = self.lock()?;
        step(
            "processes, mounts, network, control groups and files of the cluster are removed",
            || teardown::remove(&self.layout),
        )
    }

    /// Whether every process that was started runs, the API server is ready and so are the nodes.
    /// Faults that leave processes alive are undone first.
    pub fn is_healthy(&self) -> bool {
        let records = self.processes().all();
        // The last that is started: with it missing, `up` was interrupted.
        let is_whole = records
            .iter()
            .any(|record| record.service.name == addon::LOCAL_PATH_PROVISIONER);
        if !is_whole || !records.iter().all(process::Record::is_alive) {
            return false;
        }
        let Ok(kubernetes) = Kubernetes::ready() else {
            return false;
        };
        let Ok(api_server) = self.processes().get(control_plane::API_SERVER) else {
            return false;
        };
        self.heal().is_ok()
            && control_plane::wait_ready(&self.layout, &kubernetes, &api_server, HEALTH_TIMEOUT)
                .is_ok()
            && self
                .wait_nodes_ready(&self.nodes(), &kubernetes, HEALTH_TIMEOUT)
                .is_ok()
    }

    /// Imports an image archive, as `image build` makes them, into every node.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let nodes = self.nodes();
        if nodes.is_empty() {
            bail!("no node runs; `percolate-e2e cluster up` starts some");
        }
        for node in nodes {
            step(
                &format!("{} is loaded into {node}", archive.display()),
                || machine::import(&self.layout.containerd_socket(node), archive),
            )?;
        }
        Ok(())
    }

    fn start(&self, nodes: &[Node], kubernetes: &Kubernetes, addons: &Addons) -> Result<()> {
        let table = self.processes();
        step("keys and kubeconfigs are made", || {
            // For every node there could be: one added later needs no key of the authority.
            Authority::create(&self.layout, &Node::all_possible().collect::<Vec<_>>())?;
            self.link_programs(kubernetes)
        })?;
        step("the bridge is made", network::create_bridge)?;
        step(
            "etcd, API server, controller manager, scheduler are started",
            || control_plane::start(&self.layout, kubernetes, &table),
        )?;
        step("DNS and volume provisioner are started", || {
            addon::start(&self.layout, addons, &table)
        })?;
        self.add_nodes(nodes, kubernetes)
    }

    fn add_nodes(&self, nodes: &[Node], kubernetes: &Kubernetes) -> Result<()> {
        let table = self.processes();
        let images = image::first_images()?;
        for node in nodes {
            step(&format!("{node} is started"), || {
                machine::start(*node, &self.layout, kubernetes, &table, &images)
            })?;
        }
        if let Some(first) = self.nodes().first() {
            network::route_services_via(*first)?;
        }
        step(&format!("{} nodes are ready", self.nodes().len()), || {
            self.wait_nodes_ready(&self.nodes(), kubernetes, NODES_READY_TIMEOUT)
        })
    }

    fn wait_nodes_ready(
        &self,
        nodes: &[Node],
        kubernetes: &Kubernetes,
        timeout: Duration,
    ) -> Result<()> {
        if nodes.is_empty() {
            return Ok(());
        }
        let kubeconfig = self.kubeconfig();
        crate::command::wait_until(
            "every node is registered",
            timeout,
            Duration::from_millis(200),
            || {
                let names = nodes.iter().map(Node::to_string);
                succeeds(
                    kubernetes
                        .kubectl(&kubeconfig)
                        .args(["get", "node"])
                        .args(names),
                )
            },
        )?;
        let names = nodes.iter().map(|node| format!("node/{node}"));
        run(kubernetes
            .kubectl(&kubeconfig)
            .args(["wait", "--for=condition=Ready"])
            .arg(format!("--timeout={}s", timeout.as_secs()))
            .args(names))
        .map(drop)
    }

    fn link_programs(&self, kubernetes: &Kubernetes) -> Result<()> {
        let directory = self.programs();
        fs::create_dir_all(&directory)?;
        std::os::unix::fs::symlink(kubernetes.program("kubectl"), directory.join("kubectl"))?;
        Ok(())
    }

    /// Nodes whose kubelet was started, whether or not it still runs.
    fn nodes(&self) -> Vec<Node> {
        self.processes()
            .all()
            .iter()
            .filter_map(|record| Node::parse(record.service.name.strip_suffix("/kubelet")?).ok())
            .collect()
    }

    fn processes(&self) -> ProcessTable {
        ProcessTable::of(&self.layout)
    }

    fn lock(&self) -> Result<File> {
        let path = self.layout.lock();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        if file.try_lock().is_err() {
            say("another `cluster up` or `down` is at work, waiting for it");
            file.lock()?;
        }
        Ok(file)
    }
}
