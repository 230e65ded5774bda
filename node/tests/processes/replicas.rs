//! The replicas of one tenant as processes, each behind proxies of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use percolate_node::tls::Tls;
use tempfile::TempDir;

use crate::api_server::{self, ApiServer};
use crate::certificates;
use crate::proxy::{Proxy, Way};
use crate::shim::Shim;
use crate::until;

pub(crate) const TOKEN: &str = "percolate-processes";

/// Wide apart, so that two busy cores do not count as a lost leader.
const HEARTBEAT_MS: u64 = 200;
const TAKEOVER_AFTER_MS: u64 = 2_500;

/// Ports of every replica, each at an address of its own.
#[derive(Debug, Clone, Copy)]
struct Ports {
    api: u16,
    peer: u16,
    health: u16,
}

struct Link {
    from: usize,
    to: usize,
    proxies: [Proxy; 2],
}

/// The replicas, ended when this is dropped.
pub(crate) struct Replicas {
    pub(crate) api_server: ApiServer,
    pub(crate) tls: Tls,
    pub(crate) shims: Vec<Shim>,
    ports: Ports,
    links: Vec<Link>,
    running: Vec<Option<Child>>,
    place: TempDir,
}

impl Replicas {
    /// So many replicas, all of them in sync.
    pub(crate) async fn start(count: usize) -> Self {
        let mut replicas = Self::prepare(count).await;
        for ordinal in 0..count {
            replicas.revive(ordinal);
        }
        replicas.wait_in_sync(count).await;
        replicas
    }

