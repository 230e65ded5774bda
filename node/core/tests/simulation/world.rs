//! The world around the replicas: time, network, register, clients.

/// A line of the trace, made only where there is one: most of the time would go into it.
macro_rules! note {
    ($world:expr, $($line:tt)*) => {
        if $world.traced {
            let line = format!($($line)*);
            $world.record(&line);
        }
    };
}

mod clients;
mod faults;
mod flapping;
mod history;
mod judge;
mod linearizability;
mod load;
mod rescue;
mod slow_disk;
mod spoiled;
mod store;
mod trace;

use std::collections::BTreeMap;

use percolate_core::identity::{Epoch, Incarnation, Index, ReplicaId};
use percolate_core::log::SharedEntry;
use percolate_core::register::{Register, View, check_change};
use percolate_core::replica::{
    ChangeOutcome, Config, Effect, Input, Message, Position, Replica, RequestId, Timing,
};

use self::clients::Clients;
use self::flapping::Flapping;
pub(crate) use self::rescue::Breakage;
use self::slow_disk::SlowDisk;
use self::spoiled::Spoiled;
use self::trace::short;
use crate::disk::Disk;

/// Steps of simulated time of one schedule, in milliseconds.
const DURATION: u64 = 60_000;
/// The last part of a schedule is left undisturbed, so that liveness can be judged.
const QUIET: u64 = 20_000;
const TICK: u64 = 100;
/// By this long before the end the register has come to rest; the last to catch up is in sync by then.
const REST: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Undisturbed,
    TwoReplicas,
    ThreeReplicas,
    MinimumOfTwo,
    Handovers,
    FlappingPair,
    FlappingTrio,
    SlowDisk,
    StopInStall,
    SpoiledDisks,
}

impl Scenario {
    pub(crate) const ALL: [Self; 10] = [
        Self::Undisturbed,
        Self::TwoReplicas,
        Self::ThreeReplicas,
        Self::MinimumOfTwo,
        Self::Handovers,
        Self::FlappingPair,
        Self::FlappingTrio,
        Self::SlowDisk,
        Self::StopInStall,
        Self::SpoiledDisks,
    ];

    fn replicas(self) -> usize {
        match self {
            Self::Undisturbed | Self::TwoReplicas | Self::FlappingPair => 2,
            _ => 3,
        }
    }

    fn min_in_sync(self) -> usize {
        if self == Self::MinimumOfTwo { 2 } else { 1 }
    }

    /// Whether anything may happen to it; in the others one thing does, or nothing.
    fn is_disturbed(self) -> bool {
        matches!(
            self,
            Self::TwoReplicas
                | Self::ThreeReplicas
                | Self::MinimumOfTwo
                | Self::Handovers
                | Self::SpoiledDisks
        )
    }
}

/// Splitmix64: small, good enough, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// Something that will happen to a node.
enum Event {
    Input(Input),
    Synced,
    /// A change of the register reaches it; the answer may be lost.
    Change {
        expected: u64,
        register: Register,
        answered: bool,
    },
    Read,
    /// What it asked this replica for has been copied.
    Copied {
        from: ReplicaId,
    },
}

struct Node {
    pod: String,
    id: ReplicaId,
    disk: Disk,
    /// `None` while the process is down.
    replica: Option<Replica>,
    /// Counts processes: what was meant for an earlier one is dropped.
    process: u64,
    /// No event reaches it before this time.
    paused_until: u64,
    down_until: u64,
    proposals: BTreeMap<Index, Vec<u8>>,
    commit: Index,
    /// Whether its process is copying a snapshot, and what it has copied.
    copying: bool,
    copied: Option<Disk>,
}

pub(crate) struct World {
    scenario: Scenario,
    dice: Dice,
    now: u64,
    order: u64,
    events: BTreeMap<(u64, u64), (usize, u64, Event)>,
    nodes: Vec<Node>,
    register: View,
    register_changed_at: u64,
    /// Directed pods pairs that cannot talk, until when.
    cut: BTreeMap<(usize, usize), u64>,
    register_cut: BTreeMap<usize, u64>,
    acknowledged: BTreeMap<Index, (Epoch, SharedEntry)>,
    /// How far acknowledgements had come when, for those that went further than all before.
    acknowledged_by: Vec<(u64, Index)>,
    /// How often a replica could say how old what it shows is.
    fresh_reads: u64,
    leaders: BTreeMap<Epoch, ReplicaId>,
    next_request: RequestId,
    payloads: u64,
    taken: u64,
    /// What was acknowledged when each confirmation was asked for.
    asked: BTreeMap<RequestId, Index>,
    /// Handovers asked for and not answered: of which process, since when.
    handovers: BTreeMap<RequestId, (usize, u64, u64)>,
    snapshots: u64,
    /// Processes that have handed over and are about to stop.
    stopping: Vec<usize>,
    clients: Clients,
    flapping: Option<Flapping>,
    slow_disk: Option<SlowDisk>,
    breakage: Breakage,
    merged: u64,
    spoiled: Option<Spoiled>,
    violation: Option<String>,
    traced: bool,
    trace: Vec<String>,
    hasher: u64,
}

