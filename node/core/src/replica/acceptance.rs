//! Leading though nobody in sync is left, once a person has accepted the loss.
//!
//! ```text
//! request at the register's epoch ─┐
//! no leader is heard ──────────────┴▶ Candidacy ─▶ each other ─▶ nobody better heard ─▶ ChangeRegister
//! ```
//! What only lost replicas held is given up: that is a person's to decide. Who loses least is decided
//! here, among those that are there. It is no vote: should two of them lead one after the other, the
//! register still has one leader at a time, and whoever comes later follows it.

use std::collections::BTreeSet;

use super::message::Candidacy;
use super::{Effect, Message, Millis, Replica, Role};
use crate::identity::{Epoch, Index, ReplicaId};
use crate::log::{Head, ReadLog};
use crate::register::{Answer, Failover, FailoverReason, Member, Register, ReplicaState};

/// Most replicas the register lists; the CRD's limit.
const MAX_KNOWN: usize = 32;

/// What a replica keeps while it offers to lead.
#[derive(Debug)]
pub(super) struct Bid {
    /// The epoch whose loss was accepted.
    epoch: Epoch,
    since: Millis,
    announce_at: Millis,
    /// When a better one was last heard.
    outbid_at: Option<Millis>,
    /// Where others do: what the register knew in those pods is there no more, or offers itself.
    others: BTreeSet<String>,
}

/// What one has more of than another: later entries, then more of them. The identity only decides
/// between equals.
fn rank(last: Head, replica: ReplicaId) -> (Epoch, Index, ReplicaId) {
    (last.epoch, last.index, replica)
}

impl Replica {
    /// Whether the register counts on this replica, and its disk holds what it is counted on for.
    pub(super) fn is_whole(&self, register: &Register, log: &impl ReadLog) -> bool {
        register.in_sync.contains(&self.config.replica) && log.last().index >= register.held
    }

    /// Offer to lead while the loss is accepted and no leader is heard; lead when nobody better was heard for
    /// as long as it takes to miss a leader.
    pub(super) fn tick_acceptance(&mut self, log: &impl ReadLog) {
        let (now, timing) = (self.now, self.config.timing);
        let Some(epoch) = self.accepted_epoch(log) else {
            self.bid = None;
            return;
        };
        let bid = match self.bid.take() {
            Some(bid) if bid.epoch == epoch => bid,
            _ => Bid {
                epoch,
                since: now,
                announce_at: now,
                outbid_at: None,
                others: BTreeSet::new(),
            },
        };
        let heard_out = now >= bid.since + timing.takeover_after;
        let outbid = bid
            .outbid_at
            .is_some_and(|at| now < at + timing.takeover_after);
        let announces = now >= bid.announce_at;
        let bid = self.bid.insert(bid);
        if announces {
            bid.announce_at = now + timing.heartbeat;
            self.announce_candidacy(epoch, log);
        }
        if heard_out && !outbid && self.has_something_to_lead(log) && self.may_change_register() {
            self.lead_with_loss();
        }
    }

    /// The register's epoch, if a person accepted its loss and this replica hears no leader, and could
    /// not lead without that.
    fn accepted_epoch(&self, log: &impl ReadLog) -> Option<Epoch> {
        let Role::Follower(follower) = &self.role else {
            return None;
        };
        let view = self.view.as_ref().filter(|_| self.oriented)?;
        let register = view.register.as_ref()?;
        let silent = self.now - follower.heard_at > self.config.timing.takeover_after;
        let may_lead = view.accepted_loss().is_some() && silent && self.leaving.is_none();
        (may_lead && !self.is_whole(register, log)).then_some(register.epoch)
    }

    /// An empty disk leads only where no other is known that could have more. A pod that has another disk
    /// by now has lost what the register knew in it.
    fn has_something_to_lead(&self, log: &impl ReadLog) -> bool {
        let (Some(register), Some(bid)) = (self.register(), &self.bid) else {
            return false;
        };
        let could_have_more = |member: &Member| {
            let is_own = member.pod == self.config.pod;
            let apart = !register.in_sync.contains(&member.replica);
            apart && !is_own && !bid.others.contains(&member.pod)
        };
        log.last() != Head::default() || !register.replicas.iter().any(could_have_more)
    }