    /// The same before any of them runs.
    pub(crate) async fn prepare(count: usize) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let place = tempfile::tempdir().expect("a directory");
        let api_server = ApiServer::start(1).await;
        let write = |name: &str, content: &str| {
            fs::write(place.path().join(name), content).expect("writable");
        };
        write(
            "kubeconfig",
            &api_server.kubeconfig(&place.path().join("ca.crt")),
        );
        write("token", TOKEN);
        let hosts = (0..count).flat_map(|to| {
            let domains = std::iter::once(OWN_DOMAIN).chain((0..count).map(domain));
            domains.map(move |domain| address(to, domain).to_string())
        });
        certificates::write(place.path(), hosts.collect());
        let ports = free_ports();
        let shims =
            (0..count).map(|ordinal| Shim::new(place.path().join(format!("shim-{ordinal}"))));
        Self {
            api_server,
            tls: Tls::load(place.path()).expect("certificates"),
            shims: shims.collect(),
            ports,
            links: links(count, ports).await,
            running: (0..count).map(|_| None).collect(),
            place,
        }
    }

    /// Start a replica that does not run.
    pub(crate) fn revive(&mut self, ordinal: usize) {
        let path = |name: &str| self.place.path().join(name).display().to_string();
        let listen = |port: u16| SocketAddr::new(address(ordinal, OWN_DOMAIN).into(), port);
        let log = File::options().create(true).append(true).open(path("log"));
        let log = log.expect("writable");
        let child = Command::new(env!("CARGO_BIN_EXE_percolate"))
            .arg("serve")
            .args(["--tenant-id", "acme", "--namespace", api_server::NAMESPACE])
            .args(["--register", api_server::NAME, "--pod", &pod(ordinal)])
            .args(["--data-dir", &path(&format!("data-{ordinal}"))])
            .args(["--peer-domain", &domain(ordinal).to_string()])
            .args(["--tls-dir", &path(""), "--admin-token-file", &path("token")])
            .args(["--heartbeat-ms", &HEARTBEAT_MS.to_string()])
            .args(["--takeover-after-ms", &TAKEOVER_AFTER_MS.to_string()])
            .args(["--api-listen", &listen(self.ports.api).to_string()])
            .args(["--peer-listen", &listen(self.ports.peer).to_string()])
            .args(["--health-listen", &listen(self.ports.health).to_string()])
            .env("KUBECONFIG", path("kubeconfig"))
            .envs(self.shims[ordinal].environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.running[ordinal] = Some(child.expect("percolate was built"));
    }

    /// Send a signal to a replica's process.
    pub(crate) fn signal(&self, ordinal: usize, signal: &str) {
        let process = self.process(ordinal).to_string();
        let sent = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(
            sent.expect("kill is there").success(),
            "{signal} to {process}"
        );
    }

    /// Wait until a replica's process has ended.
    pub(crate) async fn ended(&mut self, ordinal: usize) -> ExitStatus {
        let mut child = self.running[ordinal].take().expect("it runs");
        until("the process ends", || {
            std::future::ready(child.try_wait().expect("a child"))
        })
        .await
    }

    /// Kill a replica, as power loss would, but for what the system has in its caches.
    pub(crate) async fn kill(&mut self, ordinal: usize) {
        self.signal(ordinal, "KILL");
        self.ended(ordinal).await;
    }

    /// Where a replica's API listens.
    pub(crate) fn api(&self, ordinal: usize) -> SocketAddr {
        SocketAddr::new(address(ordinal, OWN_DOMAIN).into(), self.ports.api)
    }

    /// Where a replica takes the links of others.
    pub(crate) fn peer(&self, ordinal: usize) -> SocketAddr {
        SocketAddr::new(address(ordinal, OWN_DOMAIN).into(), self.ports.peer)
    }

    /// Bytes of memory a replica has now.
    pub(crate) fn memory(&self, ordinal: usize) -> u64 {
        self.memory_line(ordinal, "VmRSS:")
    }

    /// The most bytes of memory it ever had.
    pub(crate) fn most_memory(&self, ordinal: usize) -> u64 {
        self.memory_line(ordinal, "VmHWM:")
    }

    fn memory_line(&self, ordinal: usize, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process(ordinal));
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kibibytes
            .expect("as Linux writes it")
            .parse::<u64>()
            .expect("a number")
            << 10
    }

    /// The ways from one replica to another, of messages first.
    pub(crate) fn ways(&self, from: usize, to: usize) -> &[Proxy; 2] {
        let mut links = self.links.iter();
        let link = links.find(|link| (link.from, link.to) == (from, to));
        &link.expect("two of these replicas").proxies
    }

    /// What happens to all that replicas say to each other, forwarded requests included.
    pub(crate) fn set_ways(&self, way: Way) {
        for proxy in self.links.iter().flat_map(|link| &link.proxies) {
            proxy.set(way);
        }
    }

    /// The replica that leads, as the register says.
    pub(crate) fn leader(&self) -> usize {
        let register = self.api_server.register();
        let leader = register["leaderPod"].as_str().expect("somebody leads");
        let mut ordinals = 0..self.running.len();
        ordinals
            .find(|ordinal| pod(*ordinal) == leader)
            .expect("one of these")
    }

    /// The epoch that the register is at.
    pub(crate) fn epoch(&self) -> u64 {
        self.api_server.register()["epoch"].as_u64().unwrap_or(0)
    }

    pub(crate) async fn wait_in_sync(&self, count: usize) {
        until(&format!("{count} replicas are in sync"), || {
            let register = self.api_server.register();
            let in_sync = register["inSync"].as_array().map_or(0, Vec::len);
            std::future::ready((in_sync == count).then_some(()))
        })
        .await;
    }

    fn process(&self, ordinal: usize) -> u32 {
        self.running[ordinal].as_ref().expect("it runs").id()
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = (child.kill(), child.wait());
        }
        if std::thread::panicking() {
            show_log(&self.place.path().join("log"));
        }
    }
}

/// The end of what all replicas had to say.
fn show_log(path: &Path) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(30)..] {
        eprintln!("    {line}");
    }
}

/// The last number of the address at which a replica itself listens.
const OWN_DOMAIN: u8 = 1;

/// The last number of the addresses at which a replica finds the others.
fn domain(ordinal: usize) -> u8 {
    100 + u8::try_from(ordinal).expect("few")
}

/// The other numbers: with the domain after it, an address of loopback.
fn pod(ordinal: usize) -> String {
    format!("127.0.{}", 10 + ordinal)
}

fn address(ordinal: usize, domain: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 10 + u8::try_from(ordinal).expect("few"), domain)
}

async fn links(count: usize, ports: Ports) -> Vec<Link> {
    let mut links = Vec::new();
    for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
        let way = async |port: u16| {
            let listen = SocketAddr::new(address(to, domain(from)).into(), port);
            let target = SocketAddr::new(address(to, OWN_DOMAIN).into(), port);
            Proxy::start(listen, target).await
        };
        let proxies = [way(ports.peer).await, way(ports.api).await];
        links.push(Link { from, to, proxies });
    }
    links
}

/// All are held until all are found, or the same one would be found again.
fn free_ports() -> Ports {
    let held = [(); 3].map(|()| TcpListener::bind("0.0.0.0:0").expect("a free port"));
    let [api, peer, health] = held.map(|held| held.local_addr().expect("bound").port());
    Ports { api, peer, health }
}