impl World {
    pub(crate) fn run(scenario: Scenario, seed: u64) -> Self {
        Self::live(Self::new(scenario, seed))
    }

    /// The same with a trace of what happened.
    pub(crate) fn run_traced(scenario: Scenario, seed: u64) -> Self {
        Self::live(Self {
            traced: true,
            ..Self::new(scenario, seed)
        })
    }

    /// The same with a rule broken.
    pub(crate) fn run_broken(scenario: Scenario, seed: u64, breakage: Breakage) -> Self {
        let mut world = Self {
            breakage,
            ..Self::new(scenario, seed)
        };
        for node in &mut world.nodes {
            node.disk.loses_cuts = breakage == Breakage::CutsLost;
        }
        Self::live(world)
    }

    fn live(mut world: Self) -> Self {
        while world.now < DURATION && world.violation.is_none() {
            world.advance();
        }
        if world.violation.is_none() {
            world.judge_end();
        }
        world.finish_rescue();
        if world.violation.is_none() {
            world.judge_rescue();
        }
        if world.violation.is_none() {
            world.judge_clients();
        }
        world
    }

    fn new(scenario: Scenario, seed: u64) -> Self {
        let view = View {
            version: 1,
            register: None,
            min_in_sync: scenario.min_in_sync(),
            bootstrap: true,
            requests: Vec::new(),
        };
        let mut world = Self {
            scenario,
            dice: Dice(seed ^ 0x5eed),
            now: 0,
            order: 0,
            events: BTreeMap::new(),
            nodes: Vec::new(),
            register: view,
            register_changed_at: 0,
            cut: BTreeMap::new(),
            register_cut: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            acknowledged_by: Vec::new(),
            fresh_reads: 0,
            leaders: BTreeMap::new(),
            next_request: 0,
            payloads: 0,
            taken: 0,
            asked: BTreeMap::new(),
            handovers: BTreeMap::new(),
            snapshots: 0,
            stopping: Vec::new(),
            clients: Clients::new(seed, scenario.replicas()),
            flapping: Flapping::of(scenario, seed),
            slow_disk: SlowDisk::of(scenario, seed),
            breakage: Breakage::Nothing,
            merged: 0,
            spoiled: Spoiled::of(scenario, seed, scenario.replicas()),
            violation: None,
            traced: false,
            trace: Vec::new(),
            hasher: 0,
        };
        for ordinal in 0..scenario.replicas() {
            world.nodes.push(Node {
                pod: format!("acme-{ordinal}"),
                id: ReplicaId(u128::from(world.dice.roll())),
                disk: Disk::default(),
                replica: None,
                process: 0,
                paused_until: 0,
                down_until: 0,
                proposals: BTreeMap::new(),
                commit: 0,
                copying: false,
                copied: None,
            });
        }
        world
    }

    fn advance(&mut self) {
        self.now += TICK;
        let disturbed = self.scenario.is_disturbed() && self.now + QUIET < DURATION;
        if disturbed {
            self.disturb();
            self.spoil();
            self.trim();
        }
        self.quarantine();
        for index in 0..self.nodes.len() {
            let due =
                self.nodes[index].replica.is_none() && self.now >= self.nodes[index].down_until;
            if due && self.may_start(index) {
                self.start(index);
            }
            let jitter = self.dice.below(TICK);
            self.schedule(index, jitter, Event::Input(Input::Tick));
        }
        for index in std::mem::take(&mut self.stopping) {
            if self.nodes[index].replica.is_some() {
                self.crash(index, false);
            }
        }
        self.judge_handovers();
        self.resume_watches();
        self.load();
        self.tick_clients();
        self.strain();
        if self.register.bootstrap && self.register.register.is_some() {
            self.register.bootstrap = false;
            self.register.version += 1;
            self.notify_watchers();
        }
        while let Some((&(at, order), _)) = self.events.first_key_value() {
            if at > self.now || self.violation.is_some() {
                break;
            }
            let Some((node, process, event)) = self.events.remove(&(at, order)) else {
                break;
            };
            self.deliver(at, node, process, event);
        }
    }

