//! The register that Percolate's replicas need: an etcd and a Kubernetes API server on loopback,
//! nothing else of Kubernetes, with the CRDs of the chart and one `PercolateReplication`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::authority::{Authority, CERTIFICATE, KEY};
use super::daemon::{Daemon, until};
use super::place::{Place, free_ports};
use crate::command::{run, succeeds};
use crate::programs::{self, Kubernetes};
use crate::repository;

/// Namespace of the register.
pub(super) const NAMESPACE: &str = "bench";
/// Name of the register.
pub(super) const NAME: &str = "acme";
/// Opens the API server to whoever holds it: it listens on loopback, for one run.
pub(super) const TOKEN: &str = "percolate-bench";
/// The resource of the register, as the API server names it in its metrics.
const RESOURCE: &str = "percolatereplications";
/// What only reads; a watch is counted when it ends.
const READING: [&str; 3] = ["GET", "LIST", "WATCH"];

/// A register that answers.
pub(super) struct Register {
    kubernetes: Kubernetes,
    kubeconfig: PathBuf,
    port: u16,
    _daemons: Vec<Daemon>,
}

/// What the register says of a tenant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The pod that leads.
    pub(super) leader: Option<String>,
    /// How many replicas are in sync.
    pub(super) in_sync: usize,
}

/// Requests for registers that the API server has answered so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Requests {
    /// Of any kind.
    pub(super) all: u64,
    /// Those that change something.
    pub(super) writes: u64,
}

impl Register {
    /// Starts both and makes the register object. Writes are to be acknowledged by no fewer than
    /// `min_in_sync` replicas.
    pub(super) async fn start(
        place: &Place,
        authority: &Authority,
        min_in_sync: usize,
    ) -> Result<Self> {
        let kubernetes = Kubernetes::ready()?;
        let [etcd_client, etcd_peer, port] = free_ports()?;
        let kubeconfig = place.write("kubeconfig", &kubeconfig(authority, port))?;
        let keys = place.create("api-server")?;
        authority.write(&keys, vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let mut daemons = vec![
            start_etcd(place, etcd_client, etcd_peer)?,
            start_api_server(place, &kubernetes, etcd_client, port)?,
        ];
        until("the API server is ready", &mut daemons, || {
            let mut request = kubernetes.kubectl(&kubeconfig);
            let ready = succeeds(request.args(["get", "--raw=/readyz", "--request-timeout=5s"]));
            std::future::ready(ready)
        })
        .await?;
        let register = Self {
            kubernetes,
            kubeconfig,
            port,
            _daemons: daemons,
        };
        register.create(place, min_in_sync)?;
        Ok(register)
    }

    /// The port of the API server, at 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Who leads, and how many are in sync.
    pub(super) fn standing(&self) -> Result<Standing> {
        let text = run(self
            .kubectl()
            .args(["get", RESOURCE, NAME, "--output=json"]))?;
        standing_in(&text)
    }

    /// What the API server has counted.
    pub(super) fn requests(&self) -> Result<Requests> {
        let text = run(self.kubectl().args(["get", "--raw=/metrics"]))?;
        Ok(requests_in(&text))
    }

    fn create(&self, place: &Place, min_in_sync: usize) -> Result<()> {
        let definitions = repository::root()?.join("charts/percolate/files/crds.yaml");
        run(self.kubectl().arg("create").arg("-f").arg(definitions))?;
        run(self.kubectl().args([
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/percolatereplications.percolationlabs.ai",
        ]))?;
        run(self.kubectl().args(["create", "namespace", NAMESPACE]))?;
        let object = json!({
            "apiVersion": "percolationlabs.ai/v1alpha1",
            "kind": "PercolateReplication",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"minInSync": min_in_sync, "bootstrap": true},
        });
        let object = place.write("register.json", &object.to_string())?;
        run(self.kubectl().arg("create").arg("-f").arg(object)).map(drop)
    }

    fn kubectl(&self) -> Command {
        let mut command = self.kubernetes.kubectl(&self.kubeconfig);
        command.args(["--namespace", NAMESPACE, "--request-timeout=20s"]);
        command
    }
}

