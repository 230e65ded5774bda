//! The control groups that hold each node's pods: made before its kubelet starts, removed after.
//!
//! Under version 1 (and hybrid) a kubelet with a `cgroupRoot` of its own expects that directory in
//! every hierarchy; under version 2 there is one, whose parent must hand its controllers down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::address::Node;
use super::mounts::{Mount, mounts};
use crate::command::wait_until;

/// What kubelet limits pods with.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// A group can be removed once the kernel has reaped its last process.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Makes the node's group in every hierarchy.
pub(super) fn create(node: Node) -> Result<()> {
    for mount in hierarchies()? {
        let group = directory(&mount, node);
        if mount.file_system == "cgroup2" {
            for controller in NEEDED {
                // Refused where the controller is bound to version 1 or already handed down.
                let _ = fs::write(
                    mount.point.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        // A new cpuset group is empty, and no process can enter it, until it is told otherwise.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if mount.file_system == "cgroup" && group.join(file).exists() {
                fs::copy(mount.point.join(file), group.join(file))?;
            }
        }
    }
    Ok(())
}

/// Every process in any group of any node.
pub(super) fn members() -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for group in existing()? {
        visit(&group, &mut |directory| {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Removes the groups of every node; their processes must be dead.
pub(super) fn remove() -> Result<()> {
    for group in existing()? {
        let what = format!("{} can be removed", group.display());
        wait_until(&what, REMOVAL_TIMEOUT, POLL, || {
            // Children first: a group with groups in it cannot be removed.
            visit(&group, &mut |directory| {
                let _ = fs::remove_dir(directory);
            });
            !group.exists()
        })?;
    }
    Ok(())
}

/// Whether the machine offers the controllers that kubelet needs.
pub(crate) fn missing_controllers() -> Result<Vec<&'static str>> {
    let mut offered = String::new();
    for mount in hierarchies()? {
        offered.push(',');
        offered.push_str(&mount.options);
        offered.push(',');
        let controllers = fs::read_to_string(mount.point.join("cgroup.controllers"));
        offered.push_str(&controllers.unwrap_or_default().replace([' ', '\n'], ","));
    }
    let offered: Vec<&str> = offered.split(',').collect();
    Ok(NEEDED
        .into_iter()
        .filter(|controller| !offered.contains(controller))
        .collect())
}

fn hierarchies() -> Result<Vec<Mount>> {
    Ok(mounts()?
        .into_iter()
        .filter(|mount| matches!(mount.file_system.as_str(), "cgroup" | "cgroup2"))
        .collect())
}

fn existing() -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for mount in hierarchies()? {
        groups.extend(Node::all_possible().map(|node| directory(&mount, node)));
    }
    groups.retain(|group| group.exists());
    Ok(groups)
}

fn directory(mount: &Mount, node: Node) -> PathBuf {
    mount.point.join(node.cgroup().trim_start_matches('/'))
}

/// Calls `work` for each directory below `group` and then for `group` itself.
fn visit(group: &Path, work: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), work);
        }
    }
    work(group);
}
