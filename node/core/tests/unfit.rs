//! A replica whose disk is not what others take it for stands aside: one that came to another state,
//! one whose disk was put back to what it was before, one that is a copy of another pod's.

#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "simulation/disk.rs"]
mod disk;

use std::collections::BTreeSet;

use disk::Disk;
use percolate_core::identity::{Epoch, Incarnation, Index, ReplicaId};
use percolate_core::log::{Entry, Head, ReadLog, SharedEntry};
use percolate_core::register::{Member, Register, View};
use percolate_core::replica::message::{Append, Outrun};
use percolate_core::replica::{
    Config, Effect, Input, Message, Persist, Position, Replica, StateDigest, Stranded, Timing,
};

const ME: ReplicaId = ReplicaId(1);
const OTHER: ReplicaId = ReplicaId(2);
const INCARNATION: Incarnation = Incarnation(7);
const TIMING: (u64, u64) = (500, 2_500);

/// A register at `epoch` with both in sync.
fn register(epoch: Epoch, leader: ReplicaId, held: Index) -> Register {
    let member = |replica: ReplicaId| Member {
        replica,
        pod: pod(replica),
        state: None,
    };
    Register {
        incarnation: INCARNATION,
        epoch,
        leader,
        in_sync: BTreeSet::from([ME, OTHER]),
        replicas: vec![member(ME), member(OTHER)],
        answers: Vec::new(),
        held,
        last_failover: None,
        loss: None,
    }
}

fn pod(replica: ReplicaId) -> String {
    format!("acme-{replica}")
}

fn view(register: Register) -> View {
    View {
        version: 1,
        register: Some(register),
        min_in_sync: 1,
        bootstrap: false,
        requests: Vec::new(),
    }
}

/// Entries of epoch 1, after `previous`.
fn entries(previous: Head, epoch: Epoch, count: usize) -> Vec<SharedEntry> {
    let mut head = previous;
    let mut entries = Vec::new();
    for _ in 0..count {
        let entry = Entry::after(head, epoch, b"payload".to_vec());
        head = entry.head;
        entries.push(entry.into());
    }
    entries
}

/// A replica on a disk that does everything at once.
struct Node {
    replica: Replica,
    disk: Disk,
    sent: Vec<Message>,
    changes: usize,
}

impl Node {
    /// In `pod`, with so many entries, all but `open` of them applied, having read `register`.
    fn started(pod: String, entries: Vec<SharedEntry>, open: Index, register: Register) -> Self {
        let mut disk = Disk::default();
        let last = entries.len() as Index;
        disk.write(Persist {
            ticket: 0,
            incarnation: Some(INCARNATION),
            promised_epoch: 1,
            truncate_after: None,
            append: entries,
            forget: Vec::new(),
        });
        disk.sync(1);
        disk.apply(last - open);
        let config = Config {
            replica: ME,
            pod,
            fresh_incarnation: Incarnation(8),
            opening_after_loss: Vec::new(),
            jitter_seed: 1,
            timing: Timing::new(TIMING.0, TIMING.1),
        };
        let mut node = Self {
            replica: Replica::new(config, disk.restored(), 0),
            disk,
            sent: Vec::new(),
            changes: 0,
        };
        node.step(0, Input::RegisterRead(Some(view(register))));
        node
    }

