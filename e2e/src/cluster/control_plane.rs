//! etcd, API server, controller manager and scheduler: processes of the host on the bridge's address.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::address::{API_PORT, BRIDGE_ADDRESS, POD_CIDR, SERVICE_CIDR};
use super::certificates as keys;
use super::config::{self, NODE_GRACE_SECONDS};
use super::layout::Layout;
use super::process::{ProcessTable, Record, Service};
use crate::command::{run, succeeds, wait_until};
use crate::programs::Kubernetes;

/// The names of the processes, as faults and logs know them.
pub const ETCD: &str = "etcd";
/// See [`ETCD`].
pub const API_SERVER: &str = "kube-apiserver";
/// See [`ETCD`].
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// See [`ETCD`].
pub const SCHEDULER: &str = "kube-scheduler";

/// On loopback, where no pod can reach it, and off etcd's usual port, which another may use.
const ETCD_CLIENT: &str = "http://127.0.0.1:23790";
const ETCD_PEER: &str = "http://127.0.0.1:23800";
const PUBLIC_ADDRESS: Ipv4Addr = BRIDGE_ADDRESS;
/// Two busy cores need some seconds for what an idle machine does in four.
const START_TIMEOUT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(200);
/// The audit log's files: enough for hours of a busy story, bounded on a developer's disk.
const AUDIT_FILE_MB: &str = "50";
const AUDIT_FILES: &str = "3";
/// At the default of 20 requests a second five hundred stateful sets take minutes to appear.
const CONTROLLER_REQUESTS: &str = "200";
const CONTROLLER_BURST: &str = "400";

/// Starts all four and waits until the API server is ready.
pub(super) fn start(layout: &Layout, kubernetes: &Kubernetes, table: &ProcessTable) -> Result<()> {
    write_configuration(layout)?;
    table.start(etcd(layout))?;
    let api_server = table.start(api_server(layout, kubernetes))?;
    wait_ready(layout, kubernetes, &api_server, START_TIMEOUT)?;
    table.start(controller_manager(layout, kubernetes))?;
    table.start(scheduler(layout, kubernetes))?;
    let manifests = layout.configuration().join("manifests.json");
    run(kubernetes
        .kubectl(&layout.kubeconfig())
        .arg("apply")
        .arg("-f")
        .arg(manifests))?;
    Ok(())
}

/// Waits until the API server says that it is ready, or has ended.
pub(super) fn wait_ready(
    layout: &Layout,
    kubernetes: &Kubernetes,
    api_server: &Record,
    timeout: Duration,
) -> Result<()> {
    let kubeconfig = layout.kubeconfig();
    let is_ready = || {
        let mut request = kubernetes.kubectl(&kubeconfig);
        succeeds(request.args(["get", "--raw=/readyz", "--request-timeout=5s"]))
    };
    wait_until("the API server is ready", timeout, POLL, || {
        is_ready() || !api_server.is_alive()
    })?;
    if !api_server.is_alive() {
        bail!("the API server ended: see {API_SERVER}.log");
    }
    Ok(())
}

fn write_configuration(layout: &Layout) -> Result<()> {
    let directory = layout.configuration();
    for directory in [&directory, &layout.audit(), &layout.etcd()] {
        fs::create_dir_all(directory)?;
    }
    fs::write(directory.join("audit-policy.json"), config::audit_policy())?;
    fs::write(directory.join("manifests.json"), config::manifests())?;
    Ok(())
}

fn etcd(layout: &Layout) -> Service {
    host_service(
        ETCD,
        Path::new("/usr/bin/etcd"),
        vec![
            flag("data-dir", layout.etcd().display()),
            flag("listen-client-urls", ETCD_CLIENT),
            flag("advertise-client-urls", ETCD_CLIENT),
            flag("listen-peer-urls", ETCD_PEER),
            flag("initial-advertise-peer-urls", ETCD_PEER),
            flag("initial-cluster", format_args!("default={ETCD_PEER}")),
            // The cluster does not outlive the machine, so nothing is lost that a power cut would take,
            // and the disk is left to what is under test. Never in a benchmark that compares with etcd.
            "--unsafe-no-fsync".to_owned(),
            flag("auto-compaction-retention", "10m"),
        ],
    )
}

