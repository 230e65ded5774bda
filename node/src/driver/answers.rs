//! Who waits for what: proposals for their place, places for being applied, reads for freshness.

use std::collections::{BTreeMap, HashMap};

use percolate_core::identity::{Incarnation, Index};
use percolate_core::log::SharedEntry;
use percolate_core::operation::Outcome;
use percolate_core::replica::{Refusal, RequestId};
use tokio::sync::oneshot;

use crate::metrics::{Metrics, WriteOutcome};
use crate::tenant::{SessionToken, Unavailable, WriteReply, Written};

type ConfirmReply = oneshot::Sender<Result<Index, Unavailable>>;

/// All clients that wait for an answer.
#[derive(Default)]
pub(super) struct Answers {
    proposing: HashMap<RequestId, WriteReply>,
    /// By place in the log.
    waiting: BTreeMap<Index, WriteReply>,
    confirming: HashMap<RequestId, ConfirmReply>,
    /// Confirmed, to be answered once this index is applied.
    confirmed: Vec<(Index, ConfirmReply)>,
    handing_over: HashMap<RequestId, oneshot::Sender<bool>>,
}

impl Answers {
    pub(super) fn unconfirmed(&self) -> usize {
        self.confirming.len() + self.confirmed.len()
    }

    pub(super) fn proposing(&mut self, id: RequestId, reply: WriteReply) {
        self.proposing.insert(id, reply);
    }

    pub(super) fn confirming(&mut self, id: RequestId, reply: ConfirmReply) {
        self.confirming.insert(id, reply);
    }

    pub(super) fn handing_over(&mut self, id: RequestId, reply: oneshot::Sender<bool>) {
        self.handing_over.insert(id, reply);
    }

    pub(super) fn proposed(&mut self, id: RequestId, index: Index) {
        if let Some(reply) = self.proposing.remove(&id) {
            self.waiting.insert(index, reply);
        }
    }

    pub(super) fn refused(&mut self, id: RequestId, refusal: Refusal, leader_url: Option<String>) {
        let why = match refusal {
            Refusal::NotLeader if leader_url.is_none() => Unavailable::NoLeader,
            Refusal::NotLeader => Unavailable::NotLeader { leader_url },
            Refusal::NotEnoughReplicas {
                in_sync,
                min_in_sync,
            } => Unavailable::NotEnoughReplicas {
                in_sync,
                min_in_sync,
            },
            Refusal::Overloaded => Unavailable::Overloaded,
        };
        if let Some(reply) = self.proposing.remove(&id) {
            reply.send(Err(why));
        } else if let Some(reply) = self.confirming.remove(&id) {
            let _ = reply.send(Err(why));
        }
    }

    pub(super) fn confirmed(&mut self, id: RequestId, index: Index) {
        if let Some(reply) = self.confirming.remove(&id) {
            self.confirmed.push((index, reply));
        }
    }

    pub(super) fn handed_over(&mut self, id: RequestId, done: bool) {
        if let Some(reply) = self.handing_over.remove(&id) {
            let _ = reply.send(done);
        }
    }

    /// Of what this replica proposed, what is committed will be answered; the rest is in the next
    /// leader's hands.
    pub(super) fn stepped_down(&mut self, commit: Index) {
        for (_, reply) in self.waiting.split_off(&(commit + 1)) {
            reply.send(Err(Unavailable::UnknownOutcome));
        }
    }

    /// These entries are applied with these outcomes.
    pub(super) fn applied(
        &mut self,
        history: Option<Incarnation>,
        entries: &[SharedEntry],
        outcomes: Vec<Outcome>,
        metrics: &Metrics,
    ) {
        for (entry, outcome) in entries.iter().zip(outcomes) {
            let Some(reply) = self.waiting.remove(&entry.head.index) else {
                continue;
            };
            metrics.count_write(match outcome {
                Outcome::Applied(_) => WriteOutcome::Applied,
                Outcome::Refused(_) => WriteOutcome::Refused,
            });
            let Some(history) = history else {
                continue;
            };
            let token = SessionToken {
                incarnation: history,
                epoch: entry.head.epoch,
                index: entry.head.index,
            };
            reply.send(Ok(Written { outcome, token }));
        }
    }

    /// Everything up to `applied` is visible: reads that waited for it may go on.
    pub(super) fn freshen(&mut self, applied: Index) {
        for (_, reply) in self
            .confirmed
            .extract_if(.., |(index, _)| *index <= applied)
        {
            let _ = reply.send(Ok(applied));
        }
    }
}
