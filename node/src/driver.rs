//! Drives the replica machine of one tenant: feeds it inputs, carries out its effects, answers
//! clients. The only place where replication meets time, disk and network, and it decides nothing.
//!
//! ```text
//! clients  -> Command ─┐                          ┌─▶ disk (log writer, applier)
//! peers    -> Input  ──┼─▶ Replica::step ─effects─┼─▶ transport
//! register -> Input  ──┤                          ├─▶ registry
//! disk     -> Done   ──┘                          └─▶ answers, status
//! ```

mod answers;
mod disk;
mod reach;
mod rescue;
mod retention;
mod status;
mod tail;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use percolate_api::codec;
use percolate_core::clock::Hlc;
use percolate_core::identity::{Incarnation, Index, ReplicaId};
use percolate_core::log::ReadLog;
use percolate_core::operation::{IdempotencyKey, Operation, Transaction};
use percolate_core::replica::{
    self, Effect, Input, Millis, Position, Replica, RequestId, Restored, Timing,
};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use self::answers::Answers;
use self::disk::{Disk, Done};
use self::rescue::Rescuing;
use self::retention::Retention;
use self::status::StatusPublisher;
use self::tail::Tail;
use crate::fault::{Fault, Found};
use crate::health::Liveness;
use crate::metrics::Metrics;
use crate::register::Registry;
use crate::snapshot::outgoing::Outgoing;
use crate::snapshot::progress::Progress;
use crate::store::{Durable, Store, StoreError};
use crate::tenant::{Command, Handle, Status, Unavailable, WriteReply};
use crate::transport::{Network, Transport};

/// Writes waiting for the driver, and as many other commands. Beyond this clients are told to come back: it is more than a
/// batch of the log can take, so a longer queue would only add latency. Their bytes are bounded by
/// [`crate::admission`].
const COMMANDS: usize = 4_096;

/// Messages waiting for the driver; senders are slowed down beyond this. Their bytes are bounded by
/// what a leader sends ahead to a follower (`core::replica::progress`).
const INPUTS: usize = 1_024;

/// Inputs taken in before effects go out together: what arrived together travels together.
const BATCH: usize = 512;

/// Linearizable reads that wait for the in-sync replicas to confirm; beyond this clients are told to
/// come back. A follower that hangs keeps them waiting, also those whose clients have gone.
const CONFIRMATIONS: usize = 4_096;

/// Payload bytes applied in one batch.
const APPLY_BYTES: usize = 4 << 20;

/// How often time is told to the replica, per heartbeat.
const TICKS_PER_HEARTBEAT: u32 = 2;

/// What a driver needs to know.
pub struct Options {
    /// The pod of this process.
    pub pod: String,
    /// Timeouts.
    pub timing: Timing,
    /// Base URL of the API of a pod, for forwarding.
    pub api_url: Box<dyn Fn(&str) -> String + Send>,
    /// Bytes of the log that are always kept.
    pub log_keep_bytes: u64,
    /// How fast other replicas may read snapshots of this one.
    pub snapshot_bytes_per_second: u64,
    /// Random bits: the incarnation, should this be the tenant's first replica, and jitter.
    pub entropy: u128,
}

/// How a driver ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A snapshot is there that takes the store's place when that is opened next. Nothing may be
    /// written to the store before.
    SnapshotReady,
}

