//! Who is in sync: the leader shrinks and grows the set, one change of the register at a time,
//! and answers what the operator asks of it.
//!
//! ```text
//! followers' progress, requests ──wanted──▶ register != the one held ──▶ ChangeRegister
//! ```

use std::collections::BTreeSet;

use super::leader::Leader;
use super::progress::Progress;
use super::{Millis, Replica, Role};
use crate::identity::{Index, ReplicaId};
use crate::log::ReadLog;
use crate::register::{Action, Answer, Member, Register, ReplicaState, Request};

/// A learner this close to the end of the log is waited for on all new writes, which lets it
/// catch up for good (R4). A few round trips' worth: writes stall no longer than it takes to copy this.
const JOIN_WITHIN: Index = 512;

/// Heartbeats between two changes of the register that only say how far replicas are: people look
/// at a copy as it goes on, and at the rest later. So a follower that comes and goes costs the API
/// server no more than a write in ten seconds.
const TELL_COPY_AFTER: Millis = 2;
const TELL_STATE_AFTER: Millis = 20;

impl Replica {
    /// R2: every member of every register version that could be current, and learners whose
    /// admission may have been sent.
    pub(super) fn required(&self) -> BTreeSet<ReplicaId> {
        let mut required = self
            .register()
            .map(|register| register.in_sync.clone())
            .unwrap_or_default();
        for proposed in self
            .unsettled
            .iter()
            .flat_map(|unsettled| &unsettled.proposed)
        {
            required.extend(&proposed.in_sync);
        }
        if let Role::Leader(leader) = &self.role {
            let joining = leader
                .followers
                .iter()
                .filter(|(_, progress)| progress.joining);
            required.extend(joining.map(|(replica, _)| *replica));
        }
        required
    }

    /// Bring the register to what this leader wants it to be, if anything is amiss.
    pub(super) fn tend_register(&mut self, log: &impl ReadLog) {
        self.forget_followers();
        self.tend_joining(log);
        // Who is not waited for any more may have been the last that something waited for.
        self.advance_commit();
        // R5: its own promise first. Before that it sends nothing, so who is silent has not been
        // asked; a leader whose disk hangs would leave out everybody who could replace it.
        let promised = self.writes.durable_promise();
        let may_lead = |leader: &Leader| leader.handover.is_none() && promised >= leader.epoch;
        if !self.may_change_register()
            || matches!(&self.role, Role::Leader(leader) if !may_lead(leader))
        {
            return;
        }
        let Some(wanted) = self.wanted_register() else {
            return;
        };
        if self.is_worth_changing(&wanted) {
            self.states_told();
            self.change_register(self.with_held(wanted));
        }
        self.begin_requested_handover(log);
    }

    /// A change that only says how far replicas are waits for its time.
    fn is_worth_changing(&self, wanted: &Register) -> bool {
        let Some(register) = self.register() else {
            return false;
        };
        register != wanted
            && (!register.equals_but_for_states(wanted) || self.may_tell_states(wanted, register))
    }

