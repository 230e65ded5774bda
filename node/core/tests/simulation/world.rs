//! The world around the replicas: time, network, register, faults, clients, and the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use percolate_core::identity::{Epoch, Incarnation, Index, ReplicaId};
use percolate_core::log::{ReadLog, SharedEntry};
use percolate_core::register::{Action, Register, Request, View, check_change};
use percolate_core::replica::{
    ChangeOutcome, Config, Effect, Input, Message, Position, Replica, RequestId, Timing,
};

use crate::disk::Disk;

/// Steps of simulated time of one schedule, in milliseconds.
const DURATION: u64 = 60_000;
/// The last part of a schedule is left undisturbed, so that liveness can be judged.
const QUIET: u64 = 20_000;
const TICK: u64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Undisturbed,
    TwoReplicas,
    ThreeReplicas,
    MinimumOfTwo,
    Handovers,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] = [
        Self::Undisturbed,
        Self::TwoReplicas,
        Self::ThreeReplicas,
        Self::MinimumOfTwo,
        Self::Handovers,
    ];

    fn replicas(self) -> usize {
        match self {
            Self::Undisturbed | Self::TwoReplicas => 2,
            Self::ThreeReplicas | Self::MinimumOfTwo | Self::Handovers => 3,
        }
    }

    fn min_in_sync(self) -> usize {
        if self == Self::MinimumOfTwo { 2 } else { 1 }
    }

    fn is_disturbed(self) -> bool {
        self != Self::Undisturbed
    }
}

/// A line of the trace, made only where there is one: most of the time would go into it.
macro_rules! note {
    ($world:expr, $($line:tt)*) => {
        if $world.traced {
            let line = format!($($line)*);
            $world.record(&line);
        }
    };
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
}

pub(crate) struct World {
    scenario: Scenario,
    dice: Dice,
    now: u64,
    order: u64,
    events: BTreeMap<(u64, u64), (usize, u64, Event)>,
    nodes: Vec<Node>,
    register: View,
    /// Directed pods pairs that cannot talk, until when.
    cut: BTreeMap<(usize, usize), u64>,
    register_cut: BTreeMap<usize, u64>,
    acknowledged: BTreeMap<Index, (Epoch, SharedEntry)>,
    leaders: BTreeMap<Epoch, ReplicaId>,
    next_request: RequestId,
    payloads: u64,
    taken: u64,
    /// What was acknowledged when each confirmation was asked for.
    asked: BTreeMap<RequestId, Index>,
    /// Handovers asked for and not answered: of which process, since when.
    handovers: BTreeMap<RequestId, (usize, u64, u64)>,
    /// Processes that have handed over and are about to stop.
    stopping: Vec<usize>,
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

