//! What a cluster needs besides Kubernetes: names (`CoreDNS`) and volumes (local-path-provisioner).
//!
//! Both run on the host, beside the control plane: no fault done to a node takes them away, and
//! nothing has to be pulled from a registry.

use std::fs;

use anyhow::Result;

use super::address::Node;
use super::config;
use super::layout::Layout;
use super::process::{ProcessTable, Service};
use crate::image::BUSYBOX;
use crate::programs::Addons;

/// Serves the names of Services and pods on the bridge's address.
pub(super) const COREDNS: &str = "coredns";
/// Makes a directory on the pod's node for each claim of class `local-path`, the default.
pub(super) const LOCAL_PATH_PROVISIONER: &str = "local-path-provisioner";

/// Starts both.
pub(super) fn start(layout: &Layout, addons: &Addons, table: &ProcessTable) -> Result<()> {
    let directory = layout.configuration();
    let corefile = directory.join("Corefile");
    fs::write(&corefile, config::corefile(&layout.kubeconfig_of(COREDNS)))?;
    table.start(Service {
        name: COREDNS.to_owned(),
        namespace: None,
        program: addons.coredns.clone(),
        arguments: vec!["-conf".to_owned(), corefile.display().to_string()],
    })?;

    let volumes = Node::all_possible().map(|node| (node.to_string(), layout.volumes(node)));
    let config_file = directory.join("local-path.json");
    let helper_pod = directory.join("local-path-helper-pod.json");
    fs::write(&config_file, config::local_path(volumes))?;
    fs::write(&helper_pod, config::local_path_helper_pod())?;
    let kubeconfig = layout.kubeconfig_of(LOCAL_PATH_PROVISIONER);
    table.start(Service {
        name: LOCAL_PATH_PROVISIONER.to_owned(),
        namespace: None,
        program: addons.local_path_provisioner.clone(),
        arguments: vec![
            "start".to_owned(),
            format!("--config={}", config_file.display()),
            format!("--helper-pod-file={}", helper_pod.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={}", config::LOCAL_PATH_NAMESPACE),
            format!(
                "--service-account-name={}",
                config::LOCAL_PATH_SERVICE_ACCOUNT
            ),
            format!("--configmap-name={}", config::LOCAL_PATH_CONFIG),
            format!("--provisioner-name={}", config::LOCAL_PATH_PROVISIONER),
            format!("--helper-image={BUSYBOX}"),
        ],
    })?;
    Ok(())
}