    /// One change is under way at a time, so this one must not be under way when somebody has to be
    /// dropped or admitted: nobody is about to join, and everybody required was heard so lately
    /// that the answer is there before one of them is missed.
    fn may_tell_states(&self, wanted: &Register, register: &Register) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        let timing = &self.config.timing;
        let copies = |register: &Register| -> Vec<_> {
            let copying = |state: &ReplicaState| matches!(state, ReplicaState::Snapshotting { .. });
            let members = register.replicas.iter();
            members
                .filter_map(|member| Some((member.replica, member.state.filter(copying)?)))
                .collect()
        };
        let pause = if copies(wanted) == copies(register) {
            TELL_STATE_AFTER
        } else {
            TELL_COPY_AFTER
        };
        let heard = |replica: &ReplicaId| {
            *replica == self.config.replica
                || leader.followers.get(replica).is_some_and(|progress| {
                    progress.is_heard(self.now, 2 * timing.heartbeat)
                        && !progress.is_leaving(self.now)
                })
        };
        let joins = leader.followers.values().any(|progress| progress.joining);
        self.now >= leader.states_told_at + pause * timing.heartbeat
            && !joins
            && self.required().iter().all(heard)
    }

    fn states_told(&mut self) {
        let now = self.now;
        if let Role::Leader(leader) = &mut self.role {
            leader.states_told_at = now;
        }
    }

    /// Another replica copies this one's snapshot.
    pub(super) fn snapshot_read(&mut self, by: ReplicaId, percent: Option<u8>, log: &impl ReadLog) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if let Some(progress) = leader.followers.get_mut(&by) {
            progress.snapshot = percent.map(|percent| percent.min(100) / 10 * 10);
        }
        self.tend_register(log);
    }

    /// The replicas of the tenant and how far they are, as this leader sees them; empty if it does
    /// not lead.
    pub(super) fn members(&self) -> Vec<Member> {
        let (Role::Leader(leader), Some(register)) = (&self.role, self.register()) else {
            return Vec::new();
        };
        let (now, within) = (self.now, self.config.timing.drop_after);
        let member = |replica: ReplicaId, pod: &str| Member {
            replica,
            pod: pod.to_owned(),
            state: Some(leader.state_of(replica, register.in_sync.contains(&replica), now, within)),
        };
        let others = leader.followers.iter();
        let others = others.map(|(replica, progress)| member(*replica, &progress.pod));
        std::iter::once(member(self.config.replica, &self.config.pod))
            .chain(others)
            .collect()
    }

    /// With what all members are known to hold, written down whenever something is written anyway: by
    /// it a disk that was put back to an earlier state is recognised whoever leads.
    pub(super) fn with_held(&self, register: Register) -> Register {
        Register {
            held: register.held.max(self.commit),
            ..register
        }
    }

    /// Copy no longer to replicas that are gone: those whose pods the operator dropped, and those
    /// that fell silent and whose pod, which holds one disk at a time, another one has joined from.
    fn forget_followers(&mut self) {
        let dropped = self.dropped_pods();
        let required = self.required();
        let (now, within) = (self.now, self.config.timing.drop_after);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let live = |progress: &Progress| progress.is_live(now, within);
        let held: BTreeSet<String> = leader
            .followers
            .values()
            .filter(|progress| live(progress))
            .map(|progress| progress.pod.clone())
            .chain([self.config.pod.clone()])
            .collect();
        leader.followers.retain(|replica, progress| {
            let replaced = !live(progress) && held.contains(&progress.pod);
            required.contains(replica) || !(replaced || dropped.contains(&progress.pod))
        });
    }

    /// Wait for learners that are nearly there; stop waiting for those that fell silent before
    /// their admission was sent.
    fn tend_joining(&mut self, log: &impl ReadLog) {
        let drop_after = self.config.timing.drop_after;
        let in_sync = self
            .register()
            .map(|register| register.in_sync.clone())
            .unwrap_or_default();
        let (now, last) = (self.now, log.last().index);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        for (replica, progress) in &mut leader.followers {
            let live = progress.is_live(now, drop_after) && !progress.is_leaving(now);
            let near = progress.is_streaming() && progress.acked + JOIN_WITHIN >= last;
            progress.joining = !in_sync.contains(replica) && live && (progress.joining || near);
        }
    }

    /// The register as this leader would have it. `None` if this replica does not lead.
    fn wanted_register(&self) -> Option<Register> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        let view = self.view.as_ref()?;
        let mut wanted = view.register.clone()?;
        let (now, me) = (self.now, self.config.replica);
        let drop_after = self.config.timing.drop_after;

        wanted.replicas.retain(|member| {
            let copied_to = leader.followers.contains_key(&member.replica);
            member.replica == me || copied_to || wanted.in_sync.contains(&member.replica)
        });
        for (replica, progress) in &leader.followers {
            if progress.joining
                && progress.is_streaming()
                && progress.acked >= self.commit
                && progress.acked >= leader.start
            {
                wanted.in_sync.insert(*replica);
            }
            if !wanted
                .replicas
                .iter()
                .any(|member| member.replica == *replica)
            {
                wanted.replicas.push(Member {
                    replica: *replica,
                    pod: progress.pod.clone(),
                    state: None,
                });
            }
        }
        let silent = |replica: &ReplicaId| {
            let gone = |progress: &Progress| {
                progress.is_leaving(now) || !progress.is_live(now, drop_after)
            };
            *replica != me && leader.followers.get(replica).is_none_or(gone)
        };
        for replica in wanted
            .in_sync
            .clone()
            .iter()
            .filter(|replica| silent(replica))
        {
            // Shrinking below the minimum would allow no write and only lose a candidate.
            if wanted.in_sync.len() > view.min_in_sync {
                wanted.in_sync.remove(replica);
            }
        }
        answer_requests(&mut wanted, &view.requests, view.min_in_sync, me);
        for member in &mut wanted.replicas {
            let in_sync = wanted.in_sync.contains(&member.replica);
            member.state = Some(leader.state_of(member.replica, in_sync, now, drop_after));
        }
        if let Some(failover) = &mut wanted.last_failover
            && failover.epoch == leader.epoch
        {
            failover.rescued = leader.rescue.reported();
        }
        wanted
            .replicas
            .sort_by(|one, other| (&one.pod, one.replica).cmp(&(&other.pod, other.replica)));
        Some(wanted)
    }
}

