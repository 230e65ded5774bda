//! Register and replicas, as small as the rules R1 to R6 and R9 allow: logs are sent whole, the
//! epoch's opening entry is left out, and everything that is not safety (timeouts, windows,
//! heartbeats) is "may happen at any time".

use std::collections::BTreeSet;

/// How much may happen in one life: everything within these bounds is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) replicas: usize,
    /// In sync at the start, under the leadership of the first.
    pub(crate) in_sync: u8,
    pub(crate) writes: u8,
    pub(crate) epochs: u8,
    pub(crate) versions: u8,
    pub(crate) crashes: u8,
    pub(crate) lost_disks: u8,
}

/// One rule broken at a time; each must lead to a counterexample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    /// R1: frames of lower epochs than the one promised are taken.
    OldEpochsAccepted,
    /// R1: answers leave before the promise is on disk.
    PromiseNotDurable,
    /// R2: the leader counts its own entry before its own disk has it.
    AcknowledgedBeforeOwnSync,
    /// R3: a follower is left out before the register says so.
    ShrunkBeforeRegister,
    /// R2, R3: a change of unknown outcome is taken as failed.
    UnknownTakenAsFailed,
    /// R4: a learner becomes a member without having everything.
    GrownUnchecked,
    /// R5: a replica that is not in sync takes over.
    OutsiderPromoted,
    /// R5: a leader sends at its epoch before its own promise is on disk.
    SentBeforeOwnPromise,
    /// R9: a leader whose process restarted leads on in its old epoch.
    EpochKeptOnRestart,
}

impl Mutation {
    /// Whether old messages, or leaders of old, may matter again.
    fn revives_the_past(self) -> bool {
        matches!(
            self,
            Self::OldEpochsAccepted | Self::PromiseNotDurable | Self::EpochKeptOnRestart
        )
    }

    pub(crate) const ALL: [Self; 9] = [
        Self::OldEpochsAccepted,
        Self::PromiseNotDurable,
        Self::AcknowledgedBeforeOwnSync,
        Self::ShrunkBeforeRegister,
        Self::UnknownTakenAsFailed,
        Self::GrownUnchecked,
        Self::OutsiderPromoted,
        Self::SentBeforeOwnPromise,
        Self::EpochKeptOnRestart,
    ];
}

pub(crate) type Epoch = u8;

/// A disk: the pod's number and how many disks it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DiskId(u8);

impl DiskId {
    const COUNT: usize = 6;

