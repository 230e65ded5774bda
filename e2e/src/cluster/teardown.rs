//! Takes a cluster away, whole or in ruins, and leaves nothing behind.
//!
//! Order: processes, mounts, network, control groups, files. What is there is found by its mark,
//! name or place rather than by a record, so that a crash at any moment of `up` is cleaned, too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::process::{ProcessTable, kill_all, marked};
use super::{cgroup, mounts, network};

/// A container that was being started while the others were killed is found in the next round.
const KILL_ROUNDS: usize = 5;
/// Each CNI result is kept here, whatever the plugins' own directories are.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// kubelet links the logs of containers here; the path is fixed in its source.
const CONTAINER_LOGS: &str = "/var/log/containers";

/// Removes the cluster. One that is not there is no error.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    let shim_sockets = shim_sockets(layout);
    kill_processes(layout)?;
    mounts::unmount_below(layout.state())?;
    network::remove()?;
    cgroup::remove()?;
    for socket in shim_sockets {
        // Most shims removed theirs in time.
        let _ = fs::remove_file(socket);
    }
    remove_links_into(layout.state(), Path::new(CONTAINER_LOGS));
    remove_cni_results();
    if layout.state().exists() {
        fs::remove_dir_all(layout.state())
            .with_context(|| format!("cannot remove {}", layout.state().display()))?;
    }
    Ok(())
}

fn kill_processes(layout: &Layout) -> Result<()> {
    for record in ProcessTable::of(layout).all() {
        record.kill()?;
    }
    for _ in 0..KILL_ROUNDS {
        let mut pids = marked(layout.state());
        pids.extend(cgroup::members()?);
        if pids.is_empty() {
            return Ok(());
        }
        kill_all(&pids)?;
    }
    bail!("processes of the cluster keep coming back after {KILL_ROUNDS} rounds of SIGKILL")
}

/// A shim's socket lies in a directory of all containerds of the machine; each container's bundle
/// names the one that is its own.
fn shim_sockets(layout: &Layout) -> Vec<PathBuf> {
    const BUNDLES: &str = "containerd/state/io.containerd.runtime.v2.task/k8s.io";
    let nodes = fs::read_dir(layout.state().join("nodes"));
    nodes
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|node| {
            fs::read_dir(node.path().join(BUNDLES))
                .into_iter()
                .flatten()
                .flatten()
        })
        .filter_map(|bundle| fs::read_to_string(bundle.path().join("address")).ok())
        .filter_map(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?)))
        .collect()
}

fn remove_links_into(state: &Path, directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(state)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove_cni_results() {
    for entry in fs::read_dir(CNI_RESULTS).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("percolate-node")
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
