//! Leading: order proposals, copy them to every replica, commit what all required ones have.
//!
//! ```text
//! Propose ─▶ Entry ─▶ Persist ─▶ Persisted ─┐
//!               └───▶ Append ──▶ Appended ──┴─▶ min over all required ─▶ Commit
//! ```

use std::collections::BTreeMap;

use super::freshness::Rounds;
use super::handover::Handover;
use super::message::{Appended, Join, Mismatch, Outrun};
use super::progress::{Progress, Sender};
use super::rescue::Rescue;
use super::{Effect, Follower, Message, Millis, Refusal, Replica, RequestId, Role, Stranded};
use crate::identity::{Epoch, Index, ReplicaId};
use crate::log::{Entry, Head, ReadLog};
use crate::register::{Action, Register};

/// A client's question whether this replica still leads.
#[derive(Debug)]
struct Confirmation {
    id: RequestId,
    round: u64,
    index: Index,
}

/// What a leader keeps while it leads.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) epoch: Epoch,
    /// Index of the entry that began the epoch: once it is committed, so is all before it.
    pub(super) start: Index,
    /// The end of the log, with proposals of this very step.
    pub(super) last: Head,
    pub(super) followers: BTreeMap<ReplicaId, Progress>,
    /// Rises with every confirmation, so that an answer tells what it came after.
    pub(super) round: u64,
    confirmations: Vec<Confirmation>,
    pub(super) rounds: Rounds,
    /// When the register may next be changed only to say how far replicas are.
    pub(super) states_told_at: Millis,
    pub(super) handover: Option<Handover>,
    pub(super) rescue: Rescue,
}

impl Leader {
    /// A leader whose log ended at `previous` before its `start` entry.
    pub(super) fn new(
        epoch: Epoch,
        previous: Head,
        start: Head,
        register: &Register,
        me: ReplicaId,
        now: Millis,
    ) -> Self {
        let others = register
            .replicas
            .iter()
            .filter(|member| member.replica != me);
        let followers = others
            .map(|member| {
                (
                    member.replica,
                    Progress::new(member.pod.clone(), previous.index + 1, now),
                )
            })
            .collect();
        Self {
            epoch,
            start: start.index,
            last: start,
            followers,
            round: 0,
            confirmations: Vec::new(),
            rounds: Rounds::default(),
            states_told_at: now,
            handover: None,
            rescue: Rescue::default(),
        }
    }

    pub(super) fn pod_of(&self, replica: ReplicaId) -> Option<String> {
        self.followers
            .get(&replica)
            .map(|progress| progress.pod.clone())
    }
}

impl Replica {
    pub(super) fn tick_leader(&mut self, log: &impl ReadLog) {
        let timing = self.config.timing;
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        for progress in leader.followers.values_mut() {
            if progress.is_stuck(now, 2 * timing.heartbeat) {
                progress.probe_again();
            }
        }
        self.begin_round();
        self.broadcast(log);
        self.tend_register(log);
        self.tick_handover(log);
    }

    /// Order a proposal. It goes out with the next [`Replica::flush`], together with others.
    pub(super) fn propose(&mut self, id: RequestId, payload: Vec<u8>) {
        if let Err(refusal) = self.may_propose() {
            self.effects.push(Effect::Refused { id, refusal });
            return;
        }
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if let Some(handover) = &mut leader.handover {
            if let Err(refusal) = handover.queue(id, payload) {
                self.effects.push(Effect::Refused { id, refusal });
            }
            return;
        }
        self.append(id, payload);
    }

    /// Put a proposal into the log. Sent to followers by the next [`Replica::flush`].
    pub(super) fn append(&mut self, id: RequestId, payload: Vec<u8>) {
        if let Some(index) = self.append_entry(payload) {
            self.effects.push(Effect::Proposed { id, index });
        }
    }

    /// Put a payload into the log; its place. `None` if this replica does not lead.
    pub(super) fn append_entry(&mut self, payload: Vec<u8>) -> Option<Index> {
        let Role::Leader(leader) = &mut self.role else {
            return None;
        };
        let entry = Entry::after(leader.last, leader.epoch, payload);
        leader.last = entry.head;
        let index = entry.head.index;
        let write = self
            .writes
            .issue(None, self.promised, None, vec![entry.into()], index);
        self.effects.push(Effect::Persist(write));
        Some(index)
    }

    pub(super) fn may_propose(&self) -> Result<(), Refusal> {
        let Role::Leader(leader) = &self.role else {
            return Err(Refusal::NotLeader);
        };
        let Some(view) = &self.view else {
            return Err(Refusal::NotLeader);
        };
        let Some(register) = &view.register else {
            return Err(Refusal::NotLeader);
        };
        let live = |replica: &ReplicaId| {
            *replica == self.config.replica
                || leader.followers.get(replica).is_some_and(|progress| {
                    progress.is_live(self.now, self.config.timing.drop_after)
                })
        };
        let in_sync = register
            .in_sync
            .iter()
            .filter(|replica| live(replica))
            .count();
        if in_sync < view.min_in_sync {
            return Err(Refusal::NotEnoughReplicas {
                in_sync,
                min_in_sync: view.min_in_sync,
            });
        }
        Ok(())
    }