    fn schedule(&mut self, node: usize, delay: u64, event: Event) {
        self.order += 1;
        let process = self.nodes[node].process;
        self.events
            .insert((self.now + delay, self.order), (node, process, event));
    }

    fn start(&mut self, index: usize) {
        let fresh_incarnation = Incarnation(u128::from(self.dice.roll()));
        let jitter_seed = self.dice.roll();
        let now = self.now;
        let node = &mut self.nodes[index];
        node.process += 1;
        node.proposals.clear();
        node.copying = false;
        node.copied = None;
        let config = Config {
            replica: node.id,
            pod: node.pod.clone(),
            fresh_incarnation,
            opening_after_loss: Vec::new(),
            jitter_seed,
            timing: Timing::new(500, 2_500),
        };
        node.commit = node.disk.restored().applied;
        node.replica = Some(Replica::new(config, node.disk.restored(), now));
        note!(self, "start {}", self.nodes[index].pod);
        self.restore_store(index);
    }

    fn deliver(&mut self, at: u64, index: usize, process: u64, event: Event) {
        match event {
            Event::Change {
                expected,
                register,
                answered,
            } => self.change_register(index, process, expected, register, answered),
            Event::Read => self.read_register(index, process),
            Event::Copied { from } => self.copied(index, process, from, at),
            Event::Synced => {
                if self.nodes[index].process == process && self.nodes[index].replica.is_some() {
                    let count = self.writes_in_one_sync(index);
                    if let Some(ticket) = self.nodes[index].disk.sync(count) {
                        self.step(index, at, Input::Persisted(ticket));
                    }
                    if !self.nodes[index].disk.is_idle() {
                        let delay = self.sync_takes(index);
                        self.schedule(index, delay, Event::Synced);
                    }
                }
            }
            Event::Input(input) => {
                let node = &self.nodes[index];
                if node.process != process || node.replica.is_none() {
                    return;
                }
                if node.paused_until > self.now {
                    // Ticks of a paused process never happen; everything else waits in buffers.
                    if !matches!(input, Input::Tick) {
                        let delay = node.paused_until - self.now;
                        self.schedule(index, delay, Event::Input(input));
                    }
                    return;
                }
                self.step(index, at, input);
            }
        }
    }