fn api_server(layout: &Layout, kubernetes: &Kubernetes) -> Service {
    let key = |name: &str| layout.keys().join(name).display().to_string();
    host_service(
        API_SERVER,
        &kubernetes.program(API_SERVER),
        vec![
            flag("etcd-servers", ETCD_CLIENT),
            flag("bind-address", PUBLIC_ADDRESS),
            flag("advertise-address", PUBLIC_ADDRESS),
            flag("secure-port", API_PORT),
            flag("service-cluster-ip-range", SERVICE_CIDR),
            flag("authorization-mode", "Node,RBAC"),
            flag("enable-admission-plugins", "NodeRestriction"),
            flag("allow-privileged", true),
            flag("client-ca-file", key(keys::AUTHORITY)),
            flag("tls-cert-file", key(keys::SERVER)),
            flag("tls-private-key-file", key(keys::SERVER_KEY)),
            flag("kubelet-client-certificate", key(keys::KUBELET_CLIENT)),
            flag("kubelet-client-key", key(keys::KUBELET_CLIENT_KEY)),
            // exec and logs would else ask for the node's name, which nothing resolves.
            flag("kubelet-preferred-address-types", "InternalIP"),
            flag(
                "service-account-issuer",
                "https://kubernetes.default.svc.cluster.local",
            ),
            flag(
                "service-account-key-file",
                key(keys::SERVICE_ACCOUNT_PUBLIC_KEY),
            ),
            flag(
                "service-account-signing-key-file",
                key(keys::SERVICE_ACCOUNT_KEY),
            ),
            flag(
                "audit-policy-file",
                layout.configuration().join("audit-policy.json").display(),
            ),
            flag("audit-log-path", layout.audit().join("audit.log").display()),
            flag("audit-log-maxsize", AUDIT_FILE_MB),
            flag("audit-log-maxbackup", AUDIT_FILES),
        ],
    )
}

fn controller_manager(layout: &Layout, kubernetes: &Kubernetes) -> Service {
    let key = |name: &str| layout.keys().join(name).display().to_string();
    let kubeconfig = layout.kubeconfig_of(CONTROLLER_MANAGER);
    host_service(
        CONTROLLER_MANAGER,
        &kubernetes.program(CONTROLLER_MANAGER),
        vec![
            flag("kubeconfig", kubeconfig.display()),
            flag("bind-address", Ipv4Addr::LOCALHOST),
            flag("use-service-account-credentials", true),
            flag(
                "service-account-private-key-file",
                key(keys::SERVICE_ACCOUNT_KEY),
            ),
            flag("root-ca-file", key(keys::AUTHORITY)),
            flag("cluster-signing-cert-file", key(keys::AUTHORITY)),
            flag("cluster-signing-key-file", key(keys::AUTHORITY_KEY)),
            flag("cluster-cidr", POD_CIDR),
            // The address plan gives each node its range; the controller would go by order of registration.
            flag("allocate-node-cidrs", false),
            flag(
                "node-monitor-grace-period",
                format_args!("{NODE_GRACE_SECONDS}s"),
            ),
            flag("node-monitor-period", "2s"),
            flag("kube-api-qps", CONTROLLER_REQUESTS),
            flag("kube-api-burst", CONTROLLER_BURST),
            flag("leader-elect", false),
        ],
    )
}

fn scheduler(layout: &Layout, kubernetes: &Kubernetes) -> Service {
    host_service(
        SCHEDULER,
        &kubernetes.program(SCHEDULER),
        vec![
            flag("kubeconfig", layout.kubeconfig_of(SCHEDULER).display()),
            flag("bind-address", Ipv4Addr::LOCALHOST),
            flag("leader-elect", false),
        ],
    )
}

fn host_service(name: &str, program: &Path, arguments: Vec<String>) -> Service {
    Service {
        name: name.to_owned(),
        namespace: None,
        program: program.to_owned(),
        arguments,
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::at("/state".into())
    }

    #[test]
    fn nothing_of_the_control_plane_listens_beyond_the_bridge_and_loopback() {
        let kubernetes = Kubernetes::at("/bin".into());
        for service in [
            etcd(&layout()),
            api_server(&layout(), &kubernetes),
            controller_manager(&layout(), &kubernetes),
            scheduler(&layout(), &kubernetes),
        ] {
            let listens: Vec<&String> = service
                .arguments
                .iter()
                .filter(|argument| {
                    argument.starts_with("--bind-address") || argument.starts_with("--listen")
                })
                .collect();
            assert!(!listens.is_empty(), "{}", service.name);
            for argument in listens {
                let inside = argument.contains("127.0.0.1") || argument.contains("198.18.0.1");
                assert!(inside, "{} {argument}", service.name);
            }
        }
    }

    #[test]
    fn the_audit_log_is_bounded() {
        let service = api_server(&layout(), &Kubernetes::at("/bin".into()));
        for flag in ["--audit-log-maxsize=50", "--audit-log-maxbackup=3"] {
            assert!(
                service.arguments.iter().any(|argument| argument == flag),
                "{flag}"
            );
        }
    }
}
