//! What a replica shows of itself, to readiness, metrics and people.

use std::collections::BTreeSet;

use super::{Fresh, Replica, Role, Stranded};
use crate::identity::{Epoch, Incarnation, Index, ReplicaId};
use crate::log::ReadLog;
use crate::register::{Member, ReplicaState};

/// What a replica shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is to its tenant.
    pub position: Position,
    /// Highest epoch it has promised.
    pub epoch: Epoch,
    /// The history its disk belongs to.
    pub incarnation: Option<Incarnation>,
    /// Who leads, as far as it knows.
    pub leader: Option<ReplicaId>,
    /// The leader's pod.
    pub leader_pod: Option<String>,
    /// The in-sync set of the register version it holds.
    pub in_sync: BTreeSet<ReplicaId>,
    /// Highest index it knows to be committed.
    pub commit: Index,
    /// Highest index it knows the leader to have.
    pub leader_last: Index,
    /// Whether it may serve: a leader with its start entry committed, or a follower that hears
    /// its leader and has what the leader has committed.
    pub serving: bool,
    /// How far it is, as it sees itself; it does not know of copies of snapshots.
    pub state: ReplicaState,
    /// A leader's replicas, itself among them, and how far they are.
    pub members: Vec<Member>,
    /// How old at most is what this replica shows; `None` while nothing is proven.
    pub fresh: Option<Fresh>,
    /// Whether it has heard no leader for twice the time after which one is replaced: whoever leads
    /// now, it is not to be reached from here.
    pub cut_off: bool,
}

/// What a replica is to its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Does not know yet.
    Joining,
    /// Acknowledges writes.
    Leader,
    /// In sync with a leader.
    Follower,
    /// Catching up with a leader.
    Learner,
    /// Stands aside.
    Stranded(Stranded),
}

impl Replica {
    /// The history this disk belongs to.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
            .or_else(|| self.register().map(|register| register.incarnation))
    }

    /// Whether this replica may have something to say to `replica`.
    pub fn knows(&self, replica: ReplicaId) -> bool {
        let follows =
            matches!(&self.role, Role::Leader(leader) if leader.followers.contains_key(&replica));
        follows
            || self
                .register()
                .is_some_and(|register| register.pod_of(replica).is_some())
    }

    /// Last index of the log that is known to be on this replica's disk, and is not about to be cut.
    pub fn durable(&self) -> Index {
        self.writes.durable_last()
    }

    /// Nobody who answers lacks an entry up to here. Beyond what is applied nothing may be trimmed;
    /// up to here it costs nobody a snapshot.
    pub fn spare(&self) -> Index {
        let Role::Leader(leader) = &self.role else {
            return self.commit;
        };
        let (now, within) = (self.now, self.config.timing.drop_after);
        let live = leader.followers.values();
        let live = live.filter(|progress| progress.is_live(now, within));
        live.map(|progress| progress.acked)
            .fold(self.commit, Index::min)
    }

    /// What this replica shows of itself now.
    pub fn standing(&self, log: &impl ReadLog) -> Standing {
        let in_sync = self
            .register()
            .map(|register| register.in_sync.clone())
            .unwrap_or_default();
        let (position, leader, leader_last, serving) = match &self.role {
            Role::Leader(leader) => (
                Position::Leader,
                Some(self.config.replica),
                log.last().index,
                self.commit >= leader.start,
            ),
            Role::Stranded(reason) => (Position::Stranded(*reason), None, 0, false),
            Role::Follower(follower) => {
                let heard = follower.hears_leader(self.now, self.config.timing.takeover_after);
                let position = match (follower.leader, in_sync.contains(&self.config.replica)) {
                    (None, _) => Position::Joining,
                    (Some(_), true) => Position::Follower,
                    (Some(_), false) => Position::Learner,
                };
                let caught_up =
                    position == Position::Follower || self.commit >= follower.leader_commit;
                let serving = heard && caught_up && follower.matched_index().is_some();
                (position, follower.leader, follower.leader_last, serving)
            }
        };
        let leader_pod = match leader {
            Some(leader) if leader == self.config.replica => Some(self.config.pod.clone()),
            Some(leader) => self
                .register()
                .and_then(|register| register.pod_of(leader))
                .map(str::to_owned),
            None => None,
        };
        let state = match &self.role {
            Role::Leader(_) => ReplicaState::InSync,
            Role::Follower(_) if position == Position::Follower => ReplicaState::InSync,
            Role::Follower(follower) if follower.matched_index().is_some() => {
                ReplicaState::Streaming
            }
            Role::Follower(_) | Role::Stranded(_) => ReplicaState::Probing,
        };
        let fresh = match &self.role {
            Role::Leader(leader) => leader.rounds.fresh,
            Role::Follower(follower) => follower.marks.fresh,
            Role::Stranded(_) => None,
        };
        let cut_off = match &self.role {
            Role::Follower(follower) => {
                self.now - follower.heard_at > 2 * self.config.timing.takeover_after
            }
            Role::Leader(_) | Role::Stranded(_) => false,
        };
        Standing {
            position,
            epoch: self.promised,
            incarnation: self.incarnation,
            leader,
            leader_pod,
            in_sync,
            commit: self.commit,
            leader_last,
            serving,
            state,
            members: self.members(),
            fresh,
            cut_off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Input, Restored, Timing};
    use super::*;
    use crate::log::memory::MemoryLog;
    use crate::register::{Register, View};

    /// What the register says when `leader` leads; this replica (1) is not in sync, so it takes over
    /// from nobody.
    fn led_by(leader: u128, epoch: Epoch) -> View {
        let members = [1, 2, 3].map(|replica| Member {
            replica: ReplicaId(replica),
            pod: format!("acme-{replica}"),
            state: None,
        });
        View {
            version: epoch,
            register: Some(Register {
                incarnation: Incarnation(7),
                epoch,
                leader: ReplicaId(leader),
                in_sync: BTreeSet::from([ReplicaId(leader)]),
                replicas: members.to_vec(),
                answers: Vec::new(),
                held: 0,
                last_failover: None,
                loss: None,
            }),
            min_in_sync: 1,
            bootstrap: false,
            requests: Vec::new(),
        }
    }

    #[test]
    fn a_replica_is_cut_off_when_nobody_it_hears_has_led_for_two_takeovers() {
        let timing = Timing::new(500, 2_500);
        let config = Config {
            replica: ReplicaId(1),
            pod: "acme-1".to_owned(),
            fresh_incarnation: Incarnation(7),
            opening_after_loss: Vec::new(),
            jitter_seed: 1,
            timing,
        };
        let mut replica = Replica::new(config, Restored::default(), 0);
        let log = MemoryLog::default();
        let mut cut_off_at = |now, input| {
            replica.step(now, input, &log);
            replica.standing(&log).cut_off
        };
        let read = |view| Input::RegisterRead(Some(view));
        assert!(!cut_off_at(1_000, read(led_by(2, 1))));
        assert!(!cut_off_at(6_000, Input::Tick), "it may yet be replaced");
        assert!(cut_off_at(6_001, Input::Tick));
        assert!(!cut_off_at(7_000, read(led_by(3, 2))), "another one leads");
        assert!(cut_off_at(12_001, Input::Tick), "and is not heard either");
    }
}
