//! The register: who leads and who is in sync, one small object changed only by compare-and-swap.
//!
//! This module holds its value and the rule every change must keep; reading and writing the real
//! object (a `PercolateReplication` in the Kubernetes API, or memory in tests) is the caller's.
//! The same rule is written as CEL in the CRD, so the API server refuses what this refuses.

mod state;

use std::collections::BTreeSet;

pub use self::state::{ParseStateError, ReplicaState};
use crate::identity::{Epoch, Incarnation, Index, ReplicaId};

/// What the register holds once a tenant has had a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The tenant's history this register belongs to.
    pub incarnation: Incarnation,
    /// Rises by one with every change of leader or leader process.
    pub epoch: Epoch,
    /// The only replica that may acknowledge writes at `epoch`.
    pub leader: ReplicaId,
    /// Replicas without which nothing is acknowledged. Never empty, always with the leader.
    pub in_sync: BTreeSet<ReplicaId>,
    /// Every replica the leader knows, with the pod it lives in.
    pub replicas: Vec<Member>,
    /// What was answered to [`View::requests`].
    pub answers: Vec<Answer>,
    /// Every member of `in_sync` holds the log up to here, at least. Written with whatever changes.
    pub held: Index,
    /// The latest change of leader.
    pub last_failover: Option<Failover>,
    /// The latest epoch that began with the loss of acknowledged entries, accepted by a person: what
    /// stands at an index since need not be what stood there before.
    pub loss: Option<Epoch>,
}

/// A replica and where it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Identity of the disk.
    pub replica: ReplicaId,
    /// Name of the pod that holds it.
    pub pod: String,
    /// How far it is, as its leader last wrote; `None` until one has.
    pub state: Option<ReplicaState>,
}

/// Position in the register's history: larger is later. Kubernetes' `resourceVersion`.
pub type Version = u64;

/// One linearizable or watched read of the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// When in the register's history this was read.
    pub version: Version,
    /// The value; `None` until the first leader has written one.
    pub register: Option<Register>,
    /// Fewer replicas in sync than this: writes are refused. At least 1.
    pub min_in_sync: usize,
    /// Whether an empty register may be filled by a replica with an empty disk.
    pub bootstrap: bool,
    /// What the operator asks of the leader.
    pub requests: Vec<Request>,
}

/// Something the operator asks of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Unique among the requests of a tenant.
    pub id: String,
    /// What is asked.
    pub action: Action,
}

/// What the operator can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Another replica should lead: the one in `pod`, or any in sync.
    HandOver {
        /// The successor's pod.
        pod: Option<String>,
    },
    /// The replica in `pod` leaves the tenant, and stays out while this request stands.
    Drop {
        /// The leaving replica's pod.
        pod: String,
    },
    /// Nobody who is in sync is left: the one that has most of the others may lead, without what only
    /// the lost ones held. It holds for one epoch, so that it cannot be carried out twice.
    AcceptLoss {
        /// The epoch of the last leader.
        epoch: Epoch,
    },
}

/// The leader's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request's id.
    pub id: String,
    /// Why it was refused; `None` if it was done.
    pub refused: Option<String>,
}

/// A change of leader, kept for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// Who led before; `None` for the first leader.
    pub from: Option<ReplicaId>,
    /// Who leads since.
    pub to: ReplicaId,
    /// The epoch it began.
    pub epoch: Epoch,
    /// Why it happened.
    pub reason: FailoverReason,
    /// How long the new leader had not heard from the old one when it decided, in milliseconds.
    pub silent_ms: u64,
    /// Transactions that former leaders had not acknowledged and that were merged since.
    pub rescued: u64,
}

/// Why the leader changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverReason {
    /// The tenant's first leader.
    Bootstrapped,
    /// Nothing was heard of the leader for too long.
    LeaderLost,
    /// The leader's process started anew.
    LeaderRestarted,
    /// The leader gave its place to another on request.
    HandedOver,
    /// Nobody in sync was left, and a person accepted the loss.
    LossAccepted,
}