    pub(crate) fn new(pod: usize, lost_before: u8) -> Self {
        Self(u8::try_from(pod).expect("few pods") * 2 + lost_before)
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Disks(u8);

impl Disks {
    pub(crate) fn with(self, disk: DiskId) -> Self {
        Self(self.0 | 1 << disk.0)
    }

    pub(crate) fn without(self, disk: DiskId) -> Self {
        Self(self.0 & !(1 << disk.0))
    }

    pub(crate) fn contains(self, disk: DiskId) -> bool {
        self.0 & 1 << disk.0 != 0
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = DiskId> {
        (0..6).map(DiskId).filter(move |disk| self.contains(*disk))
    }
}

/// An entry: who proposed it when, and which write it is. Zero is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Entry(u8);

/// A log of very few entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Log([Entry; Log::CAPACITY]);

impl Log {
    pub(crate) const CAPACITY: usize = 3;

    pub(crate) fn len(self) -> usize {
        self.0
            .iter()
            .take_while(|entry| **entry != Entry::default())
            .count()
    }

    pub(crate) fn get(self, index: usize) -> Option<Entry> {
        (index < self.len()).then(|| self.0[index])
    }

    fn push(&mut self, entry: Entry) {
        self.0[self.len()] = entry;
    }

    fn common(self, other: Self) -> usize {
        (0..self.len().min(other.len()))
            .take_while(|index| self.0[*index] == other.0[*index])
            .count()
    }

    /// Becomes what `frame` says, keeping what goes beyond it if nothing contradicts.
    fn take(&mut self, frame: Self) {
        if self.common(frame) < self.len().min(frame.len()) || frame.len() > self.len() {
            *self = frame;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Register {
    pub(crate) version: u8,
    pub(crate) epoch: Epoch,
    pub(crate) leader: DiskId,
    pub(crate) in_sync: Disks,
}

/// What survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Durable {
    promised: Epoch,
    pub(crate) log: Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Follower {
        epoch: Epoch,
        leader: u8,
        matched: u8,
    },
    Leader {
        epoch: Epoch,
        acked: [u8; DiskId::COUNT],
    },
}

const NOBODY: Role = Role::Follower {
    epoch: 0,
    leader: 0,
    matched: 0,
};

/// A change of the register that may yet be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Unsettled {
    expected: u8,
    /// The sets it would bring, put together.
    proposed: Disks,
    /// Nothing else is tried before a read.
    in_flight: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) lost: u8,
    up: bool,
    pub(crate) durable: Durable,
    now: Durable,
    view: Option<Register>,
    led: Epoch,
    role: Role,
    unsettled: Option<Unsettled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    Append {
        to: u8,
        from: u8,
        epoch: Epoch,
        log: Log,
    },
    Appended {
        to: u8,
        from: DiskId,
        epoch: Epoch,
        len: u8,
    },
}

impl Message {
    fn to(self) -> usize {
        match self {
            Self::Append { to, .. } | Self::Appended { to, .. } => usize::from(to),
        }
    }
}

/// A change on its way to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Change {
    pub(crate) expected: u8,
    pub(crate) register: Register,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) register: Register,
    pub(crate) nodes: Vec<Node>,
    /// Everything ever sent: what is never delivered is lost, what is delivered twice is repeated.
    pub(crate) messages: BTreeSet<Message>,
    pub(crate) changes: BTreeSet<Change>,
    pub(crate) acknowledged: Log,
    pub(crate) acknowledging: [Option<DiskId>; 6],
    pub(crate) writes: u8,
    pub(crate) crashes: u8,
    pub(crate) lost_disks: u8,
    pub(crate) broken: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Propose(usize),
    Sync(usize),
    Deliver(Message),
    TakeOver(usize),
    Shrink(usize, DiskId),
    Grow(usize, DiskId),
    Apply(Change),
    Read(usize),
    GiveUp(usize),
    Crash(usize),
    LoseDisk(usize),
    Start(usize),
}

/// Register and replicas under one set of rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) mutation: Mutation,
}

impl World {
    pub(crate) fn disk_of(&self, pod: usize) -> DiskId {
        DiskId::new(pod, self.nodes[pod].lost)
    }
}

impl Protocol {
    pub(crate) fn beginning(&self) -> World {
        let first = DiskId::new(0, 0);
        let members = (0..usize::from(self.bounds.in_sync)).map(|pod| DiskId::new(pod, 0));
        let register = Register {
            version: 1,
            epoch: 1,
            leader: first,
            in_sync: members.fold(Disks::default(), Disks::with),
        };
        let durable = Durable {
            promised: 1,
            log: Log::default(),
        };
        let node = |pod: usize| Node {
            lost: 0,
            up: true,
            durable,
            now: durable,
            view: Some(register),
            led: u8::from(pod == 0),
            role: if pod == 0 {
                Role::Leader {
                    epoch: 1,
                    acked: [0; 6],
                }
            } else {
                NOBODY
            },
            unsettled: None,
        };
        World {
            register,
            nodes: (0..self.bounds.replicas).map(node).collect(),
            messages: BTreeSet::new(),
            changes: BTreeSet::new(),
            acknowledged: Log::default(),
            acknowledging: [None; 6],
            writes: 0,
            crashes: 0,
            lost_disks: 0,
            broken: None,
        }
    }

