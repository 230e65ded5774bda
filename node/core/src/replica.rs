//! One replica of a tenant as a deterministic machine: inputs in, effects out.
//!
//! ```text
//! timer, messages, register views, ──step──▶ writes to disk, messages, changes of the
//! finished writes, proposals                 register, "committed up to", answers
//! ```
//! Primary-backup with an external configuration register: the leader acknowledges an entry when
//! it is durable on every in-sync replica, and only an in-sync replica can become leader. Rules R1
//! to R10 are named where they are kept. The machine does no input or output, reads no clock and
//! draws no randomness: the same inputs give the same effects, on every machine and in simulation.
//!
//! What it deliberately does not do: look into payloads, apply entries, talk to clients.

mod acceptance;
mod agreement;
mod effect;
mod follower;
mod freshness;
mod handover;
mod leader;
mod membership;
pub mod message;
mod progress;
mod rescue;
mod set_aside;
mod standing;
mod takeover;
mod writes;

pub use agreement::StateDigest;
pub use effect::{ChangeOutcome, Effect, Input, Persist, Refusal, Stranded, Ticket};
pub use freshness::{Fresh, Proven};
pub use message::Message;
pub use standing::{Position, Standing};

use crate::identity::{Epoch, Incarnation, Index, ReplicaId};
use crate::log::ReadLog;
use crate::register::{FailoverReason, Register, Version, View};
use agreement::Agreement;
use follower::{Follower, Leaving};
use leader::Leader;
use set_aside::SetAside;
use writes::Writes;

/// Milliseconds of a monotonic clock with an arbitrary origin.
pub type Millis = u64;

/// Names a proposal, a confirmation or a handover to whoever asked.
pub type RequestId = u64;

/// What a replica is given once, at the start of its process.
#[derive(Debug, Clone)]
pub struct Config {
    /// This disk.
    pub replica: ReplicaId,
    /// The pod this process runs in.
    pub pod: String,
    /// Becomes the tenant's incarnation should this replica be its very first.
    pub fresh_incarnation: Incarnation,
    /// With what an epoch begins before which entries were given up, in the log's own language.
    pub opening_after_loss: Vec<u8>,
    /// Seed of the jitter that keeps followers from taking over at the same instant.
    pub jitter_seed: u64,
    /// Timeouts; they decide when something is tried, never whether it is safe.
    pub timing: Timing,
}

/// When things are tried.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A leader is heard at least this often.
    pub heartbeat: Millis,
    /// Silence of a leader after which a follower tries to take over (plus up to a fifth of jitter).
    pub takeover_after: Millis,
    /// The same once the leader's process is known to be unreachable (connection refused or reset).
    pub takeover_after_unreachable: Millis,
    /// Silence of a follower after which the leader takes it out of the in-sync set. Shorter than
    /// a takeover, so that of two that cannot hear each other the leader prevails.
    pub drop_after: Millis,
    /// How long a planned handover may hold back writes before it is given up.
    pub handover_within: Millis,
    /// Pause before a failed read of the register is tried again.
    pub register_retry: Millis,
}

impl Timing {
    /// The proportions of the defaults (500 ms, 2.5 s) for other values.
    pub fn new(heartbeat: Millis, takeover_after: Millis) -> Self {
        Self {
            heartbeat,
            takeover_after,
            takeover_after_unreachable: (takeover_after / 4).max(heartbeat),
            drop_after: takeover_after / 5 * 4,
            handover_within: 2 * takeover_after,
            register_retry: 2 * heartbeat,
        }
    }
}

/// What was found on the disk when the process started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restored {
    /// The history the disk belongs to; `None` on a fresh disk.
    pub incarnation: Option<Incarnation>,
    /// The highest epoch this disk has promised.
    pub promised_epoch: Epoch,
    /// Last index in the log.
    pub last: Index,
    /// Last index applied to the visible store: committed for certain.
    pub applied: Index,
    /// Whether entries that were cut from the log are kept aside.
    pub set_aside: bool,
}

#[derive(Debug)]
enum Role {
    /// Follows whoever leads; also while nobody does, and before the register was first read.
    Follower(Follower),
    Leader(Box<Leader>),
    Stranded(Stranded),
}

