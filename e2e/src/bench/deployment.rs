//! Percolate with two replicas: `percolate serve`, started as two pods would be, and in the hands of
//! whoever stops, kills or empties one of them.
//!
//! ```text
//! register (etcd, API server) ◀── acme-0 at 127.0.0.2 ⇄ acme-1 at 127.0.0.3 ◀── HTTPS, clients
//! ```
//! A pod finds others by name and the API server by its service account. Both are put in place by
//! mounts that only its own process sees: the machine's `/etc/hosts` and `/run` stay as they are.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{AUTHORITY, Authority};
use super::daemon::{Daemon, until};
use super::http::Connection;
use super::levels::Levels;
use super::place::{Place, free_ports};
use super::register::{self, Register, Requests, Standing};
use super::target;

/// Copies of the data.
pub(super) const REPLICAS: usize = 2;
/// In which pods are found; private, so that no name server could know it.
const DOMAIN: &str = "bench.internal";
const TOKEN: &str = "percolate-bench-administrator";
/// A pod that lives answers within this, however busy the machine is; one that hangs never does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often something awaited is looked for: a twentieth of a second hardly shows in any figure.
const POLL: Duration = Duration::from_millis(50);
/// A pod that stops hands over, lingers for two seconds and lets requests finish.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// One that stops in order leaves the in-sync set first; one that does not is left out after seconds.
const ALONE_WITHIN: Duration = Duration::from_secs(30);
/// Runs in a mount namespace of its own; what comes after its own arguments is the program.
const POD: &str = r#"
set -eu
mount --bind "$HOSTS" /etc/hosts
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$SERVICE_ACCOUNT" /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"#;

/// A connection to a pod's API.
pub(super) type HttpsConnection = Connection<TlsStream<TcpStream>>;

/// How replicas are set up, where that differs from the defaults.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// Writes are acknowledged by no fewer replicas.
    pub(super) min_in_sync: usize,
    /// Arguments of `percolate serve`, each with its value.
    pub(super) serve: Vec<(&'static str, String)>,
}

/// Replicas and their register.
pub(super) struct Deployment {
    replicas: Vec<Daemon>,
    register: Register,
    access: Access,
    place: Place,
}

/// The ways in, for clients in tasks of their own.
#[derive(Clone)]
pub(super) struct Access {
    connector: TlsConnector,
    ports: Ports,
}

/// The ports of a pod: the same for all, each at an address of its own.
#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    peer: u16,
    health: u16,
}

impl Deployment {
    /// Starts register and replicas, and waits until both are in sync. To be called on the main
    /// thread, as [`Daemon::start`] is.
    pub(super) async fn start(mut place: Place, setup: &Setup) -> Result<Self> {
        let program = target::program("percolate")?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "you are not root, and the mounts of its pods need that"
        );
        let authority = Authority::generate()?;
        let register = Register::start(&place, &authority, setup.min_in_sync).await?;
        write_pod_files(&place, &authority)?;
        place.set_environment(environment(&place, register.port()));
        let [api, peer, health] = free_ports()?;
        let ports = Ports { api, peer, health };
        let mut replicas = Vec::new();
        for ordinal in ordinals() {
            replicas.push(start_replica(&place, &program, ordinal, ports, setup)?);
        }
        until("both replicas are in sync", &mut replicas, || {
            let standing = register.standing().unwrap_or_default();
            std::future::ready(standing.in_sync == REPLICAS)
        })
        .await?;
        let connector = TlsConnector::from(authority.client()?);
        Ok(Self {
            replicas,
            register,
            access: Access { connector, ports },
            place,
        })
    }

    /// The processes, whether they run or not.
    pub(super) fn replicas(&self) -> &[Daemon] {
        &self.replicas
    }

    /// One process, for whoever does something to it.
    pub(super) fn replica(&mut self, ordinal: usize) -> &mut Daemon {
        &mut self.replicas[ordinal]
    }

    /// The ways in.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// What the register says. Starts a process: not to be asked while something is measured.
    pub(super) fn standing(&self) -> Result<Standing> {
        self.register.standing()
    }

    /// Requests for the register so far.
    pub(super) fn requests(&self) -> Result<Requests> {
        self.register.requests()
    }

    /// Who leads, by the register.
    pub(super) fn leader(&self) -> Result<usize> {
        let leader = self.standing()?.leader.context("nobody leads")?;
        ordinals()
            .find(|ordinal| pod(*ordinal) == leader)
            .with_context(|| format!("{leader} leads, which nobody started"))
    }

    /// Ends a replica in order.
    pub(super) async fn stop(&mut self, ordinal: usize) -> Result<()> {
        self.replicas[ordinal].stop(STOP_WITHIN).await
    }

    /// Empties the disk of a replica that has ended.
    pub(super) fn erase(&self, ordinal: usize) -> Result<()> {
        let data = self.data(ordinal);
        fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))
    }

    /// Where a replica's data lie.
    pub(super) fn data(&self, ordinal: usize) -> PathBuf {
        self.place.directory().join(pod(ordinal))
    }

    /// Ends everything and keeps the place, for what else is to be measured on the same disk.
    pub(super) fn end(self) -> Place {
        self.place
    }

    /// The last words of the replicas, for the person who has to find out what went wrong.
    pub(super) fn show_logs(&self) {
        self.replicas.iter().for_each(Daemon::show_log);
    }
}

