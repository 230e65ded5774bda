//! Who is in sync: the leader shrinks and grows the set, one change of the register at a time,
//! and answers what the operator asks of it.
//!
//! ```text
//! followers' progress, requests ──wanted──▶ register != the one held ──▶ ChangeRegister
//! ```

use std::collections::BTreeSet;

use super::leader::Leader;
use super::progress::Progress;
use super::{Replica, Role};
use crate::identity::{Index, ReplicaId};
use crate::log::ReadLog;
use crate::register::{Action, Answer, Member, Register, Request};

/// A learner this close to the end of the log is waited for on all new writes, which lets it
/// catch up for good (R4). A few round trips' worth: writes stall no longer than it takes to copy this.
const JOIN_WITHIN: Index = 512;

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
        if self.register() != Some(&wanted) {
            self.change_register(self.with_held(wanted));
        }
        self.begin_requested_handover(log);
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
        wanted
            .replicas
            .sort_by(|one, other| (&one.pod, one.replica).cmp(&(&other.pod, other.replica)));
        Some(wanted)
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
