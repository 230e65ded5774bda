//! Replicas of one tenant in one process.

#[path = "certificates.rs"]
pub(crate) mod certificates;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use percolate_api::proto::replication::v1::replication_client::ReplicationClient;
use percolate_core::identity::ReplicaId;
use percolate_core::model::{ItemId, ItemKey};
use percolate_core::operation::{Action, IdempotencyKey, Operation, Outcome, PutResource};
use percolate_core::register::{self, ReplicaState};
use percolate_core::replica::Timing;
use percolate_node::driver::{Driver, Options};
use percolate_node::fault::Found;
use percolate_node::health::Liveness;
use percolate_node::metrics::Metrics;
use percolate_node::quarantine::{self, Place, mark};
use percolate_node::register::memory::MemoryRegister;
use percolate_node::store::{OpenError, Store};
use percolate_node::tenant::{Handle, Role, SessionToken, Status};
use percolate_node::tls::{self, Connector, Limits, Security, Tls};
use percolate_node::transport::{LinkService, Network};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn put(id: &str) -> Operation {
    put_content(id, format!("content of {id}"))
}

pub(crate) fn put_content(id: &str, content: String) -> Operation {
    Action::PutResource(PutResource {
        id: ItemId::new(id).expect("a valid id"),
        content: content.into(),
        content_type: None,
        metadata: None,
    })
    .into()
}

pub(crate) fn key(id: &str) -> ItemKey {
    ItemKey::Resource(ItemId::new(id).expect("a valid id"))
}

/// Ask until there is an answer; panics with `what` when patience ends.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < patience, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Running {
    handle: Handle,
    /// Ends when the process is to begin anew; with what was found, if it must not go on as it was.
    driver: JoinHandle<Option<Found>>,
    links: JoinHandle<()>,
    stop: CancellationToken,
}

pub(crate) struct Group {
    directory: TempDir,
    tls: Tls,
    register: MemoryRegister,
    log_keep_bytes: u64,
    /// How fast snapshots are read.
    pub(crate) snapshot_bytes_per_second: u64,
    ports: Vec<u16>,
    running: Vec<Option<Running>>,
}

impl Group {
    pub(crate) async fn start(replicas: usize, min_in_sync: usize) -> Self {
        Self::keeping(64 << 20, replicas, min_in_sync).await
    }