impl Leader {
    /// How far a member of the register is.
    fn state_of(
        &self,
        replica: ReplicaId,
        in_sync: bool,
        now: Millis,
        within: Millis,
    ) -> ReplicaState {
        match self.followers.get(&replica) {
            _ if in_sync => ReplicaState::InSync,
            Some(progress) => progress.state(now, within),
            None => ReplicaState::Probing,
        }
    }
}

/// Carry out what is asked and not answered yet; forget answers nobody asks for any more.
fn answer_requests(wanted: &mut Register, requests: &[Request], min_in_sync: usize, me: ReplicaId) {
    wanted
        .answers
        .retain(|answer| requests.iter().any(|request| request.id == answer.id));
    for request in requests {
        if wanted.answers.iter().any(|answer| answer.id == request.id) {
            continue;
        }
        let refused = match carry_out(wanted, &request.action, min_in_sync, me) {
            Verdict::NotYet => continue,
            Verdict::Done => None,
            Verdict::Refused(why) => Some(why),
        };
        wanted.answers.push(Answer {
            id: request.id.clone(),
            refused,
        });
    }
}

/// What becomes of a request in one look at it.
enum Verdict {
    NotYet,
    Done,
    Refused(String),
}

fn carry_out(wanted: &mut Register, action: &Action, min_in_sync: usize, me: ReplicaId) -> Verdict {
    let Action::Drop { pod } = action else {
        let asked_for_me = matches!(action, Action::HandOver { pod: Some(pod) } if wanted.replica_in(pod) == Some(me));
        return if asked_for_me {
            Verdict::Done
        } else {
            Verdict::NotYet
        };
    };
    let members = wanted.replicas.iter().filter(|member| member.pod == *pod);
    let leaving: Vec<ReplicaId> = members.map(|member| member.replica).collect();
    let remaining = wanted
        .in_sync
        .iter()
        .filter(|replica| !leaving.contains(replica))
        .count();
    if remaining < min_in_sync.max(1) {
        return Verdict::Refused(format!(
            "dropping {pod} would leave {remaining} replicas in sync, {min_in_sync} are needed: wait for others to be in sync, or lower minInSync"
        ));
    }
    if leaving.contains(&me) {
        return Verdict::NotYet; // a successor drops this replica
    }
    wanted.in_sync.retain(|replica| !leaving.contains(replica));
    wanted.replicas.retain(|member| member.pod != *pod);
    Verdict::Done
}