    fn step(&mut self, now: u64, input: Input) {
        let mut effects = self.replica.step(now, input, &self.disk);
        effects.extend(self.replica.flush(now, &self.disk));
        let mut done = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(write) => {
                    self.disk.write(write);
                    done.extend(self.disk.sync(1));
                }
                Effect::Send { message, .. } => self.sent.push(message),
                Effect::ChangeRegister { .. } => self.changes += 1,
                _ => {}
            }
        }
        for ticket in done {
            self.step(now, Input::Persisted(ticket));
        }
    }

    fn receive(&mut self, message: Message) {
        let from = OTHER;
        self.step(1, Input::Received { from, message });
    }

    fn stranded(&self) -> Option<Stranded> {
        match self.replica.standing(&self.disk).position {
            Position::Stranded(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A heartbeat of a leader of `epoch` that began it at `start`.
fn heartbeat(epoch: Epoch, previous: Head, start: Index, commit: Index) -> Append {
    Append {
        epoch,
        round: 0,
        previous,
        entries: Vec::new(),
        commit,
        base: 0,
        last: previous.index,
        start,
        counted: true,
        digest: None,
        quiet: false,
        proven: None,
    }
}

#[test]
fn what_the_register_says_of_a_disk_is_checked_before_anything_is_done() {
    let me = pod(ME);
    for (name, pod, last, held, in_sync, stranded) in [
        ("as it should be", &me, 5, 5, true, None),
        ("with more", &me, 9, 5, true, None),
        (
            "put back",
            &me,
            4,
            5,
            true,
            Some(Stranded::Outdated { held: 5, last: 4 }),
        ),
        ("put back, and not counted on", &me, 4, 5, false, None),
        (
            "a copy in another pod",
            &pod(OTHER),
            5,
            5,
            true,
            Some(Stranded::Cloned),
        ),
    ] {
        for leader in [ME, OTHER] {
            let mut known = register(3, leader, held);
            if !in_sync {
                known.in_sync = BTreeSet::from([OTHER]);
                known.leader = OTHER;
            }
            let log = entries(Head::default(), 1, last);
            let mut node = Node::started(pod.clone(), log, 0, known);
            assert_eq!(node.stranded(), stranded, "{name}, {leader} leads");
            for now in 1..10 {
                node.step(now * TIMING.1, Input::Tick);
            }
            let takes_over = stranded.is_none() && in_sync;
            assert_eq!(node.changes > 0, takes_over, "{name}, {leader} leads");
        }
    }
}

#[test]
fn a_replica_that_came_to_another_state_than_its_leader_stands_aside() {
    for (name, named, hash, stranded) in [
        ("equal", 4, 4, None),
        ("different", 4, 9, Some(Stranded::Diverged { at: 4 })),
        ("not applied yet", 6, 9, None),
    ] {
        let log = entries(Head::default(), 1, 5);
        let last = log[4].head;
        let mut node = Node::started(pod(ME), log, 0, register(2, OTHER, 0));
        let digest = |index: Index, hash: u8| StateDigest {
            index,
            hash: [hash; 32],
        };
        node.step(
            1,
            Input::Applied(
                (1..=5)
                    .map(|n| digest(n, u8::try_from(n).unwrap()))
                    .collect(),
            ),
        );
        node.receive(Message::Append(Append {
            digest: Some(digest(named, hash)),
            ..heartbeat(2, last, 6, 5)
        }));
        assert_eq!(node.stranded(), stranded, "{name}");
        if named == 6 {
            node.step(2, Input::Applied(vec![digest(6, 6)]));
            let late = Some(Stranded::Diverged { at: 6 });
            assert_eq!(node.stranded(), late, "{name}, but then");
        }
    }
}

#[test]
fn who_is_counted_on_and_lacks_what_is_committed_stands_aside() {
    for (name, counted, commit, stranded) in [
        ("has it", true, 5, None),
        (
            "lacks it",
            true,
            6,
            Some(Stranded::Outdated { held: 6, last: 5 }),
        ),
        ("is a learner", false, 6, None),
    ] {
        let log = entries(Head::default(), 1, 5);
        let last = log[4].head;
        let mut node = Node::started(pod(ME), log, 0, register(2, OTHER, 0));
        node.receive(Message::Append(Append {
            counted,
            ..heartbeat(2, last, 6, commit)
        }));
        assert_eq!(node.stranded(), stranded, "{name}");
    }
}

#[test]
fn a_leader_that_lacks_what_is_committed_is_told_so_and_not_followed() {
    let log = entries(Head::default(), 1, 5);
    let committed = log[4].head;
    // It began its epoch after entry 3: 4 and 5 are committed here.
    let before = log[2].head;
    for (name, commit, stranded) in [
        ("it has committed nothing since", 3, None),
        ("it has, with others", 4, Some(Stranded::Diverged { at: 4 })),
    ] {
        let mut node = Node::started(pod(ME), log.clone(), 0, register(2, OTHER, 0));
        node.receive(Message::Append(Append {
            entries: entries(before, 2, 1),
            last: 4,
            ..heartbeat(2, before, 4, commit)
        }));
        assert_eq!(node.stranded(), stranded, "{name}");
        let told = Message::Outrun(Outrun {
            epoch: 2,
            committed,
        });
        assert_eq!(node.sent.contains(&told), stranded.is_none(), "{name}");
        assert_eq!(node.disk.last(), committed, "{name}: its log is as it was");
    }
}

#[test]
fn a_leader_stands_aside_for_a_proof_that_its_disk_was_put_back() {
    let log = entries(Head::default(), 1, 5);
    let later = entries(log[4].head, 1, 2)[1].head;
    for (name, epoch, committed, stranded) in [
        (
            "proof",
            2,
            later,
            Some(Stranded::Outdated { held: 7, last: 5 }),
        ),
        ("of another epoch", 1, later, None),
        ("of what it has", 2, log[4].head, None),
        ("of its own epoch", 2, Head { epoch: 2, ..later }, None),
    ] {
        let mut known = register(1, OTHER, 0);
        let mut node = Node::started(pod(ME), log.clone(), 0, known.clone());
        known.epoch = 2;
        known.leader = ME;
        node.step(
            1,
            Input::Watched(View {
                version: 2,
                ..view(known)
            }),
        );
        let position = node.replica.standing(&node.disk).position;
        assert_eq!(position, Position::Leader, "{name}");
        node.receive(Message::Outrun(Outrun { epoch, committed }));
        assert_eq!(node.stranded(), stranded, "{name}");
    }
}

#[test]
fn a_disk_that_forgot_its_promise_answers_nobody_whom_the_register_has_replaced() {
    let log = entries(Head::default(), 1, 5);
    let last = log[4].head;
    // The disk has promised epoch 1; the register is at 3.
    let mut node = Node::started(pod(ME), log, 0, register(3, OTHER, 0));
    node.receive(Message::Append(heartbeat(2, last, 6, 5)));
    let rejected = Message::Rejected { promised_epoch: 3 };
    assert_eq!(node.sent, [rejected]);
}
