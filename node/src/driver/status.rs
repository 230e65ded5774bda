//! What the replica is, for readiness, metrics and the API.

use std::time::{Duration, Instant};

use percolate_core::identity::{Epoch, Index, ReplicaId};
use percolate_core::register::ReplicaState;
use percolate_core::replica::{Fresh, Position, Standing};
use tokio::sync::watch;

use crate::snapshot::progress::Copying;
use crate::tenant::{Role, Status};

/// Publishes changes of [`Status`].
pub(super) struct StatusPublisher {
    sender: watch::Sender<Status>,
    api_url: Box<dyn Fn(&str) -> String + Send>,
    age: Age,
}

/// How old what is visible is at most. The machine proves it up to an index, which has to be applied.
struct Age {
    /// The origin of the machine's clock.
    started: Instant,
    /// Proven, and not yet applied.
    pending: Option<Fresh>,
    shown: Option<Fresh>,
}

impl Age {
    /// Everything acknowledged before the result is visible, once `applied` is.
    fn as_of(&mut self, proven: Option<Fresh>, applied: Index) -> Option<Instant> {
        let newer = |fresh: &Fresh| self.shown.is_none_or(|shown| fresh.at > shown.at);
        // One that waits is not replaced: an applier that lags would never be done with any.
        self.pending = self.pending.or(proven.filter(newer));
        if let Some(reached) = self.pending.take_if(|pending| pending.index <= applied) {
            self.shown = Some(reached);
        }
        let shown = self.shown?;
        Some(self.started + Duration::from_millis(shown.at))
    }
}

impl StatusPublisher {
    pub(super) fn new(
        replica_id: ReplicaId,
        started: Instant,
        api_url: Box<dyn Fn(&str) -> String + Send>,
    ) -> (Self, watch::Receiver<Status>) {
        let (sender, receiver) = watch::channel(Status::joining(replica_id));
        let age = Age {
            started,
            pending: None,
            shown: None,
        };
        let publisher = Self {
            sender,
            api_url,
            age,
        };
        (publisher, receiver)
    }

    /// The leader's API, if another replica leads.
    pub(super) fn leader_url(&self) -> Option<String> {
        self.sender.borrow().leader_url.clone()
    }

    pub(super) fn publish(
        &mut self,
        standing: &Standing,
        last: Index,
        (applied, loss): (Index, Epoch),
        copying: Option<Copying>,
    ) {
        let before = self.sender.borrow().role;
        let as_of = self.age.as_of(standing.fresh, applied);
        let status = Status {
            as_of,
            copying,
            state: match copying {
                Some(copying) if standing.state == ReplicaState::Probing => {
                    ReplicaState::Snapshotting {
                        percent: copying.percent(),
                    }
                }
                _ => standing.state,
            },
            ..self.status(standing, last, (applied, loss))
        };
        if let (Position::Stranded(reason), true) = (standing.position, before != status.role) {
            tracing::error!(?reason, "this replica stands aside");
        }
        if before != status.role {
            tracing::info!(role = ?status.role, epoch = status.epoch, leader = status.leader_pod.as_deref(), "role changed");
        }
        self.sender.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    fn status(&self, standing: &Standing, last: Index, (applied, loss): (Index, Epoch)) -> Status {
        let role = match standing.position {
            Position::Leader => Role::Leader,
            Position::Follower => Role::Follower,
            Position::Learner => Role::Learner,
            Position::Joining | Position::Stranded(_) => Role::Joining,
        };
        let elsewhere = standing
            .leader_pod
            .as_deref()
            .filter(|_| role != Role::Leader);
        Status {
            replica_id: self.sender.borrow().replica_id,
            incarnation: standing.incarnation,
            loss,
            role,
            epoch: standing.epoch,
            leader: standing.leader,
            leader_pod: standing.leader_pod.clone(),
            leader_url: elsewhere.map(|pod| (self.api_url)(pod)),
            in_sync: standing.in_sync.iter().copied().collect(),
            last,
            committed: standing.commit,
            applied,
            lag: standing.leader_last.saturating_sub(applied),
            serving: standing.serving,
            state: standing.state,
            copying: None,
            members: standing.members.clone(),
            as_of: None,
            cut_off: standing.cut_off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_shown_once_what_it_is_proven_up_to_is_applied() {
        let started = Instant::now();
        let mut age = Age {
            started,
            pending: None,
            shown: None,
        };
        let fresh = |at, index| Some(Fresh { at, index });
        let after = |millis| Some(started + Duration::from_millis(millis));
        assert_eq!(age.as_of(None, 10), None);
        assert_eq!(age.as_of(fresh(100, 11), 10), None, "not applied yet");
        assert_eq!(age.as_of(fresh(200, 99), 11), after(100), "not replaced");
        assert_eq!(age.as_of(fresh(200, 99), 50), after(100));
        assert_eq!(age.as_of(fresh(200, 99), 99), after(200));
        assert_eq!(age.as_of(fresh(150, 5), 99), after(200), "never older");
        assert_eq!(age.as_of(None, 99), after(200), "true for good");
    }
}
