//! What is done to the replicas: crashes, lost disks, pauses, cut links, requests of the operator.

use percolate_core::identity::ReplicaId;
use percolate_core::register::{Action, Request};
use percolate_core::replica::Input;

use super::{DURATION, Event, QUIET, Scenario, World};
use crate::disk::Disk;

impl World {
    pub(super) fn crash(&mut self, index: usize, loses_disk: bool) {
        // In the quiet end, who stops after a handover is back soon: it has to catch up in time.
        let disturbed = self.now + QUIET < DURATION;
        let down_for = 200 + self.dice.below(if disturbed { 8_000 } else { 800 });
        let fresh = ReplicaId(u128::from(self.dice.roll()));
        let now = self.now;
        let node = &mut self.nodes[index];
        node.replica = None;
        node.process += 1;
        node.down_until = now + down_for;
        node.disk.crash();
        if loses_disk {
            node.disk = Disk::default();
            node.id = fresh;
        }
        note!(
            self,
            "crash {} loses_disk={loses_disk}",
            self.nodes[index].pod
        );
    }

    pub(super) fn disturb(&mut self) {
        let count = self.nodes.len();
        let pick = usize::try_from(self.dice.below(count as u64)).expect("small");
        if self.dice.one_in(60) && self.nodes[pick].replica.is_some() {
            let loses_disk = self.may_lose_disk(pick) && self.dice.one_in(4);
            self.crash(pick, loses_disk);
        }
        if self.dice.one_in(120) {
            self.nodes[pick].paused_until = self.now + self.dice.below(9_000);
            note!(self, "pause {}", self.nodes[pick].pod);
        }
        if self.dice.one_in(60) {
            let other = (pick + 1) % count;
            let until = self.now + self.dice.below(9_000);
            self.cut.insert((pick, other), until);
            if self.dice.one_in(2) {
                self.cut.insert((other, pick), until);
            }
            note!(self, "cut {pick} {other}");
        }
        if self.dice.one_in(90) {
            // Not far into the quiet end: then somebody takes over, and empty disks are filled.
            let until = self.now + self.dice.below(12_000);
            self.register_cut
                .insert(pick, until.min(DURATION - QUIET + 8_000));
        }
        if self.scenario == Scenario::Handovers && self.dice.one_in(40) {
            self.ask_operator_request(pick);
        }
    }

    /// Logs are trimmed: mostly as far as it costs nobody a snapshot, sometimes as far as can be.
    pub(super) fn trim(&mut self) {
        for index in 0..self.nodes.len() {
            if !self.dice.one_in(20) {
                continue;
            }
            let anyhow = self.dice.one_in(4);
            let node = &mut self.nodes[index];
            if let Some(replica) = &node.replica {
                let spare = if anyhow { u64::MAX } else { replica.spare() };
                node.disk.trim(spare);
            }
        }
    }

    /// A process has copied what another had applied, unless that is down: then it is asked again.
    pub(super) fn copied(&mut self, index: usize, process: u64, from: ReplicaId, at: u64) {
        if self.nodes[index].process != process {
            return;
        }
        self.nodes[index].copying = false;
        let source = self.nodes.iter().find(|node| node.id == from);
        if let Some(source) = source.filter(|node| node.replica.is_some()) {
            self.nodes[index].copied = Some(source.disk.clone());
            self.step(index, at, Input::SnapshotFetched);
        }
    }

    /// A copy takes a while; the leader hears now and then how much there is, and that it is gone.
    pub(super) fn copy(&mut self, index: usize, from: ReplicaId) {
        let (by, takes) = (self.nodes[index].id, self.dice.below(3_000));
        self.schedule(index, takes, Event::Copied { from });
        let Some(source) = self.nodes.iter().position(|node| node.id == from) else {
            return;
        };
        for percent in (0..=100).step_by(20) {
            let read = Input::SnapshotRead {
                by,
                percent: Some(percent),
            };
            let delay = takes * u64::from(percent) / 100;
            self.schedule(source, delay, Event::Input(read));
        }
        let gone = Input::SnapshotRead { by, percent: None };
        self.schedule(source, takes + 5_000, Event::Input(gone));
    }

    /// The process stops, and begins anew with what it has copied.
    pub(super) fn install_snapshot(&mut self, index: usize, given_up: bool) {
        if let Some(copy) = self.nodes[index].copied.take() {
            self.crash(index, false);
            self.nodes[index].disk.install(&copy, given_up);
            self.snapshots += 1;
            note!(self, "{} has a snapshot", self.nodes[index].pod);
        }
    }

    /// A disk may be lost when enough others hold everything acknowledged: losing the last copy
    /// is beyond what any protocol survives.
    pub(super) fn may_lose_disk(&self, index: usize) -> bool {
        let Some(register) = &self.register.register else {
            return false;
        };
        // Nor while a change that would leave this replica alone in the set may be on its way.
        if self
            .events
            .values()
            .any(|(_, _, event)| matches!(event, Event::Change { .. }))
        {
            return false;
        }
        let others = register
            .in_sync
            .iter()
            .filter(|replica| **replica != self.nodes[index].id)
            .count();
        let alive = self.nodes.iter().enumerate().filter(|(other, node)| {
            register.in_sync.contains(&node.id)
                && node.id != self.nodes[index].id
                && !self.is_spoiled(*other)
        });
        others >= 1 && alive.count() >= 1
    }

    pub(super) fn ask_operator_request(&mut self, pick: usize) {
        let pod = self.nodes[pick].pod.clone();
        let action = match self.dice.below(3) {
            0 => Action::HandOver { pod: None },
            1 => Action::HandOver { pod: Some(pod) },
            _ => Action::Drop { pod },
        };
        self.register.requests = vec![Request {
            id: format!("request-{}", self.now),
            action,
        }];
        self.register.version += 1;
        self.notify_watchers();
    }
}