    /// The same with so many bytes of log kept.
    pub(crate) async fn keeping(log_keep_bytes: u64, replicas: usize, min_in_sync: usize) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().expect("a directory");
        certificates::write(directory.path(), vec!["localhost".to_owned()]);
        let tls = Tls::load(directory.path()).expect("certificates");
        let mut ports = Vec::new();
        for _ in 0..replicas {
            let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            ports.push(free.local_addr().expect("bound").port());
        }
        let running = (0..replicas).map(|_| None).collect();
        let mut group = Self {
            directory,
            tls,
            register: MemoryRegister::new(None, min_in_sync),
            log_keep_bytes,
            snapshot_bytes_per_second: 1 << 30,
            ports,
            running,
        };
        for ordinal in 0..replicas {
            group.revive(ordinal).await;
        }
        group
    }

    pub(crate) async fn revive(&mut self, ordinal: usize) {
        let path = self.directory.path().join(format!("acme-{ordinal}"));
        let fresh = ReplicaId(uuid::Uuid::new_v4().as_u128());
        let place = Place::new(&path, &format!("acme-{ordinal}"));
        quarantine::settle(&place, &self.register, &Liveness::default())
            .await
            .expect("another replica leads");
        // The threads of the killed one may still hold the disk for a moment.
        let began = Instant::now();
        let store = loop {
            match Store::open(&path, fresh) {
                Ok(store) => break store,
                Err(error) => assert!(began.elapsed() < PATIENCE, "it stays closed: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let ports = self.ports.clone();
        let address = move |pod: &str| {
            let ordinal: usize = pod
                .trim_start_matches("acme-")
                .parse()
                .expect("a pod of this group");
            format!("https://localhost:{}", ports[ordinal])
        };
        let network = Network::new(&self.tls, runtime::Handle::current(), address);
        let options = Options {
            log_keep_bytes: self.log_keep_bytes,
            snapshot_bytes_per_second: self.snapshot_bytes_per_second,
            pod: format!("acme-{ordinal}"),
            timing: Timing::new(100, 800),
            api_url: Box::new(|pod| format!("https://{pod}")),
            entropy: uuid::Uuid::new_v4().as_u128(),
        };
        let (metrics, liveness) = (Arc::new(Metrics::new()), Liveness::default());
        let (driver, ends) = Driver::new(
            Arc::new(store),
            Arc::new(self.register.clone()),
            network,
            options,
            metrics,
            liveness,
        )
        .expect("a driver");
        let listener = TcpListener::bind(("127.0.0.1", self.ports[ordinal]))
            .await
            .expect("the port is free");
        let stop = CancellationToken::new();
        let me = ends.handle.status().replica_id;
        let routes = LinkService::router(me, ends.inputs, ends.status, ends.outgoing);
        let links = tls::serve(
            listener,
            Security::Mutual {
                tls: self.tls.clone(),
                bulk: runtime::Handle::current(),
            },
            routes,
            Limits::default(),
            stop.clone(),
        );
        let driver = tokio::spawn(async move {
            let ended = driver.run().await;
            ended.err().map(|error| error.found().expect("a fault"))
        });
        self.running[ordinal] = Some(Running {
            handle: ends.handle,
            driver,
            links: tokio::spawn(links),
            stop,
        });
    }

    pub(crate) async fn kill(&mut self, ordinal: usize) {
        let Some(running) = self.running[ordinal].take() else {
            return;
        };
        running.driver.abort();
        running.links.abort();
        running.stop.cancel();
        let _ = (running.driver.await, running.links.await);
    }

    /// What a process does whose store is to be replaced: begin anew. Returns how often it did.
    pub(crate) async fn revive_ended(&mut self) -> usize {
        let mut revived = 0;
        for ordinal in 0..self.running.len() {
            let ended = |running: &Running| running.driver.is_finished();
            if self.running[ordinal].as_ref().is_some_and(ended) {
                self.conclude(ordinal).await;
                self.revive(ordinal).await;
                revived += 1;
            }
        }
        revived
    }

    /// A client of a replica's links; and the replica and the history, as its messages name them.
    pub(crate) async fn link_to(
        &self,
        ordinal: usize,
    ) -> (ReplicationClient<Channel>, Vec<u8>, Vec<u8>) {
        let status = self.handle(ordinal).status();
        let address = format!("https://localhost:{}", self.ports[ordinal]);
        let channel = Endpoint::from_shared(address)
            .expect("an address")
            .connect_with_connector(Connector::new(&self.tls))
            .await
            .expect("it listens");
        let incarnation = status.incarnation.expect("it has a history");
        (
            ReplicationClient::new(channel).max_decoding_message_size(4 << 20),
            status.replica_id.0.to_be_bytes().to_vec(),
            incarnation.0.to_be_bytes().to_vec(),
        )
    }

    /// What a process does that has ended: it marks the store, if that must not serve any more.
    async fn conclude(&mut self, ordinal: usize) {
        let Some(running) = self.running[ordinal].take() else {
            return;
        };
        running.stop.cancel();
        running.links.abort();
        let _ = running.links.await;
        let found = running.driver.await.expect("no panic");
        drop(running.handle);
        // Unlike a process that has ended, this one may still hold its disk for a moment.
        let disk = self.disk(ordinal);
        until(PATIENCE, "the disk is let go", || {
            let held = matches!(
                Store::open(&disk, ReplicaId(1)),
                Err(OpenError::Locked { .. })
            );
            std::future::ready((!held).then_some(()))
        })
        .await;
        if let Some(found) = found {
            mark::set(&disk, &found).expect("writable");
        }
    }

    /// Waits for the process to end; what it found.
    pub(crate) async fn ended(&mut self, ordinal: usize) -> Option<Found> {
        until(PATIENCE, "the process ends", || {
            let running = self.running[ordinal].as_ref().expect("it was running");
            std::future::ready(running.driver.is_finished().then_some(()))
        })
        .await;
        self.conclude(ordinal).await;
        mark::Mark::read(&self.disk(ordinal)).map(|mark| Found {
            fault: mark.fault,
            what: mark.what,
        })
    }

    /// The folder of a replica's data.
    pub(crate) fn disk(&self, ordinal: usize) -> PathBuf {
        self.directory.path().join(format!("acme-{ordinal}"))
    }

    pub(crate) fn empty_disk(&self, ordinal: usize) {
        let path = self.directory.path().join(format!("acme-{ordinal}"));
        let began = Instant::now();
        while Store::open(&path, ReplicaId(1)).is_err() {
            assert!(began.elapsed() < PATIENCE, "the disk stays in use");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::remove_dir_all(&path).expect("removable");
    }

    pub(crate) fn handle(&self, ordinal: usize) -> Handle {
        self.running[ordinal]
            .as_ref()
            .expect("running")
            .handle
            .clone()
    }

    /// What a replica says of itself; `None` while it does not run.
    pub(crate) fn status_of(&self, ordinal: usize) -> Option<Status> {
        let running = self.running[ordinal].as_ref()?;
        Some(running.handle.status())
    }

    pub(crate) async fn leader(&self) -> usize {
        until(PATIENCE, "somebody leads", || {
            let leads = |running: &Option<Running>| {
                running.as_ref().is_some_and(|running| {
                    running.handle.status().role == Role::Leader && running.handle.status().serving
                })
            };
            std::future::ready(self.running.iter().position(leads))
        })
        .await
    }

    pub(crate) async fn wait_in_sync(&self, replicas: usize) {
        until(PATIENCE, "all are in sync", || {
            let register = self.register.view().register;
            std::future::ready(
                register
                    .filter(|register| {
                        register.in_sync.len() == replicas && register.replicas.len() == replicas
                    })
                    .map(|_| ()),
            )
        })
        .await;
    }

    /// What the register says of the replica in a pod, the newest one first.
    pub(crate) fn states(&self, ordinal: usize) -> Vec<ReplicaState> {
        let pod = format!("acme-{ordinal}");
        let members = self
            .register
            .view()
            .register
            .map(|register| register.replicas);
        let members = members.into_iter().flatten();
        members
            .filter(|member| member.pod == pod)
            .filter_map(|member| member.state)
            .collect()
    }

    pub(crate) fn is_in_sync(&self, ordinal: usize) -> bool {
        let Some(running) = &self.running[ordinal] else {
            return false;
        };
        let me = running.handle.status().replica_id;
        let register = self.register.view().register;
        register.is_some_and(|register| register.in_sync.contains(&me))
    }

    /// Write until it is acknowledged, with the same idempotency key, at whoever leads.
    pub(crate) async fn write(&self, id: &str) -> SessionToken {
        self.write_as(&format!("key-{id}"), vec![put(id)]).await
    }

    /// Write `operations` under the idempotency key `key` until they are acknowledged, at whoever leads.
    pub(crate) async fn write_as(&self, key: &str, operations: Vec<Operation>) -> SessionToken {
        let idempotency_key = IdempotencyKey::new(key).expect("a valid key");
        until(PATIENCE, "the write is acknowledged", || {
            let (key, operations) = (idempotency_key.clone(), operations.clone());
            async move {
                let handle = self.handle(self.leader().await);
                let write = handle.write(operations, Some(key));
                let written = tokio::time::timeout(Duration::from_secs(3), write)
                    .await
                    .ok()?
                    .ok()?;
                assert!(
                    matches!(written.outcome, Outcome::Applied(_)),
                    "{:?}",
                    written.outcome
                );
                Some(written.token)
            }
        })
        .await
    }

    /// What the register says since there was a first leader.
    pub(crate) fn register(&self) -> register::Register {
        self.register.view().register.expect("it had a leader")
    }

    /// A person accepts that what only the lost leader held is lost.
    pub(crate) fn accept_loss(&self) {
        let register = self.register();
        let action = register::Action::AcceptLoss {
            epoch: register.epoch,
        };
        let id = "accept-loss".to_owned();
        self.register.ask(vec![register::Request { id, action }]);
    }

    /// Transactions that former leaders did not acknowledge and that were merged since the last failover.
    pub(crate) fn rescued(&self) -> u64 {
        let register = self.register.view().register;
        let failover = register.and_then(|register| register.last_failover);
        failover.map_or(0, |failover| failover.rescued)
    }

    /// All replicas end with the same bytes.
    pub(crate) async fn wait_equal_states(&self) {
        until(PATIENCE, "all states are equal", || {
            let states: Vec<_> = self
                .running
                .iter()
                .flatten()
                .map(|running| running.handle.store.state_hash().expect("readable"))
                .collect();
            std::future::ready(
                states
                    .windows(2)
                    .all(|pair| pair[0] == pair[1])
                    .then_some(()),
            )
        })
        .await;
    }

    pub(crate) async fn stop(&mut self) {
        for ordinal in 0..self.running.len() {
            self.kill(ordinal).await;
        }
    }
}