/// Why a driver failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A write to the disk failed. Only a new process can tell what is on it.
    #[error("the disk failed")]
    Disk(#[source] StoreError),
    /// The oplog cannot be read (logged where it happened).
    #[error("the oplog cannot be read")]
    Oplog,
    /// The threads for the disk could not be started.
    #[error("cannot start the disk's threads")]
    Threads(#[source] std::io::Error),
    /// A copied snapshot could not be written, or not be made to take the store's place.
    #[error("a copied snapshot cannot be put in place")]
    Snapshot(#[source] std::io::Error),
    /// This replica's data are not to be trusted.
    #[error("this replica must not go on")]
    Found(#[source] Found),
}

impl DriverError {
    /// What is wrong with the disk or what is on it, if that is the reason.
    pub fn found(&self) -> Option<Found> {
        match self {
            Self::Disk(error) => error.fault().map(|fault| Found::new(fault, error)),
            Self::Snapshot(error) => Some(Found::new(Fault::of_write(error), error)),
            Self::Found(found) => Some(found.clone()),
            Self::Oplog | Self::Threads(_) => None,
        }
    }
}

/// The loop and everything it owns.
pub struct Driver {
    replica: Replica,
    store: Arc<Store>,
    tail: Tail,
    disk: Disk,
    transport: Transport,
    network: Network,
    retention: Retention,
    rescuing: Rescuing,
    outgoing: Arc<Outgoing>,
    /// Whose snapshot is being copied.
    copying: Option<(ReplicaId, AbortOnDrop)>,
    copied: Arc<Progress>,
    /// Who copies this replica, and how much of it, as the machine was told.
    readers: BTreeMap<ReplicaId, u8>,
    /// A snapshot is to take the store's place; and whether what is applied here may have been given up.
    snapshot_ready: Option<bool>,
    registry: Arc<dyn Registry>,
    answers: Answers,
    status: StatusPublisher,
    metrics: Arc<Metrics>,
    liveness: Liveness,
    /// Left where they are while a leader's disk is busy: they could only be synced after what it
    /// is busy with, and what is proposed together costs little more than one.
    writes: mpsc::Receiver<Command>,
    commands: mpsc::Receiver<Command>,
    inputs: mpsc::Receiver<Input>,
    /// From the register's tasks; few, so never bounded by the peers' queue.
    register_inputs: mpsc::UnboundedSender<Input>,
    from_register: mpsc::UnboundedReceiver<Input>,
    done: mpsc::UnboundedReceiver<Done>,
    started: Instant,
    tick_every: Duration,
    next_id: RequestId,
    clock: Hlc,
    commit: Index,
    /// Handed to the applier up to here; one batch at a time.
    applying: Index,
    applied: Index,
    leads: bool,
    in_sync: bool,
    /// What the machine has found out about this replica's data.
    unfit: Option<Found>,
}

/// What the rest of the node needs of a driver.
pub struct Ends {
    /// For the API.
    pub handle: Handle,
    /// For received messages.
    pub inputs: mpsc::Sender<Input>,
    /// For readiness, metrics and links.
    pub status: watch::Receiver<Status>,
    /// For links: what others copy of this replica.
    pub outgoing: Arc<Outgoing>,
}

impl Driver {
    /// A driver over an opened store.
    pub fn new(
        store: Arc<Store>,
        registry: Arc<dyn Registry>,
        network: Network,
        options: Options,
        metrics: Arc<Metrics>,
        liveness: Liveness,
    ) -> Result<(Self, Ends), DriverError> {
        let durable = store.durable();
        let started = Instant::now();
        let set_aside = store.set_aside(0).map_err(DriverError::Disk)?;
        let replica = machine(&durable, !set_aside.entries.is_empty(), &options);
        let (send_input, inputs) = mpsc::channel(INPUTS);
        let (register_inputs, from_register) = mpsc::unbounded_channel();
        let (send_done, done) = mpsc::unbounded_channel();
        let disk = Disk::start(&store, &metrics, &send_done).map_err(DriverError::Threads)?;
        let (status, published) =
            StatusPublisher::new(durable.replica_id, started, options.api_url);
        let (handle, writes, commands) = handle(&store, published.clone());
        let pace = options.snapshot_bytes_per_second;
        let outgoing = Arc::new(Outgoing::new(Arc::clone(&store), pace));
        let (base, last) = (durable.base.index, durable.last.index);
        metrics.set_log_base(base);
        let driver = Self {
            network: network.clone(),
            retention: Retention::new(options.log_keep_bytes, base, last),
            rescuing: Rescuing::default(),
            outgoing: Arc::clone(&outgoing),
            copying: None,
            copied: Arc::default(),
            readers: BTreeMap::new(),
            snapshot_ready: None,
            replica,
            tail: Tail::new(Arc::clone(&store)),
            store,
            disk,
            transport: Transport::new(network, durable.replica_id, send_input.clone()),
            registry,
            answers: Answers::default(),
            status,
            metrics,
            liveness,
            writes,
            commands,
            inputs,
            register_inputs,
            from_register,
            done,
            started,
            tick_every: Duration::from_millis(options.timing.heartbeat) / TICKS_PER_HEARTBEAT,
            next_id: 0,
            clock: Hlc::ZERO,
            commit: durable.applied.index,
            applying: durable.applied.index,
            applied: durable.applied.index,
            leads: false,
            in_sync: false,
            unfit: None,
        };
        Ok((
            driver,
            Ends {
                handle,
                inputs: send_input,
                status: published,
                outgoing,
            },
        ))
    }

    /// Run until the disk fails or a snapshot is to take its place. Stop it by dropping it.
    pub async fn run(mut self) -> Result<Ended, DriverError> {
        let (views, mut watched) = mpsc::channel(16);
        let registry = Arc::clone(&self.registry);
        let _watch = AbortOnDrop(tokio::spawn(async move { registry.follow(views).await }));
        let mut ticks = tokio::time::interval(self.tick_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.step(Input::Applied(vec![self.store.digest()]));
        loop {
            tokio::select! {
                Some(done) = self.done.recv() => self.disk_done(done)?,
                Some(input) = self.inputs.recv() => self.step(input),
                Some(input) = self.from_register.recv() => self.step(input),
                Some(view) = watched.recv() => self.step(Input::Watched(view)),
                Some(write) = self.writes.recv(), if self.takes_writes() => {
                    self.command(write);
                    // Clients that are ready to write as well get to it first.
                    tokio::task::yield_now().await;
                }
                Some(command) = self.commands.recv() => self.command(command),
                _ = ticks.tick() => self.tick(),
                // A follower lags: it is sent more, but nobody waits for that.
                () = tokio::task::yield_now(), if self.replica.owes() => {}
            }
            self.drain()?;
            if let Some(given_up) = self.snapshot_ready {
                let marked = self.store.mark_incoming_complete(given_up);
                return marked
                    .map(|()| Ended::SnapshotReady)
                    .map_err(DriverError::Snapshot);
            }
            // First the disk, then the network: both take their time side by side.
            self.disk.submit();
            let effects = self.replica.flush(self.now(), &self.tail);
            self.carry_out(effects);
            self.apply_more();
            self.disk.submit();
            self.look_after();
            self.check_fitness()?;
        }
    }

    /// Whoever may be damaged must not serve, nor be promoted.
    fn check_fitness(&self) -> Result<(), DriverError> {
        if let Some(found) = self.store.found().or(self.unfit.as_ref()) {
            return Err(DriverError::Found(found.clone()));
        }
        if self.tail.has_failed() {
            return Err(DriverError::Oplog);
        }
        Ok(())
    }

    /// Take in what else has arrived, so that it shares a sync and a frame.
    fn drain(&mut self) -> Result<(), DriverError> {
        for _ in 0..BATCH {
            if let Ok(done) = self.done.try_recv() {
                self.disk_done(done)?;
            } else if let Ok(input) = self.inputs.try_recv() {
                self.step(input);
            } else if let Ok(command) = self.commands.try_recv() {
                self.command(command);
            } else if self.takes_writes()
                && let Ok(write) = self.writes.try_recv()
            {
                self.command(write);
            } else {
                break;
            }
        }
        Ok(())
    }

    fn takes_writes(&self) -> bool {
        !self.leads || !self.disk.is_writing()
    }

    fn disk_done(&mut self, done: Done) -> Result<(), DriverError> {
        match done {
            Done::Persisted(ticket) => {
                self.disk.persisted(ticket);
                self.step(Input::Persisted(ticket));
                self.tail.forget(self.applied, self.replica.durable());
            }
            Done::Applied {
                entries,
                outcomes,
                digests,
            } => {
                self.step(Input::Applied(digests));
                if let Some(last) = entries.last() {
                    self.applied = last.head.index;
                }
                let decided = self.rescuing.applied(&entries, &outcomes, &self.metrics);
                let history = self.store.durable().history();
                self.answers
                    .applied(history, &entries, outcomes, &self.metrics);
                self.tail.forget(self.applied, self.replica.durable());
                self.trim();
                for (index, merged) in decided {
                    self.step(Input::Decided { index, merged });
                }
            }
            Done::Failed(error) => return Err(DriverError::Disk(error)),
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Write {
                operations,
                idempotency_key,
                reply,
            } => self.write(operations, idempotency_key, reply),
            Command::Confirm { reply } if self.answers.unconfirmed() >= CONFIRMATIONS => {
                let _ = reply.send(Err(Unavailable::Overloaded));
            }
            Command::Confirm { reply } => {
                let id = self.new_id();
                self.answers.confirming(id, reply);
                self.step(Input::Confirm(id));
            }
            Command::HandOver { reply } => {
                let id = self.new_id();
                self.answers.handing_over(id, reply);
                self.step(Input::HandOver(id));
            }
        }
    }

    fn write(
        &mut self,
        operations: Vec<Operation>,
        idempotency_key: Option<IdempotencyKey>,
        reply: WriteReply,
    ) {
        if reply.is_closed() {
            return; // its client has gone before anything was done
        }
        self.clock = self.clock.next(wall_ms());
        // The API has checked the number of operations; an invalid transaction cannot come here.
        let Ok(transaction) = Transaction::new(self.clock, idempotency_key, operations) else {
            reply.send(Err(Unavailable::Overloaded));
            return;
        };
        let payload = codec::encode_transaction(&transaction);
        let id = self.new_id();
        self.answers.proposing(id, reply);
        self.step(Input::Propose { id, payload });
    }

    fn new_id(&mut self) -> RequestId {
        self.next_id += 1;
        self.next_id
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn tick(&mut self) {
        self.step(Input::Tick);
        self.tell_of_readers();
    }

    fn step(&mut self, input: Input) {
        if self.snapshot_ready.is_some() {
            return; // nothing more may be said or written
        }
        let now = self.now();
        let effects = self.replica.step(now, input, &self.tail);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(write) => {
                    self.tail.extend(&write);
                    self.count_bytes(&write);
                    self.disk.persist(write);
                }
                Effect::Send { to, pod, message } => {
                    if let Some(incarnation) = self.replica.incarnation() {
                        self.transport.send(to, &pod, incarnation, &message);
                    }
                }
                Effect::FetchSnapshot { from, pod } => self.fetch_snapshot(from, pod),
                Effect::InstallSnapshot { given_up } => self.snapshot_ready = Some(given_up),
                Effect::ReadRegister => self.read_register(),
                Effect::ChangeRegister { expected, register } => {
                    self.change_register(expected, register);
                }
                Effect::Commit(index) => self.commit = index,
                Effect::Proposed { id, index } => self.answers.proposed(id, index),
                Effect::Rescue(entries) => self.rescue(&entries),
                Effect::Refused { id, refusal } => {
                    self.answers.refused(id, refusal, self.status.leader_url());
                }
                Effect::Confirmed { id, index } => self.answers.confirmed(id, index),
                Effect::HandedOver { id, done } => self.answers.handed_over(id, done),
                Effect::SteppedDown => {
                    self.rescuing.give_up();
                    self.answers.stepped_down(self.commit);
                }
            }
        }
    }

    fn read_register(&self) {
        let (registry, inputs) = (Arc::clone(&self.registry), self.register_inputs.clone());
        tokio::spawn(async move {
            let view = registry.read().await;
            let _ = inputs.send(Input::RegisterRead(view));
        });
    }

    fn change_register(&self, expected: u64, register: percolate_core::register::Register) {
        let (registry, inputs) = (Arc::clone(&self.registry), self.register_inputs.clone());
        tracing::info!(epoch = register.epoch, leader = %register.leader, in_sync = register.in_sync.len(), "changing the register");
        tokio::spawn(async move {
            let outcome = registry.change(expected, register).await;
            let _ = inputs.send(Input::RegisterChanged(outcome));
        });
    }

    /// Hand what is committed to the applier, one batch at a time.
    fn apply_more(&mut self) {
        if self.applying > self.applied || self.commit <= self.applying {
            return;
        }
        let mut entries = self.tail.read(self.applying + 1, APPLY_BYTES);
        entries.retain(|entry| entry.head.index <= self.commit);
        if let Some(last) = entries.last() {
            self.applying = last.head.index;
            self.disk.apply(entries);
        }
    }

    /// Tell everybody what this replica is now.
    fn look_after(&mut self) {
        let standing = self.replica.standing(&self.tail);
        let leads = standing.position == Position::Leader;
        if leads && !self.leads {
            self.begin_leading();
            self.readers.clear();
        }
        self.leads = leads;
        let in_sync = leads || standing.position == Position::Follower;
        if in_sync && !self.in_sync {
            self.discard_copy();
        }
        self.in_sync = in_sync;
        let copying = self.copied.at(Instant::now());
        if let Position::Stranded(reason) = standing.position {
            self.unfit = reach::unfit(reason);
        }
        self.answers.freshen(self.applied);
        let queued = self.writes.len() + self.commands.len();
        self.metrics.set_queued_commands(queued);
        self.liveness.tick(Instant::now());
        // With the loss of what is applied, or of a little more: never of less.
        let applied = (self.applied, self.store.durable().loss);
        self.status
            .publish(&standing, self.tail.last().index, applied, copying);
        self.transport.retain(|replica| self.replica.knows(replica));
    }

    /// A new leader's clock goes on from the latest write in its log.
    fn begin_leading(&mut self) {
        let mut index = self.tail.last().index;
        while index > 0 {
            let Some(entry) = self.tail.read(index, 0).into_iter().next() else {
                return;
            };
            if let Ok(transaction) = codec::decode_transaction(&entry.payload) {
                self.clock = self.clock.max(transaction.hlc());
                return;
            }
            index -= 1; // a leader's start entry has no time
        }
    }
}

/// The API's end, and what it sends: writes, and other commands.
fn handle(
    store: &Arc<Store>,
    status: watch::Receiver<Status>,
) -> (Handle, mpsc::Receiver<Command>, mpsc::Receiver<Command>) {
    let (send_write, writes) = mpsc::channel(COMMANDS);
    let (send_command, commands) = mpsc::channel(COMMANDS);
    let handle = Handle::new(Arc::clone(store), send_write, send_command, status);
    (handle, writes, commands)
}

/// The machine as the disk left it.
fn machine(durable: &Durable, set_aside: bool, options: &Options) -> Replica {
    let config = replica::Config {
        replica: durable.replica_id,
        pod: options.pod.clone(),
        fresh_incarnation: Incarnation(options.entropy),
        opening_after_loss: codec::OPENING_AFTER_LOSS.to_vec(),
        jitter_seed: (options.entropy >> 64) as u64,
        timing: options.timing,
    };
    let restored = Restored {
        incarnation: durable.incarnation,
        promised_epoch: durable.promised_epoch,
        last: durable.last.index,
        applied: durable.applied.index,
        set_aside,
    };
    Replica::new(config, restored, 0)
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn wall_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