/// A change of the register that was sent and not yet seen to be applied or impossible.
#[derive(Debug)]
struct Unsettled {
    /// The version it builds on: once the register is beyond it, the change is in it or never will be.
    expected: Version,
    /// Everything sent on top of that version.
    proposed: Vec<Register>,
    /// Whether an answer is still due.
    in_flight: bool,
    /// Whether the register must be read before anything else is tried on it.
    read_first: bool,
}

/// The machine. See the module's head.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    incarnation: Option<Incarnation>,
    /// Highest epoch promised; no answer at it leaves before it is durable (R1).
    promised: Epoch,
    /// Highest epoch this disk led, or found itself leading when the process started (R9).
    led: Epoch,
    view: Option<View>,
    /// Whether the register was read since the process started.
    oriented: bool,
    reading: bool,
    read_again_at: Option<Millis>,
    unsettled: Option<Unsettled>,
    role: Role,
    /// A follower's wish to stop without being missed.
    leaving: Option<Leaving>,
    /// Entries cut from this log that a leader has yet to take.
    set_aside: Option<SetAside>,
    /// Offers to lead although it is not in sync, for a person accepted the loss.
    bid: Option<acceptance::Bid>,
    /// The latest epoch in which the register knew it.
    known_in: Option<Epoch>,
    writes: Writes,
    agreement: Agreement,
    commit: Index,
    entropy: u64,
    /// Marks sent to leaders since the process started.
    marks_made: u64,
    now: Millis,
    effects: Vec<Effect>,
}

impl Replica {
    /// A replica at the start of its process. It begins by reading the register.
    pub fn new(config: Config, restored: Restored, now: Millis) -> Self {
        let entropy = config.jitter_seed | 1;
        Self {
            config,
            incarnation: restored.incarnation,
            promised: restored.promised_epoch,
            led: 0,
            view: None,
            oriented: false,
            reading: false,
            read_again_at: None,
            unsettled: None,
            role: Role::Follower(Follower::new(now)),
            leaving: None,
            set_aside: restored.set_aside.then(|| SetAside::new(0, now)),
            bid: None,
            known_in: None,
            writes: Writes::new(restored.promised_epoch, restored.last),
            agreement: Agreement::default(),
            commit: restored.applied,
            entropy,
            marks_made: 0,
            now,
            effects: Vec::new(),
        }
    }

    /// Take in one input at time `now`; returns what is to be done about it, in order.
    pub fn step(&mut self, now: Millis, input: Input, log: &impl ReadLog) -> Vec<Effect> {
        debug_assert!(now >= self.now, "the clock is monotonic");
        self.now = now;
        match input {
            Input::Tick => self.tick(log),
            Input::Watched(view) => self.observe(view, log),
            Input::RegisterRead(view) => self.register_read(view, log),
            Input::RegisterChanged(outcome) => self.register_changed(outcome, log),
            Input::Received { from, message } => self.receive(from, message, log),
            Input::Unreachable(replica) => self.unreachable(replica),
            Input::Persisted(ticket) => self.persisted(ticket, log),
            Input::Applied(digests) => self.applied(digests, log),
            Input::SnapshotFetched => self.install_snapshot(log),
            Input::SnapshotRead { by, percent } => self.snapshot_read(by, percent, log),
            Input::Propose { id, payload } => self.propose(id, payload),
            Input::Rescue(proposals) => self.propose_rescued(proposals),
            Input::Decided { index, merged } => self.decided(index, merged, log),
            Input::Confirm(id) => self.confirm(id, log),
            Input::HandOver(id) => self.hand_over(id, log),
        }
        std::mem::take(&mut self.effects)
    }

    fn tick(&mut self, log: &impl ReadLog) {
        let due = self.read_again_at.is_none_or(|at| self.now >= at);
        if due
            && (!self.oriented
                || self
                    .unsettled
                    .as_ref()
                    .is_some_and(|unsettled| unsettled.read_first))
        {
            self.read_register();
        }
        match &self.role {
            Role::Leader(_) => self.tick_leader(log),
            Role::Follower(_) => {
                self.tick_follower(log);
                self.tick_acceptance(log);
            }
            Role::Stranded(_) => {}
        }
        self.offer_set_aside(log);
    }