/// A change of the register that would endanger acknowledged writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeChange {
    /// Erasing the register would let a fresh disk pass for the tenant.
    #[error("the register cannot be erased")]
    Erased,
    /// Histories are told apart by incarnation.
    #[error("the incarnation cannot change")]
    IncarnationChanged,
    /// Epochs rise by at most one.
    #[error("the epoch must stay or rise by one")]
    EpochJumped,
    /// One epoch has one leader.
    #[error("the leader cannot change within an epoch")]
    LeaderChangedWithinEpoch,
    /// Only who was in sync holds everything acknowledged.
    #[error("a new leader must have been in sync")]
    LeaderWasNotInSync,
    /// The leader is in sync with itself.
    #[error("the leader must be in sync")]
    LeaderNotInSync,
    /// Only a person may give up what was acknowledged, and only for the epoch that lost it.
    #[error("a loss must be accepted for this epoch, and begins one with its leader alone in sync")]
    LossNotAccepted,
}

/// Whether the register may go from `old` to `new` while `requests` stand.
pub fn check_change(
    old: Option<&Register>,
    new: Option<&Register>,
    requests: &[Request],
) -> Result<(), UnsafeChange> {
    let Some(new) = new else {
        return if old.is_none() {
            Ok(())
        } else {
            Err(UnsafeChange::Erased)
        };
    };
    if !new.in_sync.contains(&new.leader) {
        return Err(UnsafeChange::LeaderNotInSync);
    }
    let Some(old) = old else {
        return if new.epoch == 1 {
            Ok(())
        } else {
            Err(UnsafeChange::EpochJumped)
        };
    };
    if new.incarnation != old.incarnation {
        return Err(UnsafeChange::IncarnationChanged);
    }
    let loses = new.loss != old.loss;
    let begins_alone =
        new.loss == Some(new.epoch) && new.epoch > old.epoch && new.in_sync.len() == 1;
    if loses && !(begins_alone && accept_loss(old, requests).is_some()) {
        return Err(UnsafeChange::LossNotAccepted);
    }
    if new.epoch == old.epoch {
        return if new.leader == old.leader {
            Ok(())
        } else {
            Err(UnsafeChange::LeaderChangedWithinEpoch)
        };
    }
    if new.epoch != old.epoch + 1 {
        return Err(UnsafeChange::EpochJumped);
    }
    if loses || old.in_sync.contains(&new.leader) {
        Ok(())
    } else {
        Err(UnsafeChange::LeaderWasNotInSync)
    }
}

/// The request that accepts a loss at the register's epoch.
fn accept_loss<'a>(register: &Register, requests: &'a [Request]) -> Option<&'a Request> {
    let accepts = |request: &&Request| matches!(request.action, Action::AcceptLoss { epoch } if epoch == register.epoch);
    requests.iter().find(accepts)
}

impl View {
    /// The request by which a person accepts that what only the last in-sync replicas hold is lost.
    pub fn accepted_loss(&self) -> Option<&Request> {
        accept_loss(self.register.as_ref()?, &self.requests)
    }
}

impl Register {
    /// The pod of `replica`, if the register knows it.
    pub fn pod_of(&self, replica: ReplicaId) -> Option<&str> {
        self.replicas
            .iter()
            .find(|member| member.replica == replica)
            .map(|member| member.pod.as_str())
    }

    /// Write down how far `replica` is, if the register knows it.
    pub fn set_state(&mut self, replica: ReplicaId, state: ReplicaState) {
        for member in &mut self.replicas {
            if member.replica == replica {
                member.state = Some(state);
            }
        }
    }

    /// Whether it says the same as `other`, but for how far replicas are.
    pub fn equals_but_for_states(&self, other: &Self) -> bool {
        let place = |member: &Member| (member.replica, member.pod.clone());
        let places = |register: &Self| register.replicas.iter().map(place).collect::<Vec<_>>();
        let bare = |register: &Self| Self {
            replicas: Vec::new(),
            ..register.clone()
        };
        places(self) == places(other) && bare(self) == bare(other)
    }

