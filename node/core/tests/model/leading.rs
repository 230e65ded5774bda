//! Changes of the register: who leads, who is in sync, and what a replica makes of what it reads.

use super::Protocol;
use super::disks::DiskId;
use super::mutation::Mutation;
use super::world::{Change, NOBODY, Register, Role, Unsettled, World};

impl Protocol {
    /// R5: only a member takes over, with a new epoch; the leader it replaces leaves the set.
    pub(super) fn take_over(&self, world: &mut World, pod: usize) -> bool {
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

    pub(super) fn shrink(&self, world: &mut World, pod: usize, disk: DiskId) -> bool {
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
    pub(super) fn grow(&self, world: &mut World, pod: usize, disk: DiskId) -> bool {
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
    pub(super) fn read(&self, world: &mut World, pod: usize) -> bool {
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
}

pub(super) fn apply(world: &mut World, change: Change) -> bool {
    world.changes.remove(&change);
    if change.expected == world.register.version && !change.register.in_sync.is_empty() {
        world.register = change.register;
    }
    true
}
