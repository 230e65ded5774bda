//! Following: take the leader's entries, answer what is durable, notice when it falls silent.

use super::freshness::Marks;
use super::handover::answers;
use super::message::{Append, Appended, Join, Mismatch, Outrun};
use super::set_aside::SetAside;
use super::{Effect, Message, Millis, Replica, RequestId, Role, Stranded};
use crate::identity::{Epoch, Incarnation, Index, ReplicaId};
use crate::log::{Head, ReadLog, SharedEntry};
use crate::register::FailoverReason;

/// What a follower knows of its leader.
#[derive(Debug)]
pub(super) struct Follower {
    /// Who leads, as far as known.
    pub(super) leader: Option<ReplicaId>,
    /// The epoch of the leader's messages; 0 before the first.
    pub(super) epoch: Epoch,
    /// Last time the leader was heard, or hope of that began.
    pub(super) heard_at: Millis,
    /// Whether `heard_at` is the time of a message of the leader.
    heard: bool,
    /// Connections to the leader were refused since it was last heard.
    unreachable: bool,
    /// Equal to the leader's log up to here; `None` until that was established in this epoch.
    matched: Option<Index>,
    /// What the leader's log was built on in this epoch when this log did not contain it.
    lacked_base: Option<Index>,
    /// What is committed here was given up before the leader's epoch: nothing of it is answered for.
    given_up: bool,
    round: u64,
    /// Jitter of the next takeover.
    patience: Millis,
    join_at: Millis,
    /// When to look whether the register knows better than a silent leader.
    read_at: Millis,
    pub(super) leader_commit: Index,
    pub(super) leader_last: Index,
    pub(super) marks: Marks,
}

/// A wish to be left out of the in-sync set.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) asked_by: Vec<RequestId>,
    give_up_at: Millis,
}

impl Follower {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            leader: None,
            epoch: 0,
            heard_at: now,
            heard: false,
            unreachable: false,
            matched: None,
            lacked_base: None,
            given_up: false,
            round: 0,
            patience: 0,
            join_at: now,
            read_at: now,
            leader_commit: 0,
            leader_last: 0,
            marks: Marks::default(),
        }
    }

    pub(super) fn hears_leader(&self, now: Millis, within: Millis) -> bool {
        self.heard && now - self.heard_at <= within
    }

    pub(super) fn matched_index(&self) -> Option<Index> {
        self.matched
    }
}

impl Replica {
    /// Follow the register's leader, whose messages may come later.
    pub(super) fn follow_register(&mut self) {
        let Some(register) = self.register() else {
            return;
        };
        let (leader, epoch) = (register.leader, register.epoch);
        let patience = self.jitter(self.config.timing.takeover_after / 5);
        let now = self.now;
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        let newer = epoch >= follower.epoch && follower.leader != Some(leader);
        if newer {
            *follower = Follower {
                leader: Some(leader),
                patience,
                ..Follower::new(now)
            };
        }
    }

    pub(super) fn tick_follower(&mut self, log: &impl ReadLog) {
        let timing = self.config.timing;
        let now = self.now;
        self.tick_leaving();
        let stays = self.leaving.is_none();
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        let silence = now - follower.heard_at;
        let limit = if follower.unreachable {
            timing.takeover_after_unreachable
        } else {
            timing.takeover_after
        };
        let lost = stays && follower.leader.is_some() && silence > limit + follower.patience;
        let join =
            follower.leader.is_some() && silence > 2 * timing.heartbeat && now >= follower.join_at;
        let read = silence > limit && now >= follower.read_at;
        if read {
            follower.read_at = now + timing.takeover_after;
        }
        if stays && (join || (follower.matched.is_none() && now >= follower.join_at)) {
            follower.join_at = now + timing.heartbeat;
            self.send_join(log);
        }
        if lost && self.may_change_register() {
            self.take_over(FailoverReason::LeaderLost, log);
        }
        if lost && self.may_change_register() {
            self.introduce_itself();
        }
        if read {
            self.read_register();
        }
    }