    /// Everything that may be tried; some of it changes nothing.
    pub(crate) fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        let reaches = |message: &&Message| world.nodes[message.to()].up;
        steps.extend(
            world
                .messages
                .iter()
                .filter(reaches)
                .copied()
                .map(Step::Deliver),
        );
        steps.extend(world.changes.iter().copied().map(Step::Apply));
        for (pod, node) in world.nodes.iter().enumerate() {
            if !node.up {
                steps.push(Step::Start(pod));
                continue;
            }
            if node.durable != node.now {
                steps.push(Step::Sync(pod));
            }
            if node.view != Some(world.register) || node.unsettled.is_some() {
                steps.push(Step::Read(pod));
            }
            steps.push(if matches!(node.role, Role::Leader { .. }) {
                Step::Propose(pod)
            } else {
                Step::TakeOver(pod)
            });
            if self.mutation == Mutation::UnknownTakenAsFailed {
                steps.push(Step::GiveUp(pod));
            }
            if matches!(node.role, Role::Leader { .. }) {
                let others = (0..world.nodes.len()).map(|other| world.disk_of(other));
                steps.extend(others.map(|disk| Step::Grow(pod, disk)));
                let members = node.view.map(|view| view.in_sync).unwrap_or_default();
                steps.extend(members.iter().map(|disk| Step::Shrink(pod, disk)));
            }
            if world.crashes < self.bounds.crashes {
                steps.push(Step::Crash(pod));
            }
            if world.lost_disks < self.bounds.lost_disks && node.lost == 0 {
                steps.push(Step::LoseDisk(pod));
            }
        }
    }

    /// `None` where the step changes nothing.
    pub(crate) fn take(&self, before: &World, step: &Step) -> Option<World> {
        let mut world = before.clone();
        let moved = match *step {
            Step::Propose(pod) => self.propose(&mut world, pod),
            Step::Sync(pod) => self.sync(&mut world, pod),
            Step::Deliver(message) => self.deliver(&mut world, message),
            Step::TakeOver(pod) => self.take_over(&mut world, pod),
            Step::Shrink(pod, disk) => self.shrink(&mut world, pod, disk),
            Step::Grow(pod, disk) => self.grow(&mut world, pod, disk),
            Step::Apply(change) => apply(&mut world, change),
            Step::Read(pod) => self.read(&mut world, pod),
            Step::GiveUp(pod) => world.nodes[pod].unsettled.take().is_some(),
            Step::Crash(pod) => {
                world.crashes += 1;
                crash(&mut world.nodes[pod])
            }
            Step::LoseDisk(pod) => {
                world.lost_disks += 1;
                world.nodes[pod].durable = Durable::default();
                world.nodes[pod].lost += 1;
                crash(&mut world.nodes[pod])
            }
            Step::Start(pod) => {
                world.nodes[pod].up = true;
                true
            }
        };
        if !moved {
            return None;
        }
        for pod in 0..world.nodes.len() {
            self.acknowledge(&mut world, pod);
        }
        if !self.mutation.revives_the_past() {
            self.forget(&mut world);
        }
        (world != *before).then_some(world)
    }

    fn propose(&self, world: &mut World, pod: usize) -> bool {
        let node = &mut world.nodes[pod];
        let Role::Leader { epoch, .. } = node.role else {
            return false;
        };
        if world.writes >= self.bounds.writes || node.now.log.len() >= Log::CAPACITY {
            return false;
        }
        world.writes += 1;
        node.now.log.push(Entry(epoch << 4 | world.writes));
        self.broadcast(world, pod);
        true
    }

    fn sync(&self, world: &mut World, pod: usize) -> bool {
        let node = &mut world.nodes[pod];
        node.durable.log = node.now.log;
        if self.mutation != Mutation::PromiseNotDurable {
            node.durable.promised = node.now.promised;
        }
        self.answer(world, pod);
        self.broadcast(world, pod);
        true
    }

    /// R1: an answer at an epoch leaves once the promise of it is on disk.
    fn answer(&self, world: &mut World, pod: usize) {
        let node = &world.nodes[pod];
        let Role::Follower {
            epoch,
            leader,
            matched,
        } = node.role
        else {
            return;
        };
        let promise_kept =
            node.durable.promised == epoch || self.mutation == Mutation::PromiseNotDurable;
        if epoch == 0 || epoch != node.now.promised || !promise_kept {
            return;
        }
        let durable = u8::try_from(node.durable.log.common(node.now.log)).expect("few entries");
        let answer = Message::Appended {
            to: leader,
            from: world.disk_of(pod),
            epoch,
            len: durable.min(matched),
        };
        world.messages.insert(answer);
    }

    fn deliver(&self, world: &mut World, message: Message) -> bool {
        match message {
            Message::Append {
                to,
                from,
                epoch,
                log,
            } => self.receive(world, usize::from(to), from, epoch, log),
            Message::Appended {
                to,
                from,
                epoch,
                len,
            } => {
                let node = &mut world.nodes[usize::from(to)];
                let Role::Leader { epoch: mine, acked } = &mut node.role else {
                    return false;
                };
                if *mine != epoch || acked[from.index()] >= len {
                    return false;
                }
                acked[from.index()] = len;
                true
            }
        }
    }

    fn receive(&self, world: &mut World, pod: usize, from: u8, epoch: Epoch, log: Log) -> bool {
        let node = &mut world.nodes[pod];
        let old = epoch < node.now.promised && self.mutation != Mutation::OldEpochsAccepted;
        if !node.up || node.view.is_none() || old {
            return false;
        }
        match &mut node.role {
            Role::Leader { epoch: mine, .. } if *mine >= epoch => return false,
            Role::Follower {
                epoch: mine,
                matched,
                ..
            } if *mine == epoch => {
                *matched = (*matched).max(u8::try_from(log.len()).expect("few entries"));
            }
            role => {
                let matched = u8::try_from(log.len()).expect("few entries");
                *role = Role::Follower {
                    epoch,
                    leader: from,
                    matched,
                };
            }
        }
        node.now.promised = epoch;
        node.now.log.take(log);
        self.answer(world, pod);
        true
    }

    /// R5: only a member takes over, with a new epoch; the leader it replaces leaves the set.
    fn take_over(&self, world: &mut World, pod: usize) -> bool {
        let me = world.disk_of(pod);
        let node = &world.nodes[pod];
        let (Some(view), Role::Follower { .. }) = (node.view, node.role) else {
            return false;
        };
        let member = view.in_sync.contains(me) || self.mutation == Mutation::OutsiderPromoted;
        if !member || view.epoch >= self.bounds.epochs {
            return false;
        }
        let kept = if view.leader == me {
            view.in_sync
        } else {
            view.in_sync.without(view.leader)
        };
        let wanted = Register {
            epoch: view.epoch + 1,
            leader: me,
            in_sync: kept.with(me),
            ..view
        };
        self.change(world, pod, wanted)
    }

    fn shrink(&self, world: &mut World, pod: usize, disk: DiskId) -> bool {
        let Some(view) = world.nodes[pod].view else {
            return false;
        };
        if disk == world.disk_of(pod) {
            return false;
        }
        let wanted = Register {
            in_sync: view.in_sync.without(disk),
            ..view
        };
        self.change(world, pod, wanted)
    }

    /// R4: a learner that holds everything acknowledged.
    fn grow(&self, world: &mut World, pod: usize, disk: DiskId) -> bool {
        let node = &world.nodes[pod];
        let (Some(view), Role::Leader { acked, .. }) = (node.view, node.role) else {
            return false;
        };
        let complete = usize::from(acked[disk.index()]) >= self.committed(world, pod);
        let checked =
            (complete && acked[disk.index()] > 0) || self.mutation == Mutation::GrownUnchecked;
        if view.in_sync.contains(disk) || !checked {
            return false;
        }
        let wanted = Register {
            in_sync: view.in_sync.with(disk),
            ..view
        };
        self.change(world, pod, wanted)
    }

    fn change(&self, world: &mut World, pod: usize, wanted: Register) -> bool {
        let node = &mut world.nodes[pod];
        let expected = wanted.version;
        let in_flight = node.unsettled.is_some_and(|unsettled| unsettled.in_flight);
        if in_flight || expected >= self.bounds.versions {
            return false;
        }
        let before = node
            .unsettled
            .map(|unsettled| unsettled.proposed)
            .unwrap_or_default();
        let proposed = before.union(wanted.in_sync);
        node.unsettled = Some(Unsettled {
            expected,
            proposed,
            in_flight: true,
        });
        let register = Register {
            version: expected + 1,
            ..wanted
        };
        if expected == world.register.version {
            world.changes.insert(Change { expected, register });
        }
        true
    }

    /// What a read of the register makes of a replica.
    fn read(&self, world: &mut World, pod: usize) -> bool {
        let (register, me) = (world.register, world.disk_of(pod));
        let node = &mut world.nodes[pod];
        if node.view.is_none()
            && register.leader == me
            && self.mutation != Mutation::EpochKeptOnRestart
        {
            node.led = register.epoch; // R9
        }
        node.view = Some(register);
        node.unsettled = node
            .unsettled
            .filter(|unsettled| unsettled.expected >= register.version);
        if let Some(unsettled) = &mut node.unsettled {
            unsettled.in_flight = false;
        }
        if matches!(node.role, Role::Leader { epoch, .. } if epoch < register.epoch) {
            node.role = NOBODY;
        }
        let leads = register.leader == me && matches!(node.role, Role::Follower { .. });
        if leads && register.epoch > node.led {
            node.led = register.epoch;
            node.now.promised = register.epoch;
            node.role = Role::Leader {
                epoch: register.epoch,
                acked: [0; 6],
            };
            self.broadcast(world, pod);
        }
        true
    }

    /// R5: nothing is sent at an epoch before the leader's own promise of it is on disk.
    fn broadcast(&self, world: &mut World, pod: usize) {
        let node = &world.nodes[pod];
        let Role::Leader { epoch, .. } = node.role else {
            return;
        };
        let early = matches!(
            self.mutation,
            Mutation::SentBeforeOwnPromise | Mutation::PromiseNotDurable
        );
        if node.durable.promised != epoch && !early {
            return;
        }
        let number = |pod: usize| u8::try_from(pod).expect("few pods");
        for other in (0..world.nodes.len()).filter(|other| *other != pod) {
            let (to, from, log) = (number(other), number(pod), node.now.log);
            world.messages.insert(Message::Append {
                to,
                from,
                epoch,
                log,
            });
        }
    }

    /// How many entries every required disk has.
    fn committed(&self, world: &World, pod: usize) -> usize {
        let node = &world.nodes[pod];
        let (Role::Leader { epoch, acked }, Some(view)) = (node.role, node.view) else {
            return 0;
        };
        let unsettled = node
            .unsettled
            .map_or(view.in_sync, |unsettled| unsettled.proposed);
        let required = if self.mutation == Mutation::ShrunkBeforeRegister {
            view.in_sync.intersection(unsettled)
        } else {
            view.in_sync.union(unsettled)
        };
        let me = world.disk_of(pod);
        let promise_kept =
            node.durable.promised == epoch || self.mutation == Mutation::PromiseNotDurable;
        let durable = if promise_kept {
            node.durable.log.len()
        } else {
            0
        };
        let own = if self.mutation == Mutation::AcknowledgedBeforeOwnSync {
            node.now.log.len()
        } else {
            durable
        };
        let others = required
            .without(me)
            .iter()
            .map(|disk| usize::from(acked[disk.index()]));
        others.fold(own, usize::min)
    }

    fn acknowledge(&self, world: &mut World, pod: usize) {
        let Role::Leader { epoch, .. } = world.nodes[pod].role else {
            return;
        };
        for index in 0..self.committed(world, pod) {
            let Some(entry) = world.nodes[pod].now.log.get(index) else {
                return;
            };
            match world.acknowledged.get(index) {
                None => world.acknowledged.push(entry),
                Some(known) if known != entry => world.broken = Some("two values at one place"),
                Some(_) => continue,
            }
            let me = world.disk_of(pod);
            let acknowledging = *world.acknowledging[usize::from(epoch)].get_or_insert(me);
            if acknowledging != me {
                world.broken = Some("two acknowledging leaders in one epoch");
            }
        }
    }

    /// What can have no effect any more is dropped, so that equal futures are equal worlds.
    fn forget(&self, world: &mut World) {
        let version = world.register.version;
        world.changes.retain(|change| change.expected == version);
        let (nodes, disks_last) = (&world.nodes, world.lost_disks >= self.bounds.lost_disks);
        let disks: Vec<DiskId> = (0..nodes.len())
            .map(|pod| DiskId::new(pod, nodes[pod].lost))
            .collect();
        world.messages.retain(|message| match *message {
            Message::Append { to, epoch, .. } => {
                !disks_last || epoch >= nodes[usize::from(to)].durable.promised
            }
            Message::Appended {
                to,
                from,
                epoch,
                len,
            } => match &nodes[usize::from(to)].role {
                Role::Leader { epoch: mine, acked } => {
                    epoch > *mine
                        || epoch == *mine && len > acked[from.index()] && disks.contains(&from)
                }
                Role::Follower { .. } => epoch > nodes[usize::from(to)].led,
            },
        });
    }
}

fn apply(world: &mut World, change: Change) -> bool {
    world.changes.remove(&change);
    if change.expected == world.register.version && !change.register.in_sync.is_empty() {
        world.register = change.register;
    }
    true
}

fn crash(node: &mut Node) -> bool {
    *node = Node {
        lost: node.lost,
        up: false,
        durable: node.durable,
        now: node.durable,
        view: None,
        led: 0,
        role: NOBODY,
        unsettled: None,
    };
    true
}
