//! Disks that are put back to an earlier state of themselves (F20), and disks that are copies of
//! another pod's; and the quarantine that follows once the machine has seen through it.
//!
//! What is put back lacks entries that the register says its replica holds, as far as the protocol
//! promises to notice. Like a lost disk it may happen only where others hold everything.

use percolate_core::identity::ReplicaId;
use percolate_core::replica::{Position, Stranded};

use super::{Dice, Scenario, World};
use crate::disk::Disk;

/// Earlier states kept of each disk.
const KEPT: usize = 4;
/// A quarantined process that cannot begin anew yet looks again after this.
const LOOK_AGAIN: u64 = 1_000;

/// What is kept of the disks, and what became of them.
pub(super) struct Spoiled {
    dice: Dice,
    kept: Vec<Vec<Disk>>,
    /// Nodes whose disk is not what the register takes it for.
    nodes: Vec<usize>,
    /// Nodes whose store is marked, and whether it is another pod's.
    marked: Vec<(usize, bool)>,
    pub(super) put_back: u64,
    pub(super) cloned: u64,
}

impl Spoiled {
    pub(super) fn of(scenario: Scenario, seed: u64, nodes: usize) -> Option<Self> {
        (scenario == Scenario::SpoiledDisks).then(|| Self {
            dice: Dice(seed ^ 0x01d),
            kept: vec![Vec::new(); nodes],
            nodes: Vec::new(),
            marked: Vec::new(),
            put_back: 0,
            cloned: 0,
        })
    }

    fn is_spoiled(&self, node: usize) -> bool {
        self.nodes.contains(&node)
    }
}

impl World {
    /// Whether `node` has another disk than the register takes it to have.
    pub(super) fn is_spoiled(&self, node: usize) -> bool {
        self.spoiled
            .as_ref()
            .is_some_and(|spoiled| spoiled.is_spoiled(node))
    }

    /// Keep a copy of a disk now and then, and put one back, or under another pod.
    pub(super) fn spoil(&mut self) {
        let Some(mut spoiled) = self.spoiled.take() else {
            return;
        };
        let count = self.nodes.len() as u64;
        let pick = usize::try_from(spoiled.dice.below(count)).expect("small");
        if spoiled.dice.one_in(15) {
            let mut copy = self.nodes[pick].disk.clone();
            copy.crash();
            spoiled.kept[pick].push(copy);
            if spoiled.kept[pick].len() > KEPT {
                let gone = usize::try_from(spoiled.dice.below(KEPT as u64)).expect("small");
                spoiled.kept[pick].remove(gone);
            }
        }
        let other = (pick + 1) % self.nodes.len();
        let clones = spoiled.dice.one_in(3);
        let roll = spoiled.dice.one_in(60);
        self.spoiled = Some(spoiled);
        if roll && !self.is_spoiled(pick) && !self.is_spoiled(other) && self.may_lose_disk(pick) {
            if clones {
                self.clone_disk(pick, other);
            } else {
                self.put_back(pick);
            }
        }
    }

    fn put_back(&mut self, node: usize) {
        let Some(register) = self.register.register.clone() else {
            return;
        };
        let Some(spoiled) = &mut self.spoiled else {
            return;
        };
        let id = self.nodes[node].id;
        let is_older = |disk: &&Disk| disk.restored().last < register.held;
        let older = spoiled.kept[node].iter().find(is_older).cloned();
        if let Some(disk) = older.filter(|_| register.in_sync.contains(&id)) {
            spoiled.put_back += 1;
            spoiled.nodes.push(node);
            self.crash(node, false);
            self.nodes[node].disk = disk;
            note!(self, "{} is put back", self.nodes[node].pod);
        }
    }

    fn clone_disk(&mut self, node: usize, of: usize) {
        let known = self
            .register
            .register
            .as_ref()
            .is_some_and(|register| register.pod_of(self.nodes[of].id).is_some());
        let Some(spoiled) = self.spoiled.as_mut().filter(|_| known) else {
            return;
        };
        spoiled.cloned += 1;
        spoiled.nodes.push(node);
        spoiled.kept[node].clear();
        self.crash(node, false);
        let mut copy = self.nodes[of].disk.clone();
        copy.crash();
        self.nodes[node].disk = copy;
        self.nodes[node].id = self.nodes[of].id;
        note!(self, "{} is a clone", self.nodes[node].pod);
    }

    /// Processes that have found out about their disk end, and their stores are marked.
    pub(super) fn quarantine(&mut self) {
        for node in 0..self.nodes.len() {
            let cloned = match self.nodes[node].position() {
                Some(Position::Stranded(Stranded::Cloned)) => true,
                Some(Position::Stranded(Stranded::Outdated { .. } | Stranded::Diverged { .. })) => {
                    false
                }
                _ => continue,
            };
            if !self.is_spoiled(node) {
                let text = format!(
                    "{} takes its disk for spoiled: {:?}",
                    self.nodes[node].pod,
                    self.nodes[node].position()
                );
                return self.violate(text);
            }
            self.crash(node, false);
            if let Some(spoiled) = &mut self.spoiled {
                spoiled.marked.push((node, cloned));
            }
        }
    }

    /// Whether the process of `node` may start: a marked store is emptied first, if another leads.
    pub(super) fn may_start(&mut self, node: usize) -> bool {
        let (id, now) = (self.nodes[node].id, self.now);
        let leads = self
            .register
            .register
            .as_ref()
            .is_none_or(|register| register.leader == id);
        let Some(spoiled) = &mut self.spoiled else {
            return true;
        };
        let Some(place) = spoiled
            .marked
            .iter()
            .position(|(marked, _)| *marked == node)
        else {
            return true;
        };
        let (_, cloned) = spoiled.marked[place];
        if leads && !cloned {
            self.nodes[node].down_until = now + LOOK_AGAIN;
            return false;
        }
        spoiled.marked.remove(place);
        spoiled.nodes.retain(|spoiled| *spoiled != node);
        spoiled.kept[node].clear();
        self.nodes[node].disk = Disk::default();
        self.nodes[node].id = ReplicaId(u128::from(spoiled.dice.roll()));
        note!(self, "{} begins anew", self.nodes[node].pod);
        true
    }

    /// Disks that were put back, and disks that became clones.
    pub(crate) fn spoilt(&self) -> [u64; 2] {
        self.spoiled
            .as_ref()
            .map_or([0; 2], |spoiled| [spoiled.put_back, spoiled.cloned])
    }
}
