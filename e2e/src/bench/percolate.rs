//! Percolate with two replicas: `percolate serve`, started as two pods would be.
//!
//! ```text
//! register (etcd, API server) ◀── acme-0 at 127.0.0.2 ⇄ acme-1 at 127.0.0.3 ◀── HTTPS, 64 clients
//! ```
//! A pod finds others by name and the API server by its service account. Both are put in place by
//! mounts that only its own process sees: the machine's `/etc/hosts` and `/run` stay as they are.

mod stream;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{AUTHORITY, Authority};
use super::closed_loop::{Peer, Writer, value};
use super::daemon::{Daemon, until};
use super::http::Connection;
use super::place::{Place, free_ports};
use super::register::{self, Register};
use super::target;

pub(super) use self::stream::Streams;

/// Copies of the data.
const REPLICAS: u8 = 2;
/// In which pods are found; private, so that no name server could know it.
const DOMAIN: &str = "bench.internal";
const TOKEN: &str = "percolate-bench-administrator";
/// Values in one request of the writer of batches.
const BATCH: u64 = 100;
/// Runs in a mount namespace of its own; what comes after its own arguments is the program.
const POD: &str = r#"
set -eu
mount --bind "$HOSTS" /etc/hosts
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$SERVICE_ACCOUNT" /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"#;

/// Two replicas in sync.
pub(super) struct Percolate {
    replicas: Vec<Daemon>,
    register: Register,
    connector: TlsConnector,
    /// The same for a protocol that is not text.
    binary: TlsConnector,
    leader: String,
    address: SocketAddr,
    _place: Place,
}

/// The ports of a pod: the same for all, each at an address of its own.
#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    peer: u16,
    health: u16,
}

impl Percolate {
    /// Starts register and replicas, and waits until both are in sync.
    pub(super) async fn start(mut place: Place) -> Result<Self> {
        let program = target::program("percolate")?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "you are not root, and the mounts of its pods need that"
        );
        let authority = Authority::generate()?;
        let register = Register::start(&place, &authority).await?;
        write_pod_files(&place, &authority)?;
        place.set_environment(environment(&place, register.port()));
        let [api, peer, health] = free_ports()?;
        let ports = Ports { api, peer, health };
        let mut replicas = Vec::new();
        for ordinal in 0..REPLICAS {
            replicas.push(start_replica(&place, &program, ordinal, ports)?);
        }
        until("both replicas are in sync", &mut replicas, || {
            let standing = register.standing().unwrap_or_default();
            std::future::ready(standing.in_sync == usize::from(REPLICAS))
        })
        .await?;
        let leader = register.standing()?.leader.context("nobody leads")?;
        let ordinal = (0..REPLICAS)
            .find(|ordinal| pod(*ordinal) == leader)
            .with_context(|| format!("{leader} leads, which nobody started"))?;
        Ok(Self {
            replicas,
            register,
            connector: TlsConnector::from(authority.client(&[])?),
            binary: TlsConnector::from(authority.client(&["h2"])?),
            leader,
            address: SocketAddr::new(address(ordinal), ports.api),
            _place: place,
        })
    }

    async fn connection(&self) -> Result<Connection<TlsStream<TcpStream>>> {
        let host = format!("{}.{DOMAIN}", self.leader);
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.clone())?;
        let stream = self.connector.connect(name, stream).await?;
        let headers = format!("Authorization: Bearer {TOKEN}\r\n");
        Ok(Connection::new(stream, &host, &headers))
    }
}

impl Peer for Percolate {
    type Client = OneByOne;

    /// The register's processes are idle while nothing fails.
    fn daemons(&self) -> &[Daemon] {
        &self.replicas
    }

    async fn connect(&self, name: String) -> Result<OneByOne> {
        Ok(OneByOne {
            connection: self.connection().await?,
            name,
        })
    }

    /// What was acknowledged is on both disks: nobody left the set, and nobody else took over.
    fn check(&self) -> Result<()> {
        let standing = self.register.standing()?;
        ensure!(
            standing.in_sync == usize::from(REPLICAS)
                && standing.leader.as_ref() == Some(&self.leader),
            "the replicas changed while they were measured: {standing:?}"
        );
        Ok(())
    }
}