impl Access {
    /// A connection to the API of one pod.
    ///
    /// # Errors
    /// When it is not there, or does not answer within some seconds.
    pub(super) async fn connect(&self, ordinal: usize) -> Result<HttpsConnection> {
        let host = format!("{}.{DOMAIN}", pod(ordinal));
        let opened = async {
            let stream = TcpStream::connect((address(ordinal), self.ports.api)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host.clone())?;
            anyhow::Ok(self.connector.connect(name, stream).await?)
        };
        let stream = timeout(CONNECT_TIMEOUT, opened)
            .await
            .context("a pod does not answer")??;
        let headers = format!("Authorization: Bearer {TOKEN}\r\n");
        Ok(Connection::new(stream, &host, &headers))
    }

    /// What a pod says of itself.
    pub(super) async fn levels(&self, ordinal: usize) -> Result<Levels> {
        let read = async {
            let stream = TcpStream::connect((address(ordinal), self.ports.health)).await?;
            let mut connection = Connection::new(stream, &pod(ordinal), "");
            let text = connection.succeed("GET", "/metrics", "").await?;
            Levels::parse(std::str::from_utf8(text)?)
        };
        timeout(CONNECT_TIMEOUT, read)
            .await
            .context("a pod does not say how it is")?
    }

    /// Waits until `leader` acknowledges without the other one.
    pub(super) async fn until_alone(&self, leader: usize) -> Result<()> {
        self.until_in_sync(leader, 1, ALONE_WITHIN).await
    }

    /// Waits until `leader` counts so many replicas in sync.
    pub(super) async fn until_in_sync(
        &self,
        leader: usize,
        count: u64,
        within: Duration,
    ) -> Result<()> {
        let what = format!("{count} replicas are in sync");
        wait(&what, within, || async move {
            let levels = self.levels(leader).await;
            levels.is_ok_and(|levels| levels.leads && levels.in_sync == count)
        })
        .await
    }
}

/// Asks again and again until the answer is yes.
///
/// # Errors
/// When the time is over; the message says what was awaited.
pub(super) async fn wait<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<()> {
    let begun = Instant::now();
    while !ask().await {
        if begun.elapsed() > within {
            bail!("{what}: not so within {} s", within.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn write_pod_files(place: &Place, authority: &Authority) -> Result<()> {
    let lines = ordinals()
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
    let names = ordinals().map(|ordinal| format!("{}.{DOMAIN}", pod(ordinal)));
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

fn start_replica(
    place: &Place,
    program: &Path,
    ordinal: usize,
    ports: Ports,
    setup: &Setup,
) -> Result<Daemon> {
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
                .chain(setup.serve.iter().cloned())
                .flat_map(|(name, value)| [name.to_owned(), value]),
        );
    Daemon::start(place, &pod, Path::new("unshare"), arguments)
}

fn pod(ordinal: usize) -> String {
    format!("acme-{ordinal}")
}

/// Each pod has one of loopback's many addresses.
fn address(ordinal: usize) -> IpAddr {
    let addresses = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
    IpAddr::V4(addresses[ordinal])
}

fn ordinals() -> Range<usize> {
    0..REPLICAS
}
