//! Planned handover: the leader stops taking proposals, lets everything commit, and gives its
//! place in the register to an in-sync follower. Proposals that arrive meanwhile wait, bounded.

use super::{Effect, Message, Millis, Refusal, Replica, RequestId, Role};
use crate::identity::ReplicaId;
use crate::log::ReadLog;
use crate::register::{Action, Answer, Failover, FailoverReason};

/// Proposals that may wait for a handover: what many clients send in the tens of milliseconds it
/// takes; beyond that they are told to come back.
const QUEUE_LIMIT: usize = 4_096;

/// A handover under way.
#[derive(Debug)]
pub(super) struct Handover {
    successor: ReplicaId,
    give_up_at: Millis,
    /// The register change was sent: there is no way back until its outcome is known.
    sent: bool,
    asked_by: Vec<RequestId>,
    /// The operator's request this answers.
    request: Option<String>,
    queued: Vec<(RequestId, Vec<u8>)>,
}

impl Handover {
    pub(super) fn queue(&mut self, id: RequestId, payload: Vec<u8>) -> Result<(), Refusal> {
        if self.queued.len() >= QUEUE_LIMIT {
            return Err(Refusal::Overloaded);
        }
        self.queued.push((id, payload));
        Ok(())
    }
}

/// What is told to those who asked for a handover.
pub(super) fn answers(asked_by: Vec<RequestId>, done: bool) -> impl Iterator<Item = Effect> {
    let answer = move |id| Effect::HandedOver { id, done };
    asked_by.into_iter().map(answer)
}

impl Replica {
    /// The process is about to stop: a leader gives its place to another, a follower asks to be
    /// left out, so that nothing waits for it.
    pub(super) fn hand_over(&mut self, id: RequestId, log: &impl ReadLog) {
        if matches!(self.role, Role::Follower(_)) {
            return self.leave(id);
        }
        if let Role::Leader(leader) = &mut self.role
            && let Some(handover) = &mut leader.handover
        {
            handover.asked_by.push(id);
            return;
        }
        if !self.begin_handover(None, vec![id], None) {
            let done = !matches!(self.role, Role::Leader(_));
            self.effects.push(Effect::HandedOver { id, done });
        }
        self.tick_handover(log);
    }

    /// The operator wants another leader, or wants this one's pod out of the tenant.
    pub(super) fn begin_requested_handover(&mut self, log: &impl ReadLog) {
        let Some(view) = &self.view else { return };
        let Some(register) = &view.register else {
            return;
        };
        let answered = |id: &str| register.answers.iter().any(|answer| answer.id == id);
        let asked = view
            .requests
            .iter()
            .find_map(|request| match &request.action {
                Action::HandOver { pod } if !answered(&request.id) => {
                    Some((pod.clone(), Some(request.id.clone())))
                }
                Action::Drop { pod } if *pod == self.config.pod && !answered(&request.id) => {
                    Some((None, None))
                }
                Action::HandOver { .. } | Action::Drop { .. } | Action::AcceptLoss { .. } => None,
            });
        let Some((pod, request)) = asked else { return };
        let successor = pod.as_deref().and_then(|pod| register.replica_in(pod));
        if pod.is_some() && successor.is_none_or(|successor| !register.in_sync.contains(&successor))
        {
            return; // not in sync yet: the request stands until it is
        }
        if self.begin_handover(successor, Vec::new(), request) {
            self.tick_handover(log);
        }
    }

    fn begin_handover(
        &mut self,
        to: Option<ReplicaId>,
        asked_by: Vec<RequestId>,
        request: Option<String>,
    ) -> bool {
        let give_up_at = self.now + self.config.timing.handover_within;
        let within = self.config.timing.drop_after;
        let dropped = self.dropped_pods();
        let in_sync = self
            .register()
            .map(|register| register.in_sync.clone())
            .unwrap_or_default();
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return false;
        };
        let fit = leader.followers.iter().filter(|(replica, progress)| {
            let stays = !progress.is_leaving(now) && !dropped.contains(&progress.pod);
            in_sync.contains(replica) && progress.is_live(now, within) && stays
        });
        let named = fit.filter(|(replica, _)| to.is_none_or(|to| to == **replica));
        let Some(successor) = named
            .max_by_key(|(_, progress)| progress.acked)
            .map(|(replica, _)| *replica)
        else {
            return false;
        };
        leader.handover = Some(Handover {
            successor,
            give_up_at,
            sent: false,
            asked_by,
            request,
            queued: Vec::new(),
        });
        true
    }

    /// Once everything is committed, change the register; give up when it takes too long.
    pub(super) fn tick_handover(&mut self, log: &impl ReadLog) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(handover) = &mut leader.handover else {
            return;
        };
        if self.now >= handover.give_up_at {
            // Whoever is about to stop need not know the outcome: to stop is always safe.
            let asked_by = std::mem::take(&mut handover.asked_by);
            self.effects.extend(answers(asked_by, false));
        }
        let settled = self.unsettled.is_none();
        let all_committed = self.commit == leader.last.index && log.last() == leader.last;
        if settled && !handover.sent && all_committed && self.now < handover.give_up_at {
            return self.send_handover();
        }
        let outcome_known = !handover.sent || settled;
        if outcome_known && self.now >= handover.give_up_at {
            if let Some(handover) = leader.handover.take() {
                self.end_handover(handover, false);
            }
        } else if handover.sent && settled && all_committed {
            self.send_handover(); // the register moved on without it: try again
        }
    }

    fn send_handover(&mut self) {
        let Some(mut register) = self.register().cloned() else {
            return;
        };
        let me = self.config.replica;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(handover) = &mut leader.handover else {
            return;
        };
        if !register.in_sync.contains(&handover.successor) {
            handover.give_up_at = self.now;
            return;
        }
        handover.sent = true;
        register.epoch += 1;
        register.leader = handover.successor;
        if let Some(id) = handover.request.clone() {
            register.answers.push(Answer { id, refused: None });
        }
        let (to, epoch) = (handover.successor, register.epoch);
        register.last_failover = Some(Failover {
            from: Some(me),
            to,
            epoch,
            reason: FailoverReason::HandedOver,
            silent_ms: 0,
            rescued: 0,
        });
        self.change_register(self.with_held(register));
    }

    /// Tell everyone who waited. What was queued is refused (and goes to the new leader) or, if
    /// this replica still leads, proposed after all.
    pub(super) fn end_handover(&mut self, handover: Handover, done: bool) {
        self.effects.extend(answers(handover.asked_by, done));
        for (id, payload) in handover.queued {
            if done {
                self.effects.push(Effect::Refused {
                    id,
                    refusal: Refusal::NotLeader,
                });
            } else {
                self.append(id, payload);
            }
        }
        if done {
            let others = self
                .register()
                .map(|register| register.replicas.clone())
                .unwrap_or_default();
            for member in others {
                if member.replica != self.config.replica {
                    self.send(member.replica, Message::LeadershipMoved);
                }
            }
        }
    }
}