/// The same, written to in batches.
pub(super) struct InBatches(pub(super) Percolate);

impl Peer for InBatches {
    type Client = Batches;

    fn daemons(&self) -> &[Daemon] {
        self.0.daemons()
    }

    async fn connect(&self, name: String) -> Result<Batches> {
        Ok(Batches {
            connection: self.0.connection().await?,
            name,
        })
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// Writes one value per request.
pub(super) struct OneByOne {
    connection: Connection<TlsStream<TcpStream>>,
    name: String,
}

impl Writer for OneByOne {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        let path = format!("/api/v1/resources/{}-{sequence:08}", self.name);
        // Letters and digits need no quoting.
        let body = format!(r#"{{"content":"{}"}}"#, value(sequence));
        self.connection.succeed("PUT", &path, &body).await?;
        Ok(())
    }
}

/// Writes many values per request, as one transaction.
pub(super) struct Batches {
    connection: Connection<TlsStream<TcpStream>>,
    name: String,
}

impl Writer for Batches {
    const BATCH: u64 = BATCH;

    async fn write(&mut self, sequence: u64) -> Result<()> {
        let operations: Vec<_> = (sequence * BATCH..(sequence + 1) * BATCH)
            .map(|number| {
                let id = format!("{}-{number:08}", self.name);
                json!({"op": "put", "kind": "resource", "id": id, "content": value(number)})
            })
            .collect();
        let body = json!({"ops": operations}).to_string();
        self.connection
            .succeed("POST", "/api/v1/batch", &body)
            .await?;
        Ok(())
    }
}

fn write_pod_files(place: &Place, authority: &Authority) -> Result<()> {
    let lines = (0..REPLICAS)
        .map(|ordinal| format!("{} {}.{DOMAIN}", address(ordinal), pod(ordinal)))
        .chain(["127.0.0.1 localhost\n".to_owned()]);
    let hosts: Vec<String> = lines.collect();
    place.write("hosts", &hosts.join("\n"))?;
    place.create("service-account")?;
    for (name, content) in [
        ("token", register::TOKEN),
        ("namespace", register::NAMESPACE),
        (AUTHORITY, &authority.pem()),
    ] {
        place.write(&format!("service-account/{name}"), content)?;
    }
    place.write("administrator-token", TOKEN)?;
    let names = (0..REPLICAS).map(|ordinal| format!("{}.{DOMAIN}", pod(ordinal)));
    authority.write(&place.create("tls")?, names.collect())
}

fn environment(place: &Place, api_server: u16) -> Vec<(String, String)> {
    let path = |name: &str| place.directory().join(name).display().to_string();
    [
        ("HOSTS", path("hosts")),
        ("SERVICE_ACCOUNT", path("service-account")),
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1".to_owned()),
        ("KUBERNETES_SERVICE_PORT", api_server.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn start_replica(place: &Place, program: &Path, ordinal: u8, ports: Ports) -> Result<Daemon> {
    let path = |name: &str| place.directory().join(name).display().to_string();
    let listen = |port: u16| SocketAddr::new(address(ordinal), port).to_string();
    let pod = pod(ordinal);
    let namespace = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        POD,
        "pod",
    ];
    let serve = [
        ("--tenant-id", "acme".to_owned()),
        ("--data-dir", path(&pod)),
        ("--pod", pod.clone()),
        ("--namespace", register::NAMESPACE.to_owned()),
        ("--register", register::NAME.to_owned()),
        ("--peer-domain", DOMAIN.to_owned()),
        ("--tls-dir", path("tls")),
        ("--admin-token-file", path("administrator-token")),
        ("--api-listen", listen(ports.api)),
        ("--peer-listen", listen(ports.peer)),
        ("--health-listen", listen(ports.health)),
    ];
    let arguments = namespace
        .map(str::to_owned)
        .into_iter()
        .chain([program.display().to_string(), "serve".to_owned()])
        .chain(
            serve
                .into_iter()
                .flat_map(|(name, value)| [name.to_owned(), value]),
        );
    Daemon::start(place, &pod, Path::new("unshare"), arguments)
}

fn pod(ordinal: u8) -> String {
    format!("acme-{ordinal}")
}

/// Each pod has one of loopback's many addresses.
fn address(ordinal: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + ordinal))
}