    fn live(mut world: Self) -> Self {
        while world.now < DURATION && world.violation.is_none() {
            world.advance();
        }
        if world.violation.is_none() {
            world.judge_end();
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
            cut: BTreeMap::new(),
            register_cut: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            leaders: BTreeMap::new(),
            next_request: 0,
            payloads: 0,
            taken: 0,
            asked: BTreeMap::new(),
            handovers: BTreeMap::new(),
            stopping: Vec::new(),
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
            });
        }
        world
    }

    fn advance(&mut self) {
        self.now += TICK;
        let disturbed = self.scenario.is_disturbed() && self.now + QUIET < DURATION;
        if disturbed {
            self.disturb();
        }
        for index in 0..self.nodes.len() {
            if self.nodes[index].replica.is_none() && self.now >= self.nodes[index].down_until {
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
        self.client();
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
        let config = Config {
            replica: node.id,
            pod: node.pod.clone(),
            fresh_incarnation,
            jitter_seed,
            timing: Timing::new(500, 2_500),
        };
        node.commit = node.disk.restored().applied;
        node.replica = Some(Replica::new(config, node.disk.restored(), now));
        note!(self, "start {}", self.nodes[index].pod);
    }

    fn crash(&mut self, index: usize, loses_disk: bool) {
        // In the quiet end, who stops after a handover is back soon: it has to catch up in time.
        let disturbed = self.now + QUIET < DURATION;
        let down_for = 200 + self.dice.below(if disturbed { 8_000 } else { 800 });
        let fresh = ReplicaId(u128::from(self.dice.roll()));
        let now = self.now;
        let node = &mut self.nodes[index];
        node.replica = None;
        node.process += 1;
        node.down_until = now + down_for;
        node.disk.crash();
        if loses_disk {
            node.disk = Disk::default();
            node.id = fresh;
        }
        note!(
            self,
            "crash {} loses_disk={loses_disk}",
            self.nodes[index].pod
        );
    }

    fn disturb(&mut self) {
        let count = self.nodes.len();
        let pick = usize::try_from(self.dice.below(count as u64)).expect("small");
        if self.dice.one_in(60) && self.nodes[pick].replica.is_some() {
            let loses_disk = self.may_lose_disk(pick) && self.dice.one_in(4);
            self.crash(pick, loses_disk);
        }
        if self.dice.one_in(120) {
            self.nodes[pick].paused_until = self.now + self.dice.below(9_000);
            note!(self, "pause {}", self.nodes[pick].pod);
        }
        if self.dice.one_in(60) {
            let other = (pick + 1) % count;
            let until = self.now + self.dice.below(9_000);
            self.cut.insert((pick, other), until);
            if self.dice.one_in(2) {
                self.cut.insert((other, pick), until);
            }
            note!(self, "cut {pick} {other}");
        }
        if self.dice.one_in(90) {
            self.register_cut
                .insert(pick, self.now + self.dice.below(12_000));
        }
        if self.scenario == Scenario::Handovers && self.dice.one_in(40) {
            self.ask_operator_request(pick);
        }
    }

    /// A disk may be lost when enough others hold everything acknowledged: losing the last copy
    /// is beyond what any protocol survives.
    fn may_lose_disk(&self, index: usize) -> bool {
        let Some(register) = &self.register.register else {
            return false;
        };
        // Nor while a change that would leave this replica alone in the set may be on its way.
        if self
            .events
            .values()
            .any(|(_, _, event)| matches!(event, Event::Change { .. }))
        {
            return false;
        }
        let others = register
            .in_sync
            .iter()
            .filter(|replica| **replica != self.nodes[index].id)
            .count();
        let alive = self
            .nodes
            .iter()
            .filter(|node| register.in_sync.contains(&node.id) && node.id != self.nodes[index].id);
        others >= 1 && alive.count() >= 1
    }

    fn ask_operator_request(&mut self, pick: usize) {
        let pod = self.nodes[pick].pod.clone();
        let action = match self.dice.below(3) {
            0 => Action::HandOver { pod: None },
            1 => Action::HandOver { pod: Some(pod) },
            _ => Action::Drop { pod },
        };
        self.register.requests = vec![Request {
            id: format!("request-{}", self.now),
            action,
        }];
        self.register.version += 1;
        self.notify_watchers();
    }

    fn client(&mut self) {
        if !self.register.requests.is_empty() && self.now + QUIET >= DURATION {
            self.register.requests.clear();
            self.register.version += 1;
            self.notify_watchers();
        }
        if self.scenario == Scenario::Undisturbed
            && (self.now < 5_000 || self.now + QUIET > DURATION)
        {
            return;
        }
        for index in 0..self.nodes.len() {
            let leads = self.nodes[index].position() == Some(Position::Leader);
            if leads && self.dice.one_in(3) {
                for _ in 0..=self.dice.below(4) {
                    self.payloads += 1;
                    self.next_request += 1;
                    let payload = self.payloads.to_be_bytes().to_vec();
                    let id = self.next_request;
                    self.schedule(index, 0, Event::Input(Input::Propose { id, payload }));
                }
            }
            if leads && self.dice.one_in(20) {
                self.next_request += 1;
                let id = self.next_request;
                self.asked.insert(
                    id,
                    self.acknowledged.keys().next_back().copied().unwrap_or(0),
                );
                self.schedule(index, 0, Event::Input(Input::Confirm(id)));
            }
            if self.scenario == Scenario::Handovers
                && self.nodes[index].replica.is_some()
                && self.now + QUIET < DURATION
                && self.dice.one_in(150)
            {
                self.next_request += 1;
                let id = self.next_request;
                let asked = (index, self.nodes[index].process, self.now);
                self.handovers.insert(id, asked);
                self.schedule(index, 0, Event::Input(Input::HandOver(id)));
            }
        }
    }

    fn deliver(&mut self, at: u64, index: usize, process: u64, event: Event) {
        match event {
            Event::Change {
                expected,
                register,
                answered,
            } => self.change_register(index, process, expected, register, answered),
            Event::Read => self.read_register(index, process),
            Event::Synced => {
                if self.nodes[index].process == process && self.nodes[index].replica.is_some() {
                    let count = 1 + usize::try_from(self.dice.below(3)).expect("small");
                    if let Some(ticket) = self.nodes[index].disk.sync(count) {
                        self.step(index, at, Input::Persisted(ticket));
                    }
                    if !self.nodes[index].disk.is_idle() {
                        let delay = self.dice.below(30);
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
        let mut rounds = 0;
        loop {
            for effect in effects {
                self.carry_out(index, effect);
            }
            effects = replica.flush(now, &self.nodes[index].disk);
            rounds += 1;
            if effects.is_empty() || rounds > 4 {
                break;
            }
        }
        self.nodes[index].replica = Some(replica);
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Persist(write) => {
                let idle = self.nodes[index].disk.is_idle();
                self.nodes[index].disk.write(write);
                if idle {
                    let delay = self.dice.below(30);
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
            Effect::Commit(commit) => self.committed(index, commit),
            Effect::Proposed { index: place, .. } => {
                self.taken += 1;
                if let Some(entry) = self.nodes[index].disk.entry(place) {
                    let payload = entry.payload.clone();
                    self.nodes[index].proposals.insert(place, payload);
                }
            }
            Effect::SteppedDown => self.nodes[index].proposals.clear(),
            Effect::HandedOver { id, .. } => {
                self.handovers.remove(&id);
                self.stopping.push(index);
            }
            Effect::Refused { .. } => {}
            Effect::Confirmed { id, index: seen } => {
                let before = self.asked.remove(&id).unwrap_or(0);
                if seen < before {
                    self.violate(format!("a confirmed read at {seen} misses the write acknowledged before it at {before}"));
                }
            }
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
            if let Err(unsafe_change) =
                check_change(self.register.register.as_ref(), Some(&register))
            {
                return self.violate(format!(
                    "{} sent an unsafe change: {unsafe_change}",
                    self.nodes[index].pod
                ));
            }
            note!(
                self,
                "register epoch {} leader {:?} in_sync {:?}",
                register.epoch,
                register.leader,
                register.in_sync
            );
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

    /// The leader acknowledges what it proposed up to `commit`; every replica applies it.
    fn committed(&mut self, index: usize, commit: Index) {
        let epoch = self.nodes[index].disk.last().epoch;
        let first = self.nodes[index].commit + 1;
        note!(self, "{} commits up to {commit}", self.nodes[index].pod);
        for place in first..=commit {
            let Some(entry) = self.nodes[index].disk.entry(place).cloned() else {
                return self.violate(format!(
                    "{} commits {place}, which it has not",
                    self.nodes[index].pod
                ));
            };
            if let Some((_, known)) = self.acknowledged.get(&place)
                && known.head != entry.head
            {
                return self.violate(format!("two values committed at {place}"));
            }
            if self.nodes[index].proposals.remove(&place).is_some() {
                self.acknowledge(index, place, epoch, entry);
            }
        }
        self.nodes[index].commit = commit;
        self.nodes[index].disk.apply(commit);
    }

    fn acknowledge(&mut self, index: usize, place: Index, epoch: Epoch, entry: SharedEntry) {
        let in_sync: BTreeSet<ReplicaId> = self
            .register
            .register
            .as_ref()
            .map(|register| register.in_sync.clone())
            .unwrap_or_default();
        for node in self.nodes.iter().filter(|node| in_sync.contains(&node.id)) {
            if node.disk.synced_entry(place).map(|held| held.head) != Some(entry.head) {
                let text = format!(
                    "{place} acknowledged by {} but not durable in sync at {}",
                    self.nodes[index].pod, node.pod
                );
                return self.violate(text);
            }
        }
        // A leader that was paused with the last answer in its buffer acknowledges late, when
        // another may lead: that loses nothing, for its successor holds the entry (seen above)
        // and without clocks nobody could prevent it. But an epoch has one acknowledging leader.
        let acknowledging = *self.leaders.entry(epoch).or_insert(self.nodes[index].id);
        if acknowledging != self.nodes[index].id {
            return self.violate(format!("two leaders acknowledge at epoch {epoch}"));
        }
        self.acknowledged.insert(place, (epoch, entry));
    }

    /// A process that wants to stop is told in time that it may, whatever became of its handover.
    fn judge_handovers(&mut self) {
        let (now, nodes) = (self.now, &self.nodes);
        self.handovers
            .retain(|_, (node, process, _)| nodes[*node].process == *process);
        for (node, _, since) in self.handovers.values_mut() {
            *since = nodes[*node].paused_until.max(*since);
        }
        // Once as a follower, once more if it was chosen to lead meanwhile.
        let within = 2 * Timing::new(500, 2_500).handover_within + 2 * TICK;
        if let Some((id, (node, ..))) = self
            .handovers
            .iter()
            .find(|(_, (_, _, since))| now > since + within)
        {
            let text = format!("handover {id} of {} goes unanswered", nodes[*node].pod);
            self.violate(text);
        }
    }

    /// After the quiet end: one leader, everybody in sync, every acknowledged entry everywhere.
    fn judge_end(&mut self) {
        let Some(register) = self.register.register.clone() else {
            return self.violate("nobody ever led".to_owned());
        };
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let standing = node
                .replica
                .as_ref()
                .map(|replica| replica.standing(&node.disk));
            note!(self, "{} ends as {standing:?}", self.nodes[index].pod);
        }
        let leaders = self
            .nodes
            .iter()
            .filter(|node| node.position() == Some(Position::Leader))
            .count();
        if leaders != 1 || register.in_sync.len() != self.nodes.len() {
            let text = format!(
                "at the end {leaders} leaders and {} of {} in sync",
                register.in_sync.len(),
                self.nodes.len()
            );
            return self.violate(text);
        }
        for (place, (_, entry)) in &self.acknowledged {
            for node in &self.nodes {
                if node.disk.synced_entry(*place).map(|held| held.head) != Some(entry.head) {
                    let text = format!("acknowledged entry {place} is missing at {}", node.pod);
                    self.violation = Some(text);
                    return;
                }
            }
        }
    }

    fn violate(&mut self, text: String) {
        note!(self, "{text}");
        self.violation.get_or_insert(text);
    }

    fn record(&mut self, line: &str) {
        for byte in line.bytes() {
            self.hasher = (self.hasher ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.trace.push(format!("{} {line}", self.now));
        if self.trace.len() > 4_000 {
            self.trace.drain(..2_000);
        }
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    pub(crate) fn proposed(&self) -> u64 {
        self.payloads
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.hasher
    }

    pub(crate) fn trace_tail(&self) -> String {
        let shown = std::env::var("PERCOLATE_TRACE")
            .ok()
            .and_then(|lines| lines.parse().ok())
            .unwrap_or(60);
        let mut text = String::new();
        for line in self
            .trace
            .iter()
            .skip(self.trace.len().saturating_sub(shown))
        {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

impl Node {
    fn position(&self) -> Option<Position> {
        self.replica
            .as_ref()
            .map(|replica| replica.standing(&self.disk).position)
    }
}

fn short(input: &Input) -> String {
    match input {
        Input::Watched(view) => format!("watched {}", view.version),
        Input::RegisterRead(view) => format!("read {:?}", view.as_ref().map(|view| view.version)),
        Input::RegisterChanged(ChangeOutcome::Applied(view)) => format!("changed {}", view.version),
        Input::Received { from, message } => format!("{} from {from}", describe(message)),
        other => format!("{other:?}"),
    }
}

fn describe(message: &Message) -> String {
    match message {
        Message::Append(append) => format!(
            "append e{} prev {} +{} commit {} round {}",
            append.epoch,
            append.previous.index,
            append.entries.len(),
            append.commit,
            append.round
        ),
        Message::Mismatch(mismatch) => format!(
            "mismatch e{} last {:?}",
            mismatch.epoch,
            mismatch.heads.first().map(|head| head.index)
        ),
        other => format!("{other:?}"),
    }
}