fn start_etcd(place: &Place, client: u16, peer: u16) -> Result<Daemon> {
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let arguments = [
        format!("--data-dir={}", place.directory().join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ];
    Daemon::start(place, "register-etcd", &programs::etcd()?, arguments)
}

fn start_api_server(
    place: &Place,
    kubernetes: &Kubernetes,
    etcd: u16,
    port: u16,
) -> Result<Daemon> {
    let tokens = format!("{TOKEN},bench,bench,system:masters\n");
    let tokens = place.write("tokens.csv", &tokens)?;
    let key = KeyPair::generate()?;
    let signing_key = place.write("service-account.key", &key.serialize_pem())?;
    let public_key = place.write("service-account.pub", &key.public_key_pem())?;
    let keys = place.directory().join("api-server");
    let arguments = [
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // The Service `kubernetes` cannot point at loopback, and nobody here asks for it.
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=198.18.1.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        format!("--token-auth-file={}", tokens.display()),
        format!("--tls-cert-file={}", keys.join(CERTIFICATE).display()),
        format!("--tls-private-key-file={}", keys.join(KEY).display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-signing-key-file={}",
            signing_key.display()
        ),
        format!("--service-account-key-file={}", public_key.display()),
    ];
    let program = kubernetes.program("kube-apiserver");
    Daemon::start(place, "register-api-server", &program, arguments)
}

fn kubeconfig(authority: &Authority, port: u16) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": BASE64.encode(authority.pem()),
        }}],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    })
    .to_string()
}

fn standing_in(object: &str) -> Result<Standing> {
    let object: Value = serde_json::from_str(object).context("the register is not JSON")?;
    ensure!(object.is_object(), "the register is no object");
    let status = &object["status"];
    Ok(Standing {
        leader: status["leaderPod"].as_str().map(str::to_owned),
        in_sync: status["inSync"].as_array().map_or(0, Vec::len),
    })
}

/// From lines such as `apiserver_request_total{…,resource="x",…,verb="GET",…} 3`.
fn requests_in(metrics: &str) -> Requests {
    let mut requests = Requests::default();
    let resource = format!("resource=\"{RESOURCE}\"");
    for line in metrics.lines() {
        let Some((labels, count)) = line
            .strip_prefix("apiserver_request_total{")
            .and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let mut labels = labels.split(',');
        if !labels.clone().any(|label| label == resource) {
            continue;
        }
        let count = count.parse().unwrap_or(0);
        let reads = labels.any(|label| {
            let verb = label
                .strip_prefix("verb=")
                .map(|verb| verb.trim_matches('"'));
            verb.is_some_and(|verb| READING.contains(&verb))
        });
        requests.all += count;
        requests.writes += if reads { 0 } else { count };
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standing_is_read_from_the_object() {
        let object = r#"{"status": {"leaderPod": "acme-1", "inSync": ["a", "b"]}}"#;
        let expected = Standing {
            leader: Some("acme-1".to_owned()),
            in_sync: 2,
        };
        assert_eq!(standing_in(object).expect("readable"), expected);
        assert_eq!(standing_in("{}").expect("readable"), Standing::default());
        assert!(standing_in("[]").is_err());
    }

    #[test]
    fn only_requests_for_registers_are_counted_and_writes_apart() {
        let line = |resource: &str, verb: &str, count: u32| {
            format!(
                "apiserver_request_total{{code=\"200\",resource=\"{resource}\",verb=\"{verb}\",version=\"v1\"}} {count}"
            )
        };
        let metrics = [
            "# TYPE apiserver_request_total counter".to_owned(),
            line("percolatereplications", "GET", 3),
            line("percolatereplications", "WATCH", 2),
            line("percolatereplications", "PUT", 4),
            line("percolatetenants", "GET", 100),
            "apiserver_request_body_size_bytes{resource=\"percolatereplications\"} 9".to_owned(),
        ];
        let expected = Requests { all: 9, writes: 4 };
        assert_eq!(requests_in(&metrics.join("\n")), expected);
        assert_eq!(requests_in(""), Requests::default());
    }
}