    fn send_join(&mut self, log: &impl ReadLog) {
        let Some(leader) = self.register().map(|register| register.leader) else {
            return;
        };
        let join = Join {
            pod: self.config.pod.clone(),
            last: log.last(),
            promised_epoch: self.promised,
        };
        self.send(leader, Message::Join(join));
    }

    /// Ask to be left out of the in-sync set, if it can do without this replica.
    pub(super) fn leave(&mut self, id: RequestId) {
        if let Some(leaving) = &mut self.leaving {
            leaving.asked_by.push(id);
            return;
        }
        let me = self.config.replica;
        let spare = self.register().is_some_and(|register| {
            register.in_sync.contains(&me)
                && register.leader != me
                && register.in_sync.len() > self.min_in_sync()
        });
        if !spare {
            self.effects.push(Effect::HandedOver { id, done: false });
            return;
        }
        self.leaving = Some(Leaving {
            asked_by: vec![id],
            give_up_at: self.now + self.config.timing.handover_within,
        });
        self.tick_leaving();
    }

    /// Repeat the wish to leave until the register shows it granted, or patience ends.
    pub(super) fn tick_leaving(&mut self) {
        let Some(leaving) = self.leaving.take() else {
            return;
        };
        let me = self.config.replica;
        let left = self
            .register()
            .is_none_or(|register| !register.in_sync.contains(&me));
        if left || self.now >= leaving.give_up_at {
            return self.effects.extend(answers(leaving.asked_by, left));
        }
        self.leaving = Some(leaving);
        if let Some(leader) = self.register().map(|register| register.leader) {
            self.send(leader, Message::Leaving);
        }
    }

    pub(super) fn unreachable(&mut self, replica: ReplicaId) {
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == Some(replica)
        {
            follower.unreachable = true;
        }
    }

    pub(super) fn receive_append(&mut self, from: ReplicaId, append: &Append, log: &impl ReadLog) {
        if append.epoch < self.promised {
            // R1: who promised a higher epoch has nothing to say at a lower one but that.
            let rejected = Message::Rejected {
                promised_epoch: self.promised,
            };
            return self.send(from, rejected);
        }
        match &self.role {
            Role::Leader(leader) if leader.epoch >= append.epoch => return,
            Role::Leader(_) => self.step_down(),
            Role::Follower(_) | Role::Stranded(_) => {}
        }
        if self.outruns(from, append, log) {
            return;
        }
        self.hear(from, append);
        if self.holds_given_up() {
            return self.fetch_snapshot(from);
        }
        if let Some(at) = append
            .digest
            .and_then(|digest| self.agreement.named(digest))
        {
            return self.diverged(from, append.epoch, at, log);
        }
        let (held, last) = (append.commit, log.last().index);
        if append.counted && last < held {
            // Nothing is committed without whoever is in sync, and nothing committed is ever cut.
            return self.strand(Stranded::Outdated { held, last });
        }
        if log.head(append.previous.index) != Some(append.previous) {
            self.persist_log(None, Vec::new(), log);
            if append.previous.index == append.base && append.base > log.base().index {
                return self.ask_for_snapshot(from, append, log);
            }
            return self.answer_mismatch(append.epoch, log);
        }
        let Some((truncate_after, fresh)) = self.fit(from, append, log) else {
            return;
        };
        let matched = append.previous.index + append.entries.len() as Index;
        if let Role::Follower(follower) = &mut self.role {
            follower.matched = Some(follower.matched.unwrap_or(0).max(matched));
        }
        // What goes to disk now is answered for when it is there.
        let answers_later = append.quiet && (!fresh.is_empty() || append.entries.is_empty());
        self.persist_log(truncate_after, fresh, log);
        self.follow_commit();
        if !answers_later {
            self.acknowledge();
        }
    }

