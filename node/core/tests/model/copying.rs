//! Entries on their way: proposed, written, sent, answered, acknowledged.
//!
//! ```text
//! propose ─▶ sync ─▶ broadcast ─▶ receive ─▶ sync ─▶ answer ─▶ committed ─▶ acknowledge
//! ```

use super::Protocol;
use super::log::{Entry, Log};
use super::mutation::Mutation;
use super::world::{Epoch, Message, Role, World};

impl Protocol {
    pub(super) fn propose(&self, world: &mut World, pod: usize) -> bool {
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

    pub(super) fn sync(&self, world: &mut World, pod: usize) -> bool {
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

    pub(super) fn deliver(&self, world: &mut World, message: Message) -> bool {
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

    /// R5: nothing is sent at an epoch before the leader's own promise of it is on disk.
    pub(super) fn broadcast(&self, world: &mut World, pod: usize) {
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
    pub(super) fn committed(&self, world: &World, pod: usize) -> usize {
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

    pub(super) fn acknowledge(&self, world: &mut World, pod: usize) {
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
}
