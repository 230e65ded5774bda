//! What the replica is, for readiness, metrics and the API.

use percolate_core::identity::{Index, ReplicaId};
use percolate_core::replica::{Position, Standing};
use tokio::sync::watch;

use crate::tenant::{Role, Status};

/// Publishes changes of [`Status`].
pub(super) struct StatusPublisher {
    sender: watch::Sender<Status>,
    api_url: Box<dyn Fn(&str) -> String + Send>,
}

impl StatusPublisher {
    pub(super) fn new(
        replica_id: ReplicaId,
        api_url: Box<dyn Fn(&str) -> String + Send>,
    ) -> (Self, watch::Receiver<Status>) {
        let (sender, receiver) = watch::channel(Status::joining(replica_id));
        (Self { sender, api_url }, receiver)
    }

    /// The leader's API, if another replica leads.
    pub(super) fn leader_url(&self) -> Option<String> {
        self.sender.borrow().leader_url.clone()
    }

    pub(super) fn publish(&self, standing: &Standing, last: Index, applied: Index) {
        let before = self.sender.borrow().role;
        let status = self.status(standing, last, applied);
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

    fn status(&self, standing: &Standing, last: Index, applied: Index) -> Status {
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
        }
    }
}