    /// Whether the leader lacks what is committed here. It is not followed then, but told so; unless it
    /// has committed something else, in which case the others are with it.
    fn outruns(&mut self, from: ReplicaId, append: &Append, log: &impl ReadLog) -> bool {
        let Some(committed) = log.head(self.commit) else {
            return false;
        };
        // A leader's log holds all that was committed before, and from its start on only its own epoch.
        let contradicts =
            append.start > 0 && append.start <= committed.index && committed.epoch < append.epoch;
        if !contradicts {
            return false;
        }
        if append.commit >= append.start || self.gave_up(log) {
            self.hear(from, append);
            self.diverged(from, append.epoch, append.start, log);
        } else {
            let epoch = append.epoch;
            self.send(from, Message::Outrun(Outrun { epoch, committed }));
        }
        true
    }

    /// The leader's log begins after its base, and this one does not contain what that is built on.
    fn ask_for_snapshot(&mut self, from: ReplicaId, append: &Append, log: &impl ReadLog) {
        let base = append.base;
        if self.commit >= base {
            // What is trimmed was committed, so something else was committed here.
            return self.diverged(from, append.epoch, base, log);
        }
        let Some(register) = self.register() else {
            return;
        };
        // Who is in sync has everything that is committed: the view is an old one.
        if register.in_sync.contains(&self.config.replica) {
            return;
        }
        self.fetch_snapshot(from);
        if let Role::Follower(follower) = &mut self.role {
            follower.lacked_base = Some(base);
        }
    }

    fn fetch_snapshot(&mut self, from: ReplicaId) {
        let pod = self.register().and_then(|register| register.pod_of(from));
        if let Some(pod) = pod.map(str::to_owned) {
            self.effects.push(Effect::FetchSnapshot { from, pod });
        }
    }

