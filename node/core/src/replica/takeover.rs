//! Becoming leader: the tenant's first, after a restart, in place of a lost one, or by handover.
//!
//! ```text
//! bootstrap / lost / restarted ──ChangeRegister(epoch+1, leader = me)──▶ applied ──▶ lead
//! handover by the old leader ─────────────────────────────────────────▶ seen ─────▶ lead
//! ```

use std::collections::BTreeSet;

use super::leader::Leader;
use super::{Effect, Replica, Role, Stranded};
use crate::identity::Epoch;
use crate::log::{Entry, Head, ReadLog};
use crate::register::{Failover, FailoverReason, Member, Register, ReplicaState};

impl Replica {
    /// The register is empty: fill it if this tenant is new and so is this disk.
    pub(super) fn consider_bootstrap(&mut self, log: &impl ReadLog) {
        let bootstrap = self.view.as_ref().is_some_and(|view| view.bootstrap);
        let fresh_disk =
            self.incarnation.is_none() && log.last() == Head::default() && self.promised == 0;
        if !bootstrap || !fresh_disk {
            // A full disk beside an empty register is a restored etcd, never a new tenant. A fresh
            // disk just waits for a leader to appear.
            if !fresh_disk {
                self.strand(Stranded::RegisterEmpty);
            }
            return;
        }
        if !self.may_change_register() {
            return;
        }
        let me = self.config.replica;
        self.change_register(Register {
            incarnation: self.config.fresh_incarnation,
            epoch: 1,
            leader: me,
            in_sync: BTreeSet::from([me]),
            replicas: vec![Member {
                replica: me,
                pod: self.config.pod.clone(),
                state: Some(ReplicaState::InSync),
            }],
            answers: Vec::new(),
            held: 0,
            last_failover: Some(Failover {
                from: None,
                to: me,
                epoch: 1,
                reason: FailoverReason::Bootstrapped,
                silent_ms: 0,
                rescued: 0,
            }),
            loss: None,
        });
    }

    /// Try to become leader at the next epoch (R5, R9). Only an in-sync replica may.
    pub(super) fn take_over(&mut self, reason: FailoverReason, log: &impl ReadLog) {
        let me = self.config.replica;
        let Some(view) = &self.view else { return };
        let (Some(register), min_in_sync) = (&view.register, view.min_in_sync) else {
            return self.consider_bootstrap(log);
        };
        if !self.is_whole(register, log) || !self.may_change_register() {
            return;
        }
        let silent_ms = match &self.role {
            Role::Follower(follower) => self.now - follower.heard_at,
            Role::Leader(_) | Role::Stranded(_) => 0,
        };
        let mut next = register.clone();
        next.epoch += 1;
        next.leader = me;
        // The lost leader leaves in the same change: entries it acknowledged before needed every
        // remaining member, and after this change it can acknowledge nothing.
        if register.leader != me && next.in_sync.len() > min_in_sync {
            next.in_sync.remove(&register.leader);
            next.set_state(register.leader, ReplicaState::Probing);
        }
        next.last_failover = Some(Failover {
            from: Some(register.leader),
            to: me,
            epoch: next.epoch,
            reason,
            silent_ms,
            rescued: 0,
        });
        self.change_register(self.with_held(next));
    }

    /// Lead at `epoch`, which the register says is this replica's: promise it, begin it with an
    /// entry of its own, and bring the others to this log (R5).
    pub(super) fn lead(&mut self, epoch: Epoch, log: &impl ReadLog) {
        let Some(register) = self.register().cloned() else {
            return;
        };
        self.led = epoch;
        self.promised = epoch;
        let previous = log.last();
        // Whoever has the opening after a loss has an entry of that epoch or a later one.
        let opening = match register.loss {
            Some(loss) if previous.epoch < loss => self.config.opening_after_loss.clone(),
            _ => Vec::new(),
        };
        let start = Entry::after(previous, epoch, opening);
        let incarnation = self.incarnation.is_none().then_some(register.incarnation);
        self.incarnation = Some(register.incarnation);
        let index = start.head.index;
        self.role = Role::Leader(Box::new(Leader::new(
            epoch,
            previous,
            start.head,
            &register,
            self.config.replica,
            self.now,
        )));
        let write = self
            .writes
            .issue(incarnation, epoch, None, vec![start.into()], index);
        self.effects.push(Effect::Persist(write));
        self.broadcast(log);
        self.tend_register(log);
        // Chosen while it wished to leave: it gives the lead on.
        let leaving = self.leaving.take();
        for id in leaving.into_iter().flat_map(|leaving| leaving.asked_by) {
            self.hand_over(id, log);
        }
    }
}
