//! The oracle: what is acknowledged is durable in sync and stays, an epoch has one leader, and in the
//! end everybody is in sync.

use std::collections::BTreeSet;

use percolate_core::identity::{Epoch, Index, ReplicaId};
use percolate_core::log::{ReadLog, SharedEntry};
use percolate_core::replica::{Position, RequestId, Timing};

use super::{DURATION, REST, TICK, World};

impl World {
    /// The leader acknowledges what it proposed up to `commit`; every replica applies it.
    pub(super) fn committed(&mut self, index: usize, commit: Index) {
        let epoch = self.nodes[index].disk.last().epoch;
        let first = self.nodes[index].commit + 1;
        note!(self, "{} commits up to {commit}", self.nodes[index].pod);
        for place in first..=commit {
            let Some(entry) = self.nodes[index].disk.entry(place).cloned() else {
                return self.violate(format!(
                    "{} commits {place}, which it has not",
                    self.nodes[index].pod
                ));
            };
            if let Some((_, known)) = self.acknowledged.get(&place)
                && known.head != entry.head
            {
                return self.violate(format!("two values committed at {place}"));
            }
            self.apply(index, &entry);
            self.digest(index);
            if self.nodes[index].proposals.remove(&place).is_some() {
                self.acknowledge(index, place, epoch, entry);
                self.client_acknowledged(index, place);
            }
        }
        self.nodes[index].commit = commit;
        self.nodes[index].disk.apply(commit);
    }

    /// A proposal has its place: from now on it may be acknowledged.
    pub(super) fn proposed_at(&mut self, index: usize, id: RequestId, place: Index) {
        self.taken += 1;
        self.client_proposed(index, id, place);
        self.wait_begins(index, place);
        if let Some(entry) = self.nodes[index].disk.entry(place) {
            let payload = entry.payload.clone();
            self.nodes[index].proposals.insert(place, payload);
        }
    }

    /// A replica led when asked: it has committed all that was acknowledged then.
    pub(super) fn confirmed(&mut self, index: usize, id: RequestId, seen: Index) {
        self.client_confirmed(index, id, seen);
        let before = self.asked.remove(&id).unwrap_or(0);
        if seen < before {
            self.violate(format!(
                "a confirmed read at {seen} misses the write acknowledged before it at {before}"
            ));
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        index: usize,
        place: Index,
        epoch: Epoch,
        entry: SharedEntry,
    ) {
        let in_sync: BTreeSet<ReplicaId> = self
            .register
            .register
            .as_ref()
            .map(|register| register.in_sync.clone())
            .unwrap_or_default();
        let counted = |(place, node): &(usize, &super::Node)| {
            in_sync.contains(&node.id) && !self.is_spoiled(*place)
        };
        for (_, node) in self.nodes.iter().enumerate().filter(counted) {
            if node.disk.synced_entry(place).map(|held| held.head) != Some(entry.head) {
                let text = format!(
                    "{place} acknowledged by {} but not durable in sync at {}",
                    self.nodes[index].pod, node.pod
                );
                return self.violate(text);
            }
        }
        // A leader that was paused with the last answer in its buffer acknowledges late, when
        // another may lead: that loses nothing, for its successor holds the entry (seen above)
        // and without clocks nobody could prevent it. But an epoch has one acknowledging leader.
        let acknowledging = *self.leaders.entry(epoch).or_insert(self.nodes[index].id);
        if acknowledging != self.nodes[index].id {
            return self.violate(format!("two leaders acknowledge at epoch {epoch}"));
        }
        self.acknowledged.insert(place, (epoch, entry));
        let furthest = self.acknowledged_by.last().map_or(0, |(_, index)| *index);
        if place > furthest {
            self.acknowledged_by.push((self.now, place));
        }
    }

    /// What a replica says of the age of what it shows is true, whoever leads by now.
    pub(super) fn judge_freshness(&mut self, index: usize) {
        let node = &self.nodes[index];
        let standing = node
            .replica
            .as_ref()
            .map(|replica| replica.standing(&node.disk));
        let Some(fresh) = standing.and_then(|standing| standing.fresh) else {
            return;
        };
        let before = self
            .acknowledged_by
            .partition_point(|(at, _)| *at < fresh.at);
        let due = before
            .checked_sub(1)
            .map(|last| self.acknowledged_by[last].1);
        if due.is_some_and(|due| due > fresh.index) {
            let text = format!(
                "{} says that {fresh:?} holds, but {due:?} was acknowledged before",
                node.pod
            );
            return self.violate(text);
        }
        self.fresh_reads += 1;
    }

    /// A process that wants to stop is told in time that it may, whatever became of its handover.
    pub(super) fn judge_handovers(&mut self) {
        let (now, nodes) = (self.now, &self.nodes);
        self.handovers
            .retain(|_, (node, process, _)| nodes[*node].process == *process);
        for (node, _, since) in self.handovers.values_mut() {
            *since = nodes[*node].paused_until.max(*since);
        }
        // Once as a follower, once more if it was chosen to lead meanwhile.
        let within = 2 * Timing::new(500, 2_500).handover_within + 2 * TICK;
        if let Some((id, (node, ..))) = self
            .handovers
            .iter()
            .find(|(_, (_, _, since))| now > since + within)
        {
            let text = format!("handover {id} of {} goes unanswered", nodes[*node].pod);
            self.violate(text);
        }
    }

    /// After the quiet end: one leader, everybody in sync, every acknowledged entry everywhere; the
    /// register knows who is there, nobody else, and is left alone.
    pub(super) fn judge_end(&mut self) {
        let Some(register) = self.register.register.clone() else {
            return self.violate("nobody ever led".to_owned());
        };
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let standing = node
                .replica
                .as_ref()
                .map(|replica| replica.standing(&node.disk));
            note!(self, "{} ends as {standing:?}", self.nodes[index].pod);
        }
        let leaders = self
            .nodes
            .iter()
            .filter(|node| node.position() == Some(Position::Leader))
            .count();
        if leaders != 1 || register.in_sync.len() != self.nodes.len() {
            let text = format!(
                "at the end {leaders} leaders and {} of {} in sync",
                register.in_sync.len(),
                self.nodes.len()
            );
            return self.violate(text);
        }
        let known: BTreeSet<ReplicaId> = register
            .replicas
            .iter()
            .map(|member| member.replica)
            .collect();
        if known != self.nodes.iter().map(|node| node.id).collect() {
            return self.violate(format!("at the end the register knows {known:?}"));
        }
        if self.register_changed_at + REST > DURATION {
            return self.violate("the register does not come to rest".to_owned());
        }
        for (place, (_, entry)) in &self.acknowledged {
            for node in &self.nodes {
                if node.disk.synced_entry(*place).map(|held| held.head) != Some(entry.head) {
                    let text = format!("acknowledged entry {place} is missing at {}", node.pod);
                    self.violation = Some(text);
                    return;
                }
            }
        }
    }

    pub(super) fn violate(&mut self, text: String) {
        note!(self, "{text}");
        self.violation.get_or_insert(text);
    }
}
