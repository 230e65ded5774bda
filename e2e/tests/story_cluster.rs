//! The ground that the other stories stand on: pods on different nodes with volumes and names, and
//! faults that do what they say and can be undone. Needs the local cluster; a cluster of the user's
//! has no faults to offer.

#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::process::Command;
use std::time::{Duration, Instant};

use percolate_e2e::cluster::{Cluster, existing_kubeconfig};
use percolate_e2e::command::{run, succeeds, wait_until};

const NAMESPACE: &str = "story-cluster";
/// Longer than the grace that the controller manager gives a silent node.
const NOTICE: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(500);

/// Three pods, one per node, that say their name to whoever connects, and count their starts on disk.
const PODS: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: story-cluster}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: story-cluster}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: echo}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: echo, namespace: story-cluster}
spec:
  serviceName: echo
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {runAsNonRoot: true, runAsUser: 65532}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: echo}}
      containers:
      - name: echo
        image: percolate.local/busybox:1
        command: [sh, -c, 'echo start >> /data/starts; while :; do echo $HOSTNAME | nc -l -p 8080; done']
        readinessProbe: {exec: {command: [ls, /data/starts]}}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

#[test]
fn nodes_are_separate_machines_and_faults_are_real() {
    if existing_kubeconfig().unwrap().is_some() {
        eprintln!("SKIPPED: KUBECONFIG names a cluster that this test cannot do faults to");
        return;
    }
    let story = Story {
        cluster: Cluster::from_environment().unwrap(),
    };
    story.cluster.up(3).unwrap();
    story.start_pods();
    story.every_pod_reaches_every_other_by_name();
    story.a_killed_container_comes_back_with_its_disk();
    story.a_frozen_api_server_is_silent_and_pods_run_on();
    story.a_killed_api_server_comes_back();
    story.parted_nodes_do_not_reach_each_other();
    story.a_cut_node_is_noticed_and_comes_back();
    story.changes_are_counted_by_user();
    run(story.kubectl().args(["delete", "namespace", NAMESPACE])).unwrap();
}

struct Story {
    cluster: Cluster,
}

impl Story {
    fn kubectl(&self) -> Command {
        let mut command = self.cluster.kubectl().unwrap();
        command.args(["--namespace", NAMESPACE]);
        command
    }

    fn start_pods(&self) {
        let manifest = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(manifest.path(), PODS).unwrap();
        run(self.kubectl().arg("apply").arg("-f").arg(manifest.path())).unwrap();
        run(self
            .kubectl()
            .args(["rollout", "status", "statefulset/echo", "--timeout=180s"]))
        .unwrap();
    }

    fn pod_field(&self, pod: &str, field: &str) -> String {
        let path = format!("jsonpath={{{field}}}");
        run(self.kubectl().args(["get", "pod", pod, "-o", &path])).unwrap()
    }

    fn in_pod(&self, pod: &str, script: &str) -> Command {
        let mut command = self.kubectl();
        command.args(["exec", pod, "--", "sh", "-c", script]);
        command
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let script = format!("nc -w 2 {to}.echo.{NAMESPACE}.svc 8080 </dev/null | grep {to}");
        succeeds(&mut self.in_pod(from, &script))
    }

    fn every_pod_reaches_every_other_by_name(&self) {
        for (from, to) in [
            ("echo-0", "echo-1"),
            ("echo-1", "echo-2"),
            ("echo-2", "echo-0"),
        ] {
            assert_ne!(
                self.pod_field(from, ".spec.nodeName"),
                self.pod_field(to, ".spec.nodeName")
            );
            assert!(self.reaches(from, to), "{from} to {to}");
        }
    }

    fn a_killed_container_comes_back_with_its_disk(&self) {
        let before = self
            .cluster
            .kill_in_pod(NAMESPACE, "echo-0", "echo")
            .unwrap();
        assert_eq!(before.node, self.pod_field("echo-0", ".spec.nodeName"));
        wait_until(
            "echo-0 was started twice on the same disk",
            SOON,
            POLL,
            || {
                run(&mut self.in_pod("echo-0", "cat /data/starts"))
                    .is_ok_and(|text| text.lines().count() == 2)
            },
        )
        .unwrap();
        let after = self
            .cluster
            .pod_process(NAMESPACE, "echo-0", "echo")
            .unwrap();
        assert_ne!(before.pid, after.pid);
    }

    fn a_frozen_api_server_is_silent_and_pods_run_on(&self) {
        let address = self.pod_field("echo-1", ".status.podIP");
        self.cluster.freeze("kube-apiserver").unwrap();
        let start = Instant::now();
        assert!(!succeeds(self.kubectl().args([
            "get",
            "pods",
            "--request-timeout=2s"
        ])));
        assert!(
            start.elapsed() >= Duration::from_secs(2),
            "a frozen server does not refuse"
        );
        assert!(connects(&address));
        self.cluster.thaw("kube-apiserver").unwrap();
        wait_until("the API server answers again", SOON, POLL, || {
            succeeds(self.kubectl().args(["get", "pods", "--request-timeout=5s"]))
        })
        .unwrap();
    }

    fn a_killed_api_server_comes_back(&self) {
        self.cluster.kill("kube-apiserver").unwrap();
        assert!(!succeeds(self.kubectl().args([
            "get",
            "pods",
            "--request-timeout=2s"
        ])));
        self.cluster.restart("kube-apiserver").unwrap();
        run(self.kubectl().args(["get", "pods"])).unwrap();
    }

    fn parted_nodes_do_not_reach_each_other(&self) {
        let [one, other, third] =
            ["echo-0", "echo-1", "echo-2"].map(|pod| self.pod_field(pod, ".spec.nodeName"));
        self.cluster.part_nodes(&one, &other).unwrap();
        assert!(
            !self.reaches("echo-0", "echo-1"),
            "{one} is parted from {other}"
        );
        assert!(
            !self.reaches("echo-1", "echo-0"),
            "{other} is parted from {one}"
        );
        assert!(
            self.reaches("echo-0", "echo-2"),
            "{one} still reaches {third}"
        );
        self.cluster.rejoin_nodes(&one, &other).unwrap();
        assert!(self.reaches("echo-0", "echo-1"));
        assert!(self.reaches("echo-1", "echo-0"));
    }

    fn a_cut_node_is_noticed_and_comes_back(&self) {
        let node = self.pod_field("echo-2", ".spec.nodeName");
        let address = self.pod_field("echo-2", ".status.podIP");
        let is_ready = || {
            let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            run(self.kubectl().args(["get", "node", &node, "-o", path])).unwrap() == "True"
        };
        self.cluster.cut_node(&node).unwrap();
        assert!(!connects(&address));
        wait_until("the cut node is not ready", NOTICE, POLL, || !is_ready()).unwrap();
        self.cluster.heal_node(&node).unwrap();
        wait_until("the healed node is ready", NOTICE, POLL, is_ready).unwrap();
        assert!(connects(&address));
    }

    fn changes_are_counted_by_user(&self) {
        let writes = self.cluster.writes_since("2000-01-01T00:00:00Z").unwrap();
        let scheduler = &writes["system:kube-scheduler"];
        assert!(scheduler["create pods/binding"] >= 3, "{scheduler:?}");
    }
}

/// Whether the host reaches the pod at this address.
fn connects(address: &str) -> bool {
    let address = format!("{address}:8080").parse().unwrap();
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok()
}
