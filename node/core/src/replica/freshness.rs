//! How old at most is what a replica shows, without comparing the clocks of two machines.
//!
//! ```text
//! follower: Appended { mark }, at its time t ─▶ leader: begins a round, commit is c ─▶ all required answer it
//! follower: with c applied it shows all that was acknowledged before t ◀── Append { proven: mark, c } ──┘
//! ```
//! Who leads next must have been one of the required, and answers no round of this epoch once it
//! has promised its own: so when all have answered a round that began after t, nobody else had
//! acknowledged anything by t. What this leader had, and its predecessors, is up to c in its log.
//! Time is only measured between two moments of one process; messages carry marks, not times.
//! No message is sent for this: marks and proofs travel with heartbeats and their answers.

use std::collections::VecDeque;

use super::{Millis, Replica, Role};
use crate::identity::{Index, ReplicaId};

/// Marks that may be unproven at a time: as many as are made while a round takes a few heartbeats.
const MOST_MARKS: usize = 8;

/// What is known about the age of what a replica shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// A time of this process's clock: everything acknowledged before it …
    pub at: Millis,
    /// … stands at or below this index.
    pub index: Index,
}

/// A leader's answer to a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// The follower's mark.
    pub mark: u64,
    /// What was acknowledged before the mark was sent is committed up to here.
    pub commit: Index,
}

/// The marks a follower has sent, and what was proven of them.
#[derive(Debug, Default)]
pub(super) struct Marks {
    sent: VecDeque<(u64, Millis)>,
    pub(super) fresh: Option<Fresh>,
}

impl Marks {
    /// The mark to send at `now`: a new one named `fresh`, unless the latest is younger than `every`.
    fn send(&mut self, now: Millis, every: Millis, fresh: u64) -> u64 {
        if let Some((mark, sent_at)) = self.sent.back()
            && now - sent_at < every
        {
            return *mark;
        }
        if self.sent.len() >= MOST_MARKS {
            self.sent.pop_front();
        }
        self.sent.push_back((fresh, now));
        fresh
    }

    /// Marks of an earlier process, and those that are long forgotten, prove nothing.
    pub(super) fn prove(&mut self, proven: Proven) {
        let known = self.sent.iter().position(|(mark, _)| *mark == proven.mark);
        if let Some((_, at)) = known.and_then(|known| self.sent.drain(..=known).next_back()) {
            self.fresh = Some(Fresh {
                at,
                index: proven.commit,
            });
        }
    }
}

/// A round that will prove the marks received before it began.
#[derive(Debug)]
struct Round {
    number: u64,
    commit: Index,
    began_at: Millis,
    marks: Vec<(ReplicaId, u64)>,
}

/// A leader's rounds: one at a time, one for each heartbeat at most.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pending: Option<Round>,
    begin_at: Millis,
    pub(super) fresh: Option<Fresh>,
}

impl Replica {
    /// The mark that this follower's next answer carries.
    pub(super) fn mark(&mut self) -> u64 {
        let (now, every) = (self.now, self.config.timing.heartbeat / 2);
        let Role::Follower(follower) = &mut self.role else {
            return 0;
        };
        // Seeds differ from process to process, so a mark that comes back was made by this one.
        let fresh = self.config.jitter_seed.wrapping_add(self.marks_made).max(1);
        let mark = follower.marks.send(now, every, fresh);
        if mark == fresh {
            self.marks_made += 1;
        }
        mark
    }

    /// Begin a round, unless one is under way. It goes out with the next heartbeats.
    pub(super) fn begin_round(&mut self) {
        let (now, commit) = (self.now, self.commit);
        let heartbeat = self.config.timing.heartbeat;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let rounds = &mut leader.rounds;
        if rounds.pending.is_some() || now < rounds.begin_at || commit < leader.start {
            return;
        }
        leader.round += 1;
        rounds.begin_at = now + heartbeat;
        let marks = leader.followers.iter();
        rounds.pending = Some(Round {
            number: leader.round,
            commit,
            began_at: now,
            marks: marks
                .map(|(replica, progress)| (*replica, progress.mark))
                .collect(),
        });
        self.settle_round();
    }

    /// Once all required replicas have answered the round, its marks are proven.
    pub(super) fn settle_round(&mut self) {
        let is_pending =
            matches!(&self.role, Role::Leader(leader) if leader.rounds.pending.is_some());
        if !is_pending {
            return;
        }
        let answered = self.answered_round();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(round) = leader
            .rounds
            .pending
            .take_if(|round| round.number <= answered)
        else {
            return;
        };
        let commit = round.commit;
        leader.rounds.fresh = Some(Fresh {
            at: round.began_at,
            index: commit,
        });
        for (replica, mark) in round.marks {
            if let Some(progress) = leader.followers.get_mut(&replica)
                && mark != 0
            {
                progress.proven = Some(Proven { mark, commit });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_proves_the_time_at_which_it_was_first_sent() {
        let mut marks = Marks::default();
        assert_eq!(marks.send(1_000, 250, 7), 7);
        assert_eq!(marks.send(1_200, 250, 8), 7, "too young for another");
        assert_eq!(marks.send(1_250, 250, 8), 8);
        marks.prove(Proven { mark: 9, commit: 5 });
        assert_eq!(marks.fresh, None, "not a mark of this process");
        marks.prove(Proven { mark: 8, commit: 5 });
        let fresh = Fresh {
            at: 1_250,
            index: 5,
        };
        assert_eq!(marks.fresh, Some(fresh));
        marks.prove(Proven { mark: 7, commit: 4 });
        assert_eq!(marks.fresh, Some(fresh), "an older one changes nothing");
    }

    #[test]
    fn marks_that_nobody_proves_are_forgotten() {
        let mut marks = Marks::default();
        for number in 1..100 {
            marks.send(number * 1_000, 250, number);
        }
        assert_eq!(marks.sent.len(), MOST_MARKS);
        marks.prove(Proven { mark: 1, commit: 1 });
        assert_eq!(marks.fresh, None);
    }
}