    fn announce_candidacy(&mut self, epoch: Epoch, log: &impl ReadLog) {
        let candidacy = self.candidacy(epoch, log);
        let known = self.register().map(|register| register.replicas.clone());
        for member in known.into_iter().flatten() {
            if member.replica != self.config.replica {
                let message = Message::Candidacy(candidacy.clone());
                self.send(member.replica, message);
            }
        }
    }

    fn candidacy(&self, epoch: Epoch, log: &impl ReadLog) -> Candidacy {
        Candidacy {
            epoch,
            pod: self.config.pod.clone(),
            last: log.last(),
        }
    }

    /// Another one offers to lead. It may not be known to the register, so the answer goes where it says.
    pub(super) fn receive_candidacy(
        &mut self,
        from: ReplicaId,
        candidacy: Candidacy,
        log: &impl ReadLog,
    ) {
        let (now, me) = (self.now, self.config.replica);
        let Some(register) = self
            .register()
            .filter(|known| known.epoch == candidacy.epoch)
        else {
            return;
        };
        // Who is in sync and whole leads by itself, as ever, if it is only given the time.
        let is_whole = register.in_sync.contains(&from) && candidacy.last.index >= register.held;
        let whole = self.is_whole(register, log) && matches!(self.role, Role::Follower(_));
        let is_better = is_whole || (!whole && rank(candidacy.last, from) > rank(log.last(), me));
        if let Some(bid) = &mut self.bid {
            bid.others.insert(candidacy.pod.clone());
            if is_better {
                bid.outbid_at = Some(now);
            }
        }
        if is_better || !(whole || self.bid.is_some()) {
            return;
        }
        let message = Message::Candidacy(self.candidacy(candidacy.epoch, log));
        self.effects.push(Effect::Send {
            to: from,
            pod: candidacy.pod,
            message,
        });
    }

    fn lead_with_loss(&mut self) {
        let me = self.config.replica;
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let silent_ms = self.now - follower.heard_at;
        let Some(view) = &self.view else { return };
        let (Some(register), Some(request)) = (&view.register, view.accepted_loss()) else {
            return;
        };
        let mut next = with_member(register, me, &self.config.pod);
        next.epoch += 1;
        next.leader = me;
        next.in_sync = BTreeSet::from([me]);
        next.loss = Some(next.epoch);
        // What was held is what is lost.
        next.held = self.commit;
        for member in &mut next.replicas {
            member.state = Some(if member.replica == me {
                ReplicaState::InSync
            } else {
                ReplicaState::Probing
            });
        }
        next.answers.push(Answer {
            id: request.id.clone(),
            refused: None,
        });
        next.last_failover = Some(Failover {
            from: Some(register.leader),
            to: me,
            epoch: next.epoch,
            reason: FailoverReason::LossAccepted,
            silent_ms,
            rescued: 0,
        });
        self.change_register(next);
    }

    /// Nobody leads, and the register does not know this replica: it says that it is here. So people
    /// can tell that the pod's former disk is not there any more, and others can reach this one. It does
    /// so until it has been known once in this epoch: a leader that does not hear it takes it out again.
    pub(super) fn introduce_itself(&mut self) {
        let me = self.config.replica;
        let Some(register) = self.register() else {
            return;
        };
        let epoch = register.epoch;
        let room = register.replicas.len() < MAX_KNOWN;
        if self.known_in == Some(epoch) || !room || self.dropped_pods().contains(&self.config.pod) {
            return;
        }
        let next = with_member(register, me, &self.config.pod);
        self.change_register(next);
    }
}

/// With `replica` among those that are known.
fn with_member(register: &Register, replica: ReplicaId, pod: &str) -> Register {
    let mut next = register.clone();
    if next.pod_of(replica).is_none() {
        next.replicas.push(Member {
            replica,
            pod: pod.to_owned(),
            state: Some(ReplicaState::Probing),
        });
    }
    next
}
