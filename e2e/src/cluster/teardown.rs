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
/// kubelet makes this for plugins; the path is fixed in its source.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";
/// Every containerd's shims listen below this; the path is fixed in its source.
const SHIM_SOCKETS: &str = "/run/containerd/s";
/// Made on the way by programs that cannot be told another place; removed once nothing is in them.
const SHARED_DIRECTORIES: [&str; 6] = [
    SHIM_SOCKETS,
    "/run/containerd",
    CNI_RESULTS,
    "/var/lib/cni",
    CONTAINER_LOGS,
    "/var/lib/kubelet",
];

/// Removes the cluster. One that is not there is no error.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    let containers = containers(layout);
    kill_processes(layout)?;
    mounts::unmount_below(layout.state())?;
    network::remove()?;
    cgroup::remove()?;
    remove_outside_files(layout.state(), &containers);
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

/// A container that ran, or a sandbox of a pod.
struct Container {
    id: String,
    shim_socket: Option<PathBuf>,
}

fn containers(layout: &Layout) -> Vec<Container> {
    const BUNDLES: &str = "containerd/state/io.containerd.runtime.v2.task/k8s.io";
    entries(&layout.state().join("nodes"))
        .flat_map(|node| entries(&node.join(BUNDLES)))
        .map(|bundle| Container {
            id: file_name(&bundle),
            shim_socket: fs::read_to_string(bundle.join("address"))
                .ok()
                .and_then(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?))),
        })
        .collect()
}

/// Removes our files from directories that others may use, too; an error means that a file is gone
/// already, or belongs to somebody.
fn remove_outside_files(state: &Path, containers: &[Container]) {
    for socket in containers
        .iter()
        .filter_map(|container| container.shim_socket.as_deref())
    {
        let _ = fs::remove_file(socket);
    }
    for result in entries(Path::new(CNI_RESULTS)) {
        let name = file_name(&result);
        if containers
            .iter()
            .any(|container| name.contains(&container.id))
        {
            let _ = fs::remove_file(result);
        }
    }
    for link in entries(Path::new(CONTAINER_LOGS)) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(state)) {
            let _ = fs::remove_file(link);
        }
    }
    // A kubelet that belongs here keeps more than this directory.
    let plugins = Path::new(DEVICE_PLUGINS);
    if plugins
        .parent()
        .is_some_and(|kubelet| entries(kubelet).eq([plugins.to_owned()]))
    {
        let _ = fs::remove_dir_all(plugins);
    }
    for directory in SHARED_DIRECTORIES {
        let _ = fs::remove_dir(directory);
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
