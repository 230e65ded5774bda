//! The configuration files of Kubernetes' components, as text. Pure: paths and addresses in, text out.
//!
//! Kubernetes reads JSON where it reads YAML, so structures are written as JSON and need no quoting rules.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::address::{API_PORT, BRIDGE_ADDRESS, Node, POD_CIDR};
use crate::image::{BUSYBOX, PAUSE};

/// Where Debian's package puts the CNI plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";
/// Node leases are renewed every quarter of this: short, so that the controller manager, which waits
/// `NODE_GRACE_SECONDS`, notices a lost node soon. In real life 40.
const NODE_LEASE_SECONDS: u32 = 20;
/// A node that was silent for this long is `NotReady`. In real life 50; shorter here so that a story
/// of a lost node does not spend its time waiting. Pods' own 300 s tolerations stay as they are.
pub(super) const NODE_GRACE_SECONDS: u32 = 20;

/// A kubeconfig with everything inside it.
pub(super) fn kubeconfig(authority: &str, user: &str, certificate: &str, key: &str) -> String {
    pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "percolate-e2e", "cluster": {
            "server": format!("https://{BRIDGE_ADDRESS}:{API_PORT}"),
            "certificate-authority-data": BASE64.encode(authority),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": BASE64.encode(certificate),
            "client-key-data": BASE64.encode(key),
        }}],
        "contexts": [{"name": "percolate-e2e", "context": {"cluster": "percolate-e2e", "user": user}}],
        "current-context": "percolate-e2e",
    }))
}

/// Logs every change with who made it, and no reads: a story counts changes, and a log of reads
/// would rotate them away within minutes.
pub(super) fn audit_policy() -> String {
    pretty(&json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": "Metadata"},
        ],
    }))
}

/// containerd of one node: everything below the node's directory, nothing shared with another.
pub(super) fn containerd(node_dir: &Path) -> String {
    let quote = |path: &str| Value::from(node_dir.join(path).to_string_lossy()).to_string();
    format!(
        r#"version = 2
root = {root}
state = {state}

[grpc]
  address = {socket}

# Default is /opt/containerd, which would outlive the cluster.
[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE a container may not lower its score, and runc fails with
  # "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # Namespaces of pods lie below the state directory, where `down` finds them.
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

# Default is /run/containerd/runc, which every containerd of the machine shares.
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = {runc}

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = {cni}
"#,
        root = quote("containerd/root"),
        state = quote("containerd/state"),
        socket = quote("containerd.sock"),
        opt = quote("containerd/opt"),
        cni = quote("cni"),
        runc = quote("containerd/runc"),
    )
}

/// Pods hang on a bridge inside the node's namespace, with addresses of the node's range. No
/// masquerading: other nodes and the host have routes to them.
pub(super) fn cni(node: Node, node_dir: &Path) -> String {
    pretty(&json!({
        "cniVersion": "0.4.0",
        "name": node.namespace(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": node_dir.join("cni-addresses"),
                    "ranges": [[{"subnet": node.pod_cidr()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    }))
}

/// kubelet of one node.
pub(super) fn kubelet(node: Node, node_dir: &Path, authority: &Path) -> String {
    let socket = format!("unix://{}", node_dir.join("containerd.sock").display());
    pretty(&json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": socket,
        "clusterDNS": [BRIDGE_ADDRESS],
        "clusterDomain": "cluster.local",
        // Empty: the host's search domains are no business of the pods.
        "resolvConf": node_dir.join("resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup(),
        "failCgroupV1": false,
        "failSwapOn": false,
        // The nodes share one machine and its disk: none may evict pods for what the others use.
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        // Stories kill one container twenty times: at the default it would then stay away for minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
        "podLogsDir": node_dir.join("pod-logs"),
        "volumePluginDir": node_dir.join("volume-plugins"),
    }))
}

/// kube-proxy of one node. The zeros keep it from settings that only the host's namespace may change.
pub(super) fn kube_proxy(node: Node, kubeconfig: &Path) -> String {
    pretty(&json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": node.to_string(),
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }))
}

/// Names of Services and pods; every other name does not exist, because nothing leaves the machine.
/// In a block of its own: within one, `CoreDNS` asks `template` before `kubernetes`, whatever the order.
/// Nothing is cached: a pod that came back with another address is found at once.
pub(super) fn corefile(kubeconfig: &Path) -> String {
    format!(
        "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {BRIDGE_ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {}
        pods insecure
        ttl 1
    }}
}}
.:53 {{
    bind {BRIDGE_ADDRESS}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
",
        kubeconfig.display()
    )
}

/// Which directory of which node holds volumes.
pub(super) fn local_path(volumes: impl Iterator<Item = (String, std::path::PathBuf)>) -> String {
    let map: Vec<Value> = volumes
        .map(|(node, path)| json!({"node": node, "paths": [path]}))
        .collect();
    pretty(&json!({"nodePathMap": map}))
}