    /// A snapshot may only replace what nobody counts on. What a leader's log is built on everybody
    /// has whom it waits for; so who lacked it was not waited for, nor is it since, unless it has
    /// answered for more.
    pub(super) fn install_snapshot(&mut self, log: &impl ReadLog) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let lacks = |base| follower.matched.is_none_or(|matched| matched < base);
        if follower.given_up || follower.lacked_base.is_some_and(lacks) {
            let given_up = self.gave_up(log);
            self.effects.push(Effect::InstallSnapshot { given_up });
        }
    }

    /// The leader has something else at `at` than what is committed here. If a person has given that up,
    /// this replica takes the leader's state and offers what it had besides; else nobody knows why, and
    /// it stands aside.
    pub(super) fn diverged(
        &mut self,
        from: ReplicaId,
        epoch: Epoch,
        at: Index,
        log: &impl ReadLog,
    ) {
        if self.register().is_none_or(|known| known.epoch < epoch) {
            return self.read_register(); // it says whether the epoch began with a loss
        }
        if !self.gave_up(log) {
            return self.strand(Stranded::Diverged { at });
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.given_up = true;
            follower.matched = None;
        }
        self.fetch_snapshot(from);
        self.send_join(log); // so that nobody waits for it any longer
    }

    /// Whether what is committed here may have been given up since.
    fn gave_up(&self, log: &impl ReadLog) -> bool {
        let (register, committed) = (self.register(), log.head(self.commit));
        register
            .zip(committed)
            .is_some_and(|(register, committed)| {
                let since = register.loss.is_some_and(|loss| committed.epoch < loss);
                since && !register.in_sync.contains(&self.config.replica)
            })
    }

    fn holds_given_up(&self) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.given_up)
    }

    /// Commit what the leader has, as far as it is equal and durable here: what is applied must
    /// be in the log after any crash.
    pub(super) fn follow_commit(&mut self) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let Some(matched) = follower.matched else {
            return;
        };
        self.commit_to(
            follower
                .leader_commit
                .min(matched)
                .min(self.writes.durable_last()),
        );
    }

    /// Note that the leader of this epoch was heard, and promise it the epoch.
    fn hear(&mut self, from: ReplicaId, append: &Append) {
        self.promised = append.epoch;
        let patience = self.jitter(self.config.timing.takeover_after / 5);
        let now = self.now;
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        if follower.epoch != append.epoch {
            *follower = Follower {
                leader: Some(from),
                epoch: append.epoch,
                ..Follower::new(now)
            };
        }
        follower.leader = Some(from);
        follower.heard_at = now;
        follower.heard = true;
        follower.unreachable = false;
        follower.patience = patience;
        follower.round = follower.round.max(append.round);
        follower.leader_commit = follower.leader_commit.max(append.commit);
        follower.leader_last = append.last;
        if let Some(proven) = append.proven {
            follower.marks.prove(proven);
        }
    }

    /// Which of the leader's entries are new here, and after which index this log must be cut
    /// first. `None` if the frame is damaged or contradicts what is committed here.
    fn fit(
        &mut self,
        from: ReplicaId,
        append: &Append,
        log: &impl ReadLog,
    ) -> Option<(Option<Index>, Vec<SharedEntry>)> {
        let mut previous = append.previous;
        let mut known = 0;
        for entry in &append.entries {
            if !entry.follows(previous) {
                return None;
            }
            previous = entry.head;
        }
        for entry in &append.entries {
            if log.head(entry.head.index) != Some(entry.head) {
                break;
            }
            known += 1;
        }
        let fresh = append.entries[known..].to_vec();
        let kept = append.previous.index + known as Index;
        let conflict = !fresh.is_empty() && log.last().index > kept;
        if conflict && kept < self.commit {
            self.diverged(from, append.epoch, kept + 1, log);
            return None;
        }
        Some((conflict.then_some(kept), fresh))
    }

    /// Send to disk what is new: entries, a cut, a promise, the incarnation.
    pub(super) fn persist_log(
        &mut self,
        truncate_after: Option<Index>,
        append: Vec<SharedEntry>,
        log: &impl ReadLog,
    ) {
        let incarnation = self.adopt_incarnation();
        let promise_is_new = self.promised > self.writes.issued_promise();
        if append.is_empty() && truncate_after.is_none() && !promise_is_new && incarnation.is_none()
        {
            return;
        }
        let kept = truncate_after.unwrap_or(log.last().index);
        let last = append.last().map_or(kept, |entry| entry.head.index);
        let write = self
            .writes
            .issue(incarnation, self.promised, truncate_after, append, last);
        if truncate_after.is_some() {
            self.set_aside = Some(SetAside::new(write.ticket, self.now));
        }
        self.effects.push(Effect::Persist(write));
    }

    fn adopt_incarnation(&mut self) -> Option<Incarnation> {
        if self.incarnation.is_some() {
            return None;
        }
        self.incarnation = self.register().map(|register| register.incarnation);
        self.incarnation
    }

    /// Tell the leader what is durable, once the promise to it is (R1).
    pub(super) fn acknowledge(&mut self) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let (Some(leader), Some(matched)) = (follower.leader, follower.matched) else {
            return;
        };
        if follower.epoch != self.promised || self.writes.durable_promise() < follower.epoch {
            return;
        }
        let durable = self.writes.durable_last().min(matched);
        let (epoch, round) = (follower.epoch, follower.round);
        let appended = Appended {
            epoch,
            round,
            matched,
            durable,
            mark: self.mark(),
        };
        self.send(leader, Message::Appended(appended));
    }

    /// Carries no promise and claims nothing durable, so it need not wait for the disk.
    fn answer_mismatch(&mut self, epoch: Epoch, log: &impl ReadLog) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let Some(leader) = follower.leader else {
            return;
        };
        let mismatch = Mismatch {
            epoch,
            heads: spaced_heads(log),
        };
        self.send(leader, Message::Mismatch(mismatch));
    }
}

/// Heads at distances 0, 1, 2, 4, 8, … from the end of the log, and what it is built on.
fn spaced_heads(log: &impl ReadLog) -> Vec<Head> {
    let last = log.last().index;
    let distances = std::iter::once(0).chain((0..Index::BITS).map(|exponent| 1 << exponent));
    let mut heads: Vec<Head> = distances
        .take_while(|distance| *distance < last)
        .filter_map(|distance| log.head(last - distance))
        .collect();
    heads.push(log.base());
    heads
}
