//! One link that goes up and down every few hundred milliseconds for a while (F18).
//!
//! However it flaps, leaders change no faster than followers lose patience: between two changes
//! lies the silence a follower takes for a loss. Soon after the link is whole, writes are
//! acknowledged again.

use percolate_core::register::{FailoverReason, Register};
use percolate_core::replica::Timing;

use super::{Dice, Scenario, TICK, World};

const BEGIN: u64 = 10_000;
const END: u64 = 30_000;
/// A silence that began with the last cut is noticed, a replica takes over, and copies what lacks.
const WHOLE_AGAIN_WITHIN: u64 = 5_000;

/// The link and how it fares.
pub(super) struct Flapping {
    dice: Dice,
    link: (usize, usize),
    /// How long it is down at most.
    longest: u64,
    next_cut_at: u64,
    /// Why and when leaders changed since the first.
    pub(super) taken_over_at: Vec<(FailoverReason, u64)>,
    acknowledged_by_end: u64,
}

impl Flapping {
    pub(super) fn of(scenario: Scenario, seed: u64) -> Option<Self> {
        if !matches!(scenario, Scenario::FlappingPair | Scenario::FlappingTrio) {
            return None;
        }
        let mut dice = Dice(seed ^ 0xf1a9);
        let first = usize::try_from(dice.below(scenario.replicas() as u64)).expect("few");
        Some(Self {
            link: (first, (first + 1) % scenario.replicas()),
            longest: 3 + dice.below(10),
            next_cut_at: BEGIN,
            taken_over_at: Vec::new(),
            acknowledged_by_end: 0,
            dice,
        })
    }
}

impl World {
    /// What the scenarios of one fault do to the replicas.
    pub(super) fn strain(&mut self) {
        self.flap();
        self.tick_slow_disk();
    }

    fn flap(&mut self) {
        let (now, acknowledged) = (self.now, self.acknowledged());
        let Some(flapping) = &mut self.flapping else {
            return;
        };
        if now == END {
            flapping.acknowledged_by_end = acknowledged;
        }
        if now == END + WHOLE_AGAIN_WITHIN && flapping.acknowledged_by_end == acknowledged {
            return self.violate("nothing is acknowledged though the link is whole".to_owned());
        }
        if now < flapping.next_cut_at || now >= END {
            return;
        }
        let down = TICK * (2 + flapping.dice.below(flapping.longest));
        let up = TICK * (1 + flapping.dice.below(4));
        flapping.next_cut_at = now + down + up;
        let (one, other) = flapping.link;
        let until = (now + down).min(END);
        // In one direction, in the other, or in both.
        let direction = flapping.dice.below(3);
        if direction != 0 {
            self.cut.insert((one, other), until);
        }
        if direction != 1 {
            self.cut.insert((other, one), until);
        }
        note!(self, "link {one} {other} down until {until}");
    }

    /// A change of the register was applied: if it changes the leader, it may not be too soon.
    pub(super) fn judge_takeover(&mut self, next: &Register) {
        let now = self.now;
        let risen = self
            .register
            .register
            .as_ref()
            .is_some_and(|known| known.epoch < next.epoch);
        let Some(flapping) = self.flapping.as_mut().filter(|_| risen) else {
            return;
        };
        let reason = next.last_failover.as_ref().map(|failover| failover.reason);
        let patience = Timing::new(500, 2_500).takeover_after;
        let before = flapping.taken_over_at.last().map_or(0, |(_, at)| *at);
        flapping
            .taken_over_at
            .push((reason.unwrap_or(FailoverReason::LeaderLost), now));
        if now < before + patience {
            let text = format!(
                "epoch {} began {} ms after the one before",
                next.epoch,
                now - before
            );
            self.violate(text);
        }
    }

    /// How often the leader changed after the first.
    pub(crate) fn takeovers(&self) -> usize {
        let flapping = self.flapping.as_ref();
        flapping.map_or(0, |flapping| flapping.taken_over_at.len())
    }
}