    fn receive(&mut self, from: ReplicaId, message: Message, log: &impl ReadLog) {
        let knows_its_tenant = self.oriented && self.register().is_some();
        if matches!(self.role, Role::Stranded(_))
            || from == self.config.replica
            || !knows_its_tenant
        {
            return;
        }
        match message {
            Message::Append(append) => self.receive_append(from, &append, log),
            Message::Appended(appended) => self.receive_appended(from, appended, log),
            Message::Mismatch(mismatch) => self.receive_mismatch(from, &mismatch, log),
            Message::Rejected { promised_epoch } => self.receive_rejected(promised_epoch),
            Message::Join(join) => self.receive_join(from, join, log),
            Message::Leaving => self.receive_leaving(from, log),
            Message::LeadershipMoved => self.read_register(),
            Message::Offer(offer) => self.receive_offer(from, offer, log),
            Message::Rescued { places } => self.forget(places, log),
            Message::Outrun(outrun) => self.receive_outrun(outrun),
            Message::Candidacy(candidacy) => self.receive_candidacy(from, candidacy, log),
        }
    }

    fn applied(&mut self, digests: Vec<StateDigest>, log: &impl ReadLog) {
        if let Some(at) = self.agreement.applied(digests)
            && let Role::Follower(follower) = &self.role
            && let Some(leader) = follower.leader
        {
            self.diverged(leader, follower.epoch, at, log);
        }
    }

    fn persisted(&mut self, ticket: Ticket, log: &impl ReadLog) {
        self.writes.persisted(ticket);
        match &self.role {
            Role::Leader(_) => {
                self.advance_commit();
                self.tick_handover(log);
            }
            Role::Follower(_) => {
                self.follow_commit();
                self.acknowledge();
            }
            Role::Stranded(_) => {}
        }
        self.offer_set_aside(log);
    }

    /// A newer view decides whom this replica follows, or that it leads.
    fn observe(&mut self, view: View, log: &impl ReadLog) {
        if self
            .view
            .as_ref()
            .is_some_and(|known| known.version >= view.version)
        {
            return;
        }
        if self
            .unsettled
            .as_ref()
            .is_some_and(|unsettled| view.version > unsettled.expected)
        {
            self.unsettled = None;
        }
        self.view = Some(view);
        if self.oriented {
            self.orient(log);
        }
        if self.leaving.is_some() {
            self.tick_leaving();
        }
    }