    /// The replica that lives in `pod`, if the register knows one.
    pub fn replica_in(&self, pod: &str) -> Option<ReplicaId> {
        self.replicas
            .iter()
            .find(|member| member.pod == pod)
            .map(|member| member.replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(epoch: Epoch, leader: u128, in_sync: &[u128]) -> Register {
        Register {
            incarnation: Incarnation(1),
            epoch,
            leader: ReplicaId(leader),
            in_sync: in_sync.iter().copied().map(ReplicaId).collect(),
            replicas: Vec::new(),
            answers: Vec::new(),
            held: 0,
            last_failover: None,
            loss: None,
        }
    }

    #[test]
    fn a_loss_is_taken_only_where_a_person_accepted_it() {
        use UnsafeChange::*;
        let old = register(4, 1, &[1, 2]);
        let losing = |new: Register| Register {
            loss: Some(new.epoch),
            ..new
        };
        let request = |epoch| Request {
            id: "accept".to_owned(),
            action: Action::AcceptLoss { epoch },
        };
        let (now, past) = ([request(4)], [request(3)]);
        let outsider = losing(register(5, 3, &[3]));
        let check =
            |new: &Register, requests: &[Request]| check_change(Some(&old), Some(new), requests);
        assert_eq!(check(&outsider, &now), Ok(()));
        assert_eq!(check(&losing(register(5, 2, &[2])), &now), Ok(()));
        assert_eq!(check(&outsider, &past), Err(LossNotAccepted));
        assert_eq!(check(&outsider, &[]), Err(LossNotAccepted));
        let with_others = losing(register(5, 3, &[2, 3]));
        assert_eq!(check(&with_others, &now), Err(LossNotAccepted));
        let untold = register(5, 3, &[3]);
        assert_eq!(check(&untold, &now), Err(LeaderWasNotInSync));
        let in_same_epoch = losing(register(4, 1, &[1]));
        assert_eq!(check(&in_same_epoch, &now), Err(LossNotAccepted));
        let forgotten = register(6, 3, &[3]);
        let requests = [request(5)];
        assert_eq!(
            check_change(Some(&outsider), Some(&forgotten), &requests),
            Err(LossNotAccepted)
        );
    }

    #[test]
    fn only_safe_changes_are_taken() {
        use UnsafeChange::*;
        let old = register(4, 1, &[1, 2]);
        let other_history = Register {
            incarnation: Incarnation(2),
            ..register(5, 1, &[1])
        };
        let cases = [
            ("grow", register(4, 1, &[1, 2, 3]), Ok(())),
            ("shrink", register(4, 1, &[1]), Ok(())),
            ("restart", register(5, 1, &[1, 2]), Ok(())),
            ("takeover", register(5, 2, &[2]), Ok(())),
            ("outsider", register(5, 3, &[3]), Err(LeaderWasNotInSync)),
            ("jump", register(6, 2, &[2]), Err(EpochJumped)),
            ("back", register(3, 1, &[1]), Err(EpochJumped)),
            (
                "second leader",
                register(4, 2, &[1, 2]),
                Err(LeaderChangedWithinEpoch),
            ),
            ("without leader", register(4, 1, &[2]), Err(LeaderNotInSync)),
            ("empty", register(4, 1, &[]), Err(LeaderNotInSync)),
            ("other history", other_history, Err(IncarnationChanged)),
        ];
        for (name, new, expected) in cases {
            assert_eq!(
                check_change(Some(&old), Some(&new), &[]),
                expected,
                "{name}"
            );
        }
        assert_eq!(check_change(Some(&old), None, &[]), Err(Erased));
        assert_eq!(check_change(None, Some(&register(1, 1, &[1])), &[]), Ok(()));
        assert_eq!(
            check_change(None, Some(&register(2, 1, &[1])), &[]),
            Err(EpochJumped)
        );
    }
}
