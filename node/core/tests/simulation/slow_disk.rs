//! A follower whose disk takes seconds for each sync, or hangs for as long as its leader could
//! wait many times over (F22); and a leader that is asked to stop while writes stall (F36).
//!
//! Writes wait for the slow disk, or the follower is left out: either way no write waits longer
//! than two slow syncs and the time after which a follower that gets no further is given up.

use std::collections::BTreeMap;

use percolate_core::identity::Index;
use percolate_core::replica::{Input, Position, Timing};

use super::{Dice, Event, Scenario, TICK, World};

const BEGIN: u64 = 10_000;
const END: u64 = 30_000;
/// How long a sync takes at most unless it hangs: a write may have to wait for the one before it.
const SYNC: u64 = 3_000;
const HANG: u64 = 20_000;
/// By then the stall is felt, and the follower not yet given up.
const STOP_AT: u64 = 12_000;

/// The disk, and who waits for it.
pub(super) struct SlowDisk {
    dice: Dice,
    node: Option<usize>,
    hangs: bool,
    stops_leader: bool,
    /// How many writes the sync under way covers, where it is slow.
    covered: Option<usize>,
    /// Since when proposals wait, by replica and place.
    waiting: BTreeMap<(usize, Index), u64>,
    longest_wait: u64,
    was_dropped: bool,
}

impl SlowDisk {
    pub(super) fn of(scenario: Scenario, seed: u64) -> Option<Self> {
        let stops_leader = scenario == Scenario::StopInStall;
        if !stops_leader && scenario != Scenario::SlowDisk {
            return None;
        }
        let mut dice = Dice(seed ^ 0xd15c);
        Some(Self {
            node: None,
            hangs: stops_leader || dice.one_in(2),
            stops_leader,
            covered: None,
            waiting: BTreeMap::new(),
            longest_wait: 0,
            was_dropped: false,
            dice,
        })
    }
}

impl World {
    pub(super) fn tick_slow_disk(&mut self) {
        let now = self.now;
        if self.slow_disk.is_none() {
            return;
        }
        if now == BEGIN {
            self.slow_a_follower();
        }
        if now == STOP_AT
            && self
                .slow_disk
                .as_ref()
                .is_some_and(|slow| slow.stops_leader)
        {
            self.stop_the_leader();
        }
        let register = self.register.register.clone();
        let nodes = &self.nodes;
        let Some(slow) = &mut self.slow_disk else {
            return;
        };
        if let (Some(register), Some(node)) = (register, slow.node) {
            slow.was_dropped |= !register.in_sync.contains(&nodes[node].id);
        }
        slow.waiting.retain(|(node, place), _| {
            let node = &nodes[*node];
            node.replica.is_some() && node.proposals.contains_key(place)
        });
        let oldest = slow.waiting.values().min().copied().unwrap_or(now);
        slow.longest_wait = slow.longest_wait.max(now - oldest);
        let timing = Timing::new(500, 2_500);
        let patience = 2 * SYNC + 2 * timing.drop_after + 2 * timing.heartbeat;
        if slow.longest_wait > patience {
            self.violate(format!("a write waits longer than {patience} ms"));
        }
    }

    fn slow_a_follower(&mut self) {
        let followers: Vec<usize> = (0..self.nodes.len())
            .filter(|index| self.nodes[*index].position() == Some(Position::Follower))
            .collect();
        if let Some(slow) = &mut self.slow_disk {
            let pick = slow.dice.below(followers.len().max(1) as u64);
            slow.node = followers.get(usize::try_from(pick).expect("few")).copied();
            note!(self, "slow disk of {followers:?}: {pick}");
        }
    }

    /// F36: the answer is due in time, see `judge_handovers`; then the process stops.
    fn stop_the_leader(&mut self) {
        let leads = |index: &usize| self.nodes[*index].position() == Some(Position::Leader);
        let Some(leader) = (0..self.nodes.len()).find(leads) else {
            return;
        };
        self.next_request += 1;
        let id = self.next_request;
        let asked = (leader, self.nodes[leader].process, self.now);
        self.handovers.insert(id, asked);
        self.schedule(leader, 0, Event::Input(Input::HandOver(id)));
    }

    /// How long the next sync of a replica takes.
    pub(super) fn sync_takes(&mut self, node: usize) -> u64 {
        let (now, waiting) = (self.now, self.nodes[node].disk.waiting());
        let is_slow = |slow: &&mut SlowDisk| slow.node == Some(node) && now < END;
        let Some(slow) = self.slow_disk.as_mut().filter(is_slow) else {
            return self.dice.below(30);
        };
        slow.covered = Some(waiting);
        if std::mem::take(&mut slow.hangs) {
            HANG
        } else {
            SYNC / 3 + slow.dice.below(SYNC / 3 * 2 - TICK)
        }
    }

    /// A slow sync covers all that waited when it began, as a real one does.
    pub(super) fn writes_in_one_sync(&mut self, node: usize) -> usize {
        let slow = self.slow_disk.as_mut();
        let slow = slow.filter(|slow| slow.node == Some(node));
        match slow.and_then(|slow| slow.covered.take()) {
            Some(covered) => covered.max(1),
            None => 1 + usize::try_from(self.dice.below(3)).expect("small"),
        }
    }

    pub(super) fn wait_begins(&mut self, node: usize, place: Index) {
        let now = self.now;
        if let Some(slow) = &mut self.slow_disk {
            slow.waiting.insert((node, place), now);
        }
    }

    /// How long a write waited at most, and whether the slow follower was ever left out.
    pub(crate) fn stall(&self) -> (u64, bool) {
        let slow = self.slow_disk.as_ref();
        slow.map_or((0, false), |slow| (slow.longest_wait, slow.was_dropped))
    }
}