    /// Send what is new to every follower, and heartbeats where they are due. Called after every
    /// batch of inputs, so that proposals that arrived together travel together; and again while
    /// it [`owes`](Self::owes) somebody more.
    pub fn flush(&mut self, now: Millis, log: &impl ReadLog) -> Vec<Effect> {
        self.now = now;
        self.broadcast(log);
        std::mem::take(&mut self.effects)
    }

    /// Whether a follower lacks more than was sent to it at once.
    pub fn owes(&self) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        leader.followers.values().any(|progress| progress.owes)
    }

    pub(super) fn broadcast(&mut self, log: &impl ReadLog) {
        let promised = self.writes.durable_promise();
        let in_sync = self
            .view
            .as_ref()
            .and_then(|view| Some(&view.register.as_ref()?.in_sync));
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        // R5: forgetting the epoch in a crash after having used it, this replica would answer
        // the leader it replaced, and followers cut what that one acknowledges with the answer.
        if promised < leader.epoch {
            return;
        }
        // Only what the log shows can be sent: entries of this very step follow with the next flush.
        let sender = Sender {
            epoch: leader.epoch,
            round: leader.round,
            commit: self.commit,
            base: log.base().index,
            last: log.last().index.min(leader.last.index),
            start: leader.start,
            counted: false,
            digest: self.agreement.latest(),
            name_every: self.config.timing.heartbeat,
        };
        let asked = !leader.confirmations.is_empty();
        for (replica, progress) in &mut leader.followers {
            let due = progress.heartbeat_due(self.now, self.config.timing.heartbeat)
                || (asked && progress.asked < leader.round);
            progress.asked = leader.round;
            let sender = Sender {
                counted: in_sync.is_some_and(|in_sync| in_sync.contains(replica)),
                ..sender
            };
            if let Some(append) = progress.frame(self.now, &sender, log, due) {
                let (to, pod) = (*replica, progress.pod.clone());
                self.effects.push(Effect::Send {
                    to,
                    pod,
                    message: Message::Append(append),
                });
            }
        }
    }

    pub(super) fn receive_appended(
        &mut self,
        from: ReplicaId,
        appended: Appended,
        log: &impl ReadLog,
    ) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if appended.epoch != leader.epoch {
            return;
        }
        let Some(progress) = leader.followers.get_mut(&from) else {
            return;
        };
        progress.appended(now, &appended);
        self.advance_commit();
        self.settle_confirmations();
        self.settle_round();
        self.tend_register(log);
        self.tick_handover(log);
    }

    pub(super) fn receive_mismatch(
        &mut self,
        from: ReplicaId,
        mismatch: &Mismatch,
        log: &impl ReadLog,
    ) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if mismatch.epoch != leader.epoch {
            return;
        }
        let Some(progress) = leader.followers.get_mut(&from) else {
            return;
        };
        progress.mismatch(now, mismatch, log);
        progress.ask_now();
    }

    pub(super) fn receive_rejected(&mut self, promised_epoch: Epoch) {
        if matches!(&self.role, Role::Leader(leader) if leader.epoch < promised_epoch) {
            self.read_register();
        }
    }

    /// A follower proves that this disk was put back to what it was before. Nothing was acknowledged
    /// at this epoch, for that would have needed the follower.
    pub(super) fn receive_outrun(&mut self, outrun: Outrun) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let given_up = self.register().and_then(|register| register.loss);
        if given_up.is_some_and(|epoch| outrun.committed.epoch < epoch) {
            return; // a person knew that it would lack this
        }
        let (held, last) = (outrun.committed.index, leader.start - 1);
        let proves = outrun.epoch == leader.epoch
            && outrun.committed.epoch < leader.epoch
            && held > last
            && self.commit <= last;
        if proves {
            self.strand(Stranded::Outdated { held, last });
        }
    }

    /// A replica that does not hear this leader tells where it is.
    pub(super) fn receive_join(&mut self, from: ReplicaId, join: Join, log: &impl ReadLog) {
        self.receive_rejected(join.promised_epoch);
        if self.dropped_pods().contains(&join.pod) {
            return;
        }
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let known = log.head(join.last.index) == Some(join.last);
        let next = if known {
            join.last.index + 1
        } else {
            log.last().index + 1
        };
        let within = self.config.timing.drop_after;
        let elsewhere = leader
            .followers
            .get(&from)
            .is_some_and(|progress| progress.pod != join.pod && progress.is_live(now, within));
        if elsewhere {
            return; // a copy of the disk of a replica that is there: it finds out from the register
        }
        let progress = leader
            .followers
            .entry(from)
            .or_insert_with(|| Progress::new(join.pod.clone(), next, now));
        progress.pod = join.pod;
        progress.probe_from(next);
        // What it has is not this log: it is not nearly there, whatever it answered before.
        progress.joining &= known;
        progress.leaving_until = now;
        progress.heard(now);
        progress.ask_now();
        self.tend_register(log);
    }

    /// A follower's process is about to stop: leave it out before it is missed.
    pub(super) fn receive_leaving(&mut self, from: ReplicaId, log: &impl ReadLog) {
        let until = self.now + self.config.timing.handover_within;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(progress) = leader.followers.get_mut(&from) else {
            return;
        };
        progress.leaving_until = until;
        self.tend_register(log);
    }

    /// Pods the operator wants out of the tenant, unless that was refused.
    pub(super) fn dropped_pods(&self) -> Vec<String> {
        let Some(view) = &self.view else {
            return Vec::new();
        };
        let answers = view.register.iter().flat_map(|register| &register.answers);
        let refused: Vec<&str> = answers
            .filter(|answer| answer.refused.is_some())
            .map(|answer| answer.id.as_str())
            .collect();
        let standing = view
            .requests
            .iter()
            .filter(|request| !refused.contains(&request.id.as_str()));
        standing
            .filter_map(|request| match &request.action {
                Action::Drop { pod } => Some(pod.clone()),
                Action::HandOver { .. } | Action::AcceptLoss { .. } => None,
            })
            .collect()
    }

    /// R2: committed is what is durable here and at every replica of every register version that
    /// could be current. The leader's own entries count only once its own disk has them.
    pub(super) fn advance_commit(&mut self) {
        let required = self.required();
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let own = self.writes.durable_last();
        let held = |replica: &ReplicaId| {
            leader
                .followers
                .get(replica)
                .map_or(0, |progress| progress.acked)
        };
        let committed = required
            .iter()
            .filter(|replica| **replica != self.config.replica)
            .map(held)
            .fold(own, Index::min);
        let start = leader.start;
        let enough = self
            .register()
            .is_some_and(|register| register.in_sync.len() >= self.min_in_sync());
        // Below its start entry a leader cannot tell what is committed; with too few in sync
        // nothing new may be acknowledged.
        if committed >= start && enough && self.writes.durable_promise() == self.promised {
            self.commit_to(committed);
            // Told to the followers with the next flush, together with what was proposed meanwhile.
            self.settle_confirmations();
        }
    }

    pub(super) fn min_in_sync(&self) -> usize {
        self.view.as_ref().map_or(1, |view| view.min_in_sync)
    }

    /// A read is linearizable once all required replicas have confirmed the epoch after it was
    /// asked: a majority would not do, for the one promoted could be the one not asked.
    pub(super) fn confirm(&mut self, id: RequestId, log: &impl ReadLog) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else {
            self.effects.push(Effect::Refused {
                id,
                refusal: Refusal::NotLeader,
            });
            return;
        };
        leader.round += 1;
        leader.confirmations.push(Confirmation {
            id,
            round: leader.round,
            index: commit.max(leader.start),
        });
        self.settle_confirmations();
        self.broadcast(log);
    }

    fn settle_confirmations(&mut self) {
        let (round, commit) = (self.answered_round(), self.commit);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if commit < leader.start {
            return;
        }
        let (settled, waiting) = std::mem::take(&mut leader.confirmations)
            .into_iter()
            .partition(|asked| asked.round <= round);
        leader.confirmations = waiting;
        let settled: Vec<Confirmation> = settled;
        self.effects
            .extend(settled.into_iter().map(|asked| Effect::Confirmed {
                id: asked.id,
                index: asked.index,
            }));
    }

    /// The latest round that all required replicas have answered. Who did not at this epoch may have
    /// promised another.
    pub(super) fn answered_round(&self) -> u64 {
        let Role::Leader(leader) = &self.role else {
            return 0;
        };
        let required = self.required();
        let others = required
            .iter()
            .filter(|replica| **replica != self.config.replica);
        others
            .map(|replica| {
                leader
                    .followers
                    .get(replica)
                    .map_or(0, |progress| progress.round)
            })
            .fold(leader.round, u64::min)
    }

    /// Somebody else leads, or may: what was proposed and not committed is in their hands.
    pub(super) fn step_down(&mut self) {
        let follower = Role::Follower(Follower::new(self.now));
        let Role::Leader(leader) = std::mem::replace(&mut self.role, follower) else {
            return;
        };
        for asked in leader.confirmations {
            self.effects.push(Effect::Refused {
                id: asked.id,
                refusal: Refusal::NotLeader,
            });
        }
        if let Some(handover) = leader.handover {
            self.end_handover(handover, true);
        }
        self.effects.push(Effect::SteppedDown);
        self.follow_register();
    }
}
