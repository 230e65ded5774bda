//! Register and replicas, as small as the rules R1 to R6 and R9 allow: logs are sent whole, the
//! epoch's opening entry is left out, and everything that is not safety (timeouts, windows,
//! heartbeats) is "may happen at any time".

#[path = "copying.rs"]
mod copying;
#[path = "disks.rs"]
mod disks;
#[path = "leading.rs"]
mod leading;
#[path = "log.rs"]
mod log;
#[path = "mutation.rs"]
mod mutation;
#[path = "world.rs"]
mod world;

pub(crate) use self::mutation::Mutation;
pub(crate) use self::world::World;

use std::collections::BTreeSet;

use self::disks::{DiskId, Disks};
use self::leading::apply;
use self::log::Log;
use self::world::{Change, Durable, Message, NOBODY, Node, Register, Role};

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

/// Register and replicas under one set of rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) mutation: Mutation,
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