/// The pod that makes and removes a volume's directory on its node.
pub(super) fn local_path_helper_pod() -> String {
    pretty(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            // On SIGTERM a shell that waits for its child does not end; nothing of worth runs here.
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "helper-pod", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent"}],
        },
    }))
}

/// The Kubernetes objects that belong to the cluster itself.
pub(super) fn manifests() -> String {
    pretty(&json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOCAL_PATH_NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": LOCAL_PATH_SERVICE_ACCOUNT, "namespace": LOCAL_PATH_NAMESPACE},
            },
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": LOCAL_PATH_CONFIG, "namespace": LOCAL_PATH_NAMESPACE},
                "data": {
                    "setup": "#!/bin/sh\nset -eu\nmkdir -m 0777 -p \"$VOL_DIR\"\n",
                    "teardown": "#!/bin/sh\nset -eu\nrm -rf \"$VOL_DIR\"\n",
                },
            },
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": "local-path",
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": LOCAL_PATH_PROVISIONER,
                "volumeBindingMode": "WaitForFirstConsumer",
                "reclaimPolicy": "Delete",
            },
        ],
    }))
}

/// Where the provisioner makes its helper pods.
pub(super) const LOCAL_PATH_NAMESPACE: &str = "local-path-storage";
/// Whose rights those pods have: none.
pub(super) const LOCAL_PATH_SERVICE_ACCOUNT: &str = "local-path-provisioner";
/// Holds the scripts those pods run.
pub(super) const LOCAL_PATH_CONFIG: &str = "local-path-config";
/// The name that the `StorageClass` refers to.
pub(super) const LOCAL_PATH_PROVISIONER: &str = "rancher.io/local-path";

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::new(2).expect("a valid number")
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).expect("valid JSON")
    }

    #[test]
    fn everything_of_a_node_lies_below_its_own_directory() {
        let directory = Path::new("/state/nodes/node2");
        let texts = [
            containerd(directory),
            cni(node(), directory),
            kubelet(node(), directory, Path::new("/state/keys/ca.crt")),
        ];
        for text in texts {
            let settings = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            for line in settings {
                for outside in ["\"/run/", "\"/var/", "\"/opt/", "\"/etc/"] {
                    assert!(!line.contains(outside), "{line}");
                }
            }
        }
    }

    #[test]
    fn kubelet_names_its_own_cgroup_socket_and_the_dns_on_the_bridge() {
        let config = parsed(&kubelet(node(), Path::new("/n"), Path::new("/ca.crt")));
        assert_eq!(config["cgroupRoot"], "/percolate-node2");
        assert_eq!(
            config["containerRuntimeEndpoint"],
            "unix:///n/containerd.sock"
        );
        assert_eq!(config["clusterDNS"], json!(["198.18.0.1"]));
        // Left out, both would get kubelet's defaults instead of "none".
        assert_eq!(config["enforceNodeAllocatable"], json!([]));
        assert_eq!(config["evictionHard"], json!({}));
    }

    #[test]
    fn pods_get_addresses_of_their_node_only() {
        let config = parsed(&cni(node(), Path::new("/n")));
        let ranges = &config["plugins"][0]["ipam"]["ranges"];
        assert_eq!(*ranges, json!([[{"subnet": "10.244.2.0/24"}]]));
        assert_eq!(config["plugins"][0].get("ipMasq"), None);
    }

    #[test]
    fn each_node_keeps_its_volumes_in_a_directory_of_its_own() {
        let volumes = [("node1", "/a"), ("node2", "/b")];
        let text = local_path(
            volumes
                .iter()
                .map(|(node, path)| ((*node).into(), path.into())),
        );
        let expected = json!({"nodePathMap": [
            {"node": "node1", "paths": ["/a"]},
            {"node": "node2", "paths": ["/b"]},
        ]});
        assert_eq!(parsed(&text), expected);
    }

    #[test]
    fn a_kubeconfig_carries_its_keys_and_points_at_the_bridge() {
        let config = parsed(&kubeconfig("CA", "someone", "CERT", "KEY"));
        assert_eq!(
            config["clusters"][0]["cluster"]["server"],
            "https://198.18.0.1:6443"
        );
        assert_eq!(
            config["users"][0]["user"]["client-key-data"],
            BASE64.encode("KEY")
        );
        assert_eq!(config["contexts"][0]["context"]["user"], "someone");
    }

    #[test]
    fn a_directory_with_a_quote_in_its_name_stays_one_string() {
        let text = containerd(Path::new("/a\"b"));
        assert!(text.contains(r#"root = "/a\"b/containerd/root""#), "{text}");
    }

    #[test]
    fn dns_answers_for_services_and_denies_the_rest() {
        let text = corefile(Path::new("/keys/coredns.kubeconfig"));
        assert!(text.contains("bind 198.18.0.1"));
        assert!(text.contains("kubeconfig /keys/coredns.kubeconfig"));
        assert!(text.contains("rcode NXDOMAIN"));
    }
}