    fn step(&mut self, index: usize, _at: u64, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(mut replica) = node.replica.take() else {
            return;
        };
        note!(self, "{now} {} <- {}", self.nodes[index].pod, short(&input));
        let mut effects = replica.step(now, input, &self.nodes[index].disk);
        let (process, mut rounds) = (self.nodes[index].process, 0);
        loop {
            for effect in effects {
                self.carry_out(index, effect);
            }
            if self.nodes[index].process != process {
                return; // it has ended itself
            }
            effects = replica.flush(now, &self.nodes[index].disk);
            rounds += 1;
            if effects.is_empty() || rounds > 4 {
                break;
            }
        }
        self.nodes[index].replica = Some(replica);
        self.judge_freshness(index);
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Persist(write) => {
                let idle = self.nodes[index].disk.is_idle();
                self.written_down(index, &write.append);
                self.nodes[index].disk.write(write);
                if idle {
                    let delay = self.sync_takes(index);
                    self.schedule(index, delay, Event::Synced);
                }
            }
            Effect::Send { to, pod, message } => self.send(index, to, &pod, &message),
            Effect::ReadRegister => {
                let delay = self.dice.below(200);
                self.schedule(index, delay, Event::Read);
            }
            Effect::ChangeRegister { expected, register } => {
                let unreachable = self
                    .register_cut
                    .get(&index)
                    .is_some_and(|until| *until > self.now);
                let disturbed = self.scenario.is_disturbed() && self.now + QUIET < DURATION;
                // A request on its way may arrive much later than its sender gave up on it.
                let late = disturbed && self.dice.one_in(8);
                let delay = if late {
                    3_000 + self.dice.below(5_000)
                } else {
                    self.dice.below(200)
                };
                let lost = disturbed && self.dice.one_in(8);
                let answered = !(late || unreachable || lost);
                if !answered {
                    self.schedule(
                        index,
                        1_000,
                        Event::Input(Input::RegisterChanged(ChangeOutcome::NotKnownApplied)),
                    );
                }
                if !unreachable {
                    self.schedule(
                        index,
                        delay,
                        Event::Change {
                            expected,
                            register,
                            answered,
                        },
                    );
                }
            }
            Effect::FetchSnapshot { from, .. } => {
                if !std::mem::replace(&mut self.nodes[index].copying, true) {
                    self.copy(index, from);
                }
            }
            Effect::InstallSnapshot { given_up } => {
                self.install_snapshot(index, given_up);
            }
            Effect::Commit(commit) => self.committed(index, commit),
            Effect::Proposed { id, index: place } => self.proposed_at(index, id, place),
            Effect::SteppedDown => {
                self.nodes[index].proposals.clear();
                self.client_answers_lost(index);
            }
            Effect::HandedOver { id, .. } => {
                self.handovers.remove(&id);
                self.stopping.push(index);
            }
            Effect::Rescue(entries) => self.rescue(index, &entries),
            Effect::Refused { id, .. } => self.client_refused(id),
            Effect::Confirmed { id, index: seen } => self.confirmed(index, id, seen),
        }
    }

    fn send(&mut self, from: usize, to: ReplicaId, pod: &str, message: &Message) {
        let Some(target) = self.nodes.iter().position(|node| node.pod == pod) else {
            return;
        };
        let cut = self
            .cut
            .get(&(from, target))
            .is_some_and(|until| *until > self.now);
        let disturbed = self.scenario.is_disturbed() && self.now + QUIET < DURATION;
        if cut || self.nodes[target].id != to || (disturbed && self.dice.one_in(30)) {
            return;
        }
        let id = self.nodes[from].id;
        let copies = if disturbed && self.dice.one_in(30) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = if disturbed && self.dice.one_in(10) {
                self.dice.below(3_000)
            } else {
                1 + self.dice.below(5)
            };
            self.schedule(
                target,
                delay,
                Event::Input(Input::Received {
                    from: id,
                    message: message.clone(),
                }),
            );
        }
    }

    fn change_register(
        &mut self,
        index: usize,
        process: u64,
        expected: u64,
        register: Register,
        answered: bool,
    ) {
        let applied = expected == self.register.version;
        if applied {
            let known = self.register.register.as_ref();
            if let Err(unsafe_change) =
                check_change(known, Some(&register), &self.register.requests)
            {
                return self.violate(format!(
                    "{} sent an unsafe change: {unsafe_change}",
                    self.nodes[index].pod
                ));
            }
            note!(
                self,
                "register epoch {} leader {:?} in_sync {:?} known {:?}",
                register.epoch,
                register.leader,
                register.in_sync,
                register.replicas
            );
            self.judge_takeover(&register);
            if !self.only_counts_rescued(&register) {
                self.register_changed_at = self.now;
            }
            self.register.register = Some(register);
            self.register.version += 1;
            self.notify_watchers();
        }
        if answered && self.nodes[index].process == process {
            let outcome = if applied {
                ChangeOutcome::Applied(Box::new(self.register.clone()))
            } else {
                ChangeOutcome::NotKnownApplied
            };
            self.schedule(index, 0, Event::Input(Input::RegisterChanged(outcome)));
        }
    }

    fn read_register(&mut self, index: usize, process: u64) {
        if self.nodes[index].process != process {
            return;
        }
        let unreachable = self
            .register_cut
            .get(&index)
            .is_some_and(|until| *until > self.now);
        let view = (!unreachable).then(|| self.register.clone());
        let delay = self.dice.below(100);
        self.schedule(index, delay, Event::Input(Input::RegisterRead(view)));
    }

    fn notify_watchers(&mut self) {
        for index in 0..self.nodes.len() {
            if self
                .register_cut
                .get(&index)
                .is_none_or(|until| *until <= self.now)
            {
                let delay = self.dice.below(600);
                let view = self.register.clone();
                self.schedule(index, delay, Event::Input(Input::Watched(view)));
            }
        }
    }

    /// A watch that was cut off begins anew with the register as it is.
    fn resume_watches(&mut self) {
        let now = self.now;
        let resumed: Vec<usize> = self
            .register_cut
            .extract_if(.., |_, until| *until <= now)
            .map(|(index, _)| index)
            .collect();
        for index in resumed {
            let view = self.register.clone();
            self.schedule(index, 0, Event::Input(Input::Watched(view)));
        }
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// Snapshots that were installed.
    pub(crate) fn snapshots(&self) -> u64 {
        self.snapshots
    }

    pub(crate) fn fresh_reads(&self) -> u64 {
        self.fresh_reads
    }

    pub(crate) fn proposed(&self) -> u64 {
        self.payloads
    }
}

impl Node {
    fn position(&self) -> Option<Position> {
        self.replica
            .as_ref()
            .map(|replica| replica.standing(&self.disk).position)
    }
}
