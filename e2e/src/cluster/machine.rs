//! One node: its network namespace, its own containerd, kubelet and kube-proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::address::Node;
use super::certificates::AUTHORITY;
use super::layout::Layout;
use super::process::{ProcessTable, Service};
use super::{cgroup, config, network};
use crate::command::{run, succeeds, system, wait_until};
use crate::programs::Kubernetes;

const CONTAINERD: &str = "/usr/bin/containerd";
/// A cold disk reads containerd's 50 MB first.
const CONTAINERD_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Makes and starts the node. It is not waited for: nodes become ready side by side.
pub(super) fn start(
    node: Node,
    layout: &Layout,
    kubernetes: &Kubernetes,
    table: &ProcessTable,
    first_images: &[PathBuf],
) -> Result<()> {
    write_configuration(node, layout)?;
    network::create_node(node)?;
    cgroup::create(node)?;
    table.start(containerd(node, layout))?;
    let socket = layout.containerd_socket(node);
    wait_until(
        &format!("containerd of {node} answers"),
        CONTAINERD_TIMEOUT,
        POLL,
        || succeeds(ctr(&socket).arg("version")),
    )
    .with_context(|| {
        format!(
            "see {}",
            table.log(&process_name(node, "containerd")).display()
        )
    })?;
    for archive in first_images {
        import(&socket, archive)?;
    }
    table.start(kubelet(node, layout, kubernetes))?;
    table.start(kube_proxy(node, layout, kubernetes))?;
    Ok(())
}

/// Unpacks an image archive into the containerd behind `socket`.
pub(super) fn import(socket: &Path, archive: &Path) -> Result<()> {
    run(ctr(socket).args(["images", "import"]).arg(archive)).map(drop)
}

/// containerd's own client, looking at what Kubernetes runs.
pub(super) fn ctr(socket: &Path) -> std::process::Command {
    let mut command = system("ctr");
    command
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io"]);
    command
}

/// The name of a node's process, as faults and logs know it.
pub(super) fn process_name(node: Node, program: &str) -> String {
    format!("{node}/{program}")
}

fn write_configuration(node: Node, layout: &Layout) -> Result<()> {
    let directory = layout.node(node);
    for directory in [directory.join("cni"), layout.volumes(node)] {
        fs::create_dir_all(directory)?;
    }
    let authority = layout.keys().join(AUTHORITY);
    fs::write(
        directory.join("containerd.toml"),
        config::containerd(&directory),
    )?;
    fs::write(
        directory.join("cni/10-pods.conflist"),
        config::cni(node, &directory),
    )?;
    fs::write(
        directory.join("kubelet.json"),
        config::kubelet(node, &directory, &authority),
    )?;
    fs::write(directory.join("resolv.conf"), "")?;
    let kubeconfig = layout.kubeconfig_of("kube-proxy");
    fs::write(
        directory.join("kube-proxy.json"),
        config::kube_proxy(node, &kubeconfig),
    )?;
    Ok(())
}

fn containerd(node: Node, layout: &Layout) -> Service {
    let config = layout.node(node).join("containerd.toml");
    inside(
        node,
        "containerd",
        Path::new(CONTAINERD),
        vec![format!("--config={}", config.display())],
    )
}

fn kubelet(node: Node, layout: &Layout, kubernetes: &Kubernetes) -> Service {
    let directory = layout.node(node);
    inside(
        node,
        "kubelet",
        &kubernetes.program("kubelet"),
        vec![
            format!("--config={}", directory.join("kubelet.json").display()),
            format!(
                "--kubeconfig={}",
                layout.kubeconfig_of(&node.to_string()).display()
            ),
            format!("--root-dir={}", directory.join("kubelet").display()),
            format!("--cert-dir={}", directory.join("kubelet-pki").display()),
            format!("--hostname-override={node}"),
            format!("--node-ip={}", node.address()),
        ],
    )
}

fn kube_proxy(node: Node, layout: &Layout, kubernetes: &Kubernetes) -> Service {
    let config = layout.node(node).join("kube-proxy.json");
    let arguments = vec![format!("--config={}", config.display())];
    inside(
        node,
        "kube-proxy",
        &kubernetes.program("kube-proxy"),
        arguments,
    )
}

fn inside(node: Node, name: &str, program: &Path, arguments: Vec<String>) -> Service {
    Service {
        name: process_name(node, name),
        namespace: Some(node.namespace()),
        program: program.to_owned(),
        arguments,
    }
}