    fn register_read(&mut self, view: Option<View>, log: &impl ReadLog) {
        self.reading = false;
        let Some(view) = view else {
            self.read_again_at = Some(self.now + self.config.timing.register_retry);
            return;
        };
        self.read_again_at = None;
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.read_first = false;
        }
        let first = !self.oriented;
        self.oriented = true;
        let unchanged = self
            .view
            .as_ref()
            .is_some_and(|known| known.version >= view.version);
        if first {
            // R9: whatever an earlier process of this disk led, it led no longer than this.
            let newest = if unchanged {
                self.view.as_ref()
            } else {
                Some(&view)
            };
            let register = newest.and_then(|view| view.register.as_ref());
            self.led = register
                .filter(|register| register.leader == self.config.replica)
                .map_or(0, |register| register.epoch);
            // R1 on a disk that has forgotten what it promised: it promised no more than the register
            // has seen since.
            let seen = register.map_or(0, |register| register.epoch);
            self.promised = self.promised.max(seen);
        }
        if unchanged {
            self.orient(log);
        } else {
            self.observe(view, log);
        }
    }

    fn register_changed(&mut self, outcome: ChangeOutcome, log: &impl ReadLog) {
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.in_flight = false;
            unsettled.read_first = true;
        }
        match outcome {
            ChangeOutcome::Applied(view) => self.observe(*view, log),
            // R3: not applied, unknown or yet to be applied: only a later read tells.
            ChangeOutcome::NotKnownApplied => self.read_register(),
        }
    }

    /// What the newest view makes of this replica.
    fn orient(&mut self, log: &impl ReadLog) {
        let Some(view) = &self.view else { return };
        let Some(register) = &view.register else {
            return self.consider_bootstrap(log);
        };
        if self
            .incarnation
            .is_some_and(|incarnation| incarnation != register.incarnation)
        {
            return self.strand(Stranded::OtherIncarnation);
        }
        let (epoch, leads) = (register.epoch, register.leader == self.config.replica);
        if register.pod_of(self.config.replica).is_some() {
            self.known_in = Some(epoch);
        }
        if let Some(reason) = self.unfit(register, log) {
            return self.strand(reason);
        }
        match &self.role {
            Role::Leader(leader) if leader.epoch >= epoch => self.tend_register(log),
            Role::Leader(_) => self.step_down(),
            Role::Stranded(Stranded::RegisterEmpty) => {
                self.role = Role::Follower(Follower::new(self.now));
            }
            Role::Stranded(_) | Role::Follower(_) => {}
        }
        if matches!(self.role, Role::Follower(_)) {
            if leads && epoch > self.led {
                self.lead(epoch, log);
            } else if leads {
                self.take_over(FailoverReason::LeaderRestarted, log);
            } else {
                self.follow_register();
            }
        }
    }

    /// Whether this disk cannot be what the register takes it for.
    fn unfit(&self, register: &Register, log: &impl ReadLog) -> Option<Stranded> {
        if !matches!(self.role, Role::Follower(_)) {
            return None;
        }
        let me = self.config.replica;
        if register
            .pod_of(me)
            .is_some_and(|pod| pod != self.config.pod)
        {
            return Some(Stranded::Cloned);
        }
        // One that is to be led without what is lost may be led by what is left of it.
        let accepted = self.view.as_ref().and_then(View::accepted_loss).is_some();
        let (held, last) = (register.held, log.last().index);
        let lacks = register.in_sync.contains(&me) && last < held;
        (lacks && !accepted).then_some(Stranded::Outdated { held, last })
    }

    fn strand(&mut self, reason: Stranded) {
        if matches!(self.role, Role::Leader(_)) {
            self.step_down();
        }
        self.role = Role::Stranded(reason);
    }

    fn read_register(&mut self) {
        if !self.reading {
            self.reading = true;
            self.effects.push(Effect::ReadRegister);
        }
    }

    /// Send a change of the register. At most one is in flight; an unsettled one on the same
    /// version stays remembered, for it may still be the one that is applied.
    fn change_register(&mut self, register: Register) {
        let Some(expected) = self.view.as_ref().map(|view| view.version) else {
            return;
        };
        let unsettled = self.unsettled.get_or_insert(Unsettled {
            expected,
            proposed: Vec::new(),
            in_flight: false,
            read_first: false,
        });
        if unsettled.in_flight {
            return;
        }
        unsettled.in_flight = true;
        // Only whom it counts on matters: the rest may differ with every attempt.
        let in_sync = |known: &Register| known.in_sync == register.in_sync;
        if !unsettled.proposed.iter().any(in_sync) {
            unsettled.proposed.push(register.clone());
        }
        self.effects
            .push(Effect::ChangeRegister { expected, register });
    }

    fn may_change_register(&self) -> bool {
        self.view.is_some()
            && self
                .unsettled
                .as_ref()
                .is_none_or(|unsettled| !unsettled.in_flight && !unsettled.read_first)
    }

    fn send(&mut self, to: ReplicaId, message: Message) {
        let pod = match &self.role {
            Role::Leader(leader) => leader.pod_of(to),
            _ => self
                .register()
                .and_then(|register| register.pod_of(to))
                .map(str::to_owned),
        };
        if let Some(pod) = pod {
            self.effects.push(Effect::Send { to, pod, message });
        }
    }

    fn commit_to(&mut self, index: Index) {
        if index > self.commit {
            self.commit = index;
            self.effects.push(Effect::Commit(index));
        }
    }

    /// Up to `bound` milliseconds, different for replicas that would otherwise act at once.
    fn jitter(&mut self, bound: Millis) -> Millis {
        self.entropy ^= self.entropy << 13;
        self.entropy ^= self.entropy >> 7;
        self.entropy ^= self.entropy << 17;
        self.entropy % bound.max(1)
    }

    fn register(&self) -> Option<&Register> {
        self.view.as_ref()?.register.as_ref()
    }
}
