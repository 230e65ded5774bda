//! What catching up costs: a follower is sent what it lacks, whatever it has, and not the log; and what
//! it costs to keep up.

#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "simulation/disk.rs"]
mod disk;

use std::collections::{BTreeSet, VecDeque};

use disk::Disk;
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::log::{Entry, Head, ReadLog, SharedEntry};
use percolate_core::register::{Member, Register, ReplicaState, View};
use percolate_core::replica::{
    ChangeOutcome, Config, Effect, Input, Message, Persist, Replica, Timing,
};

const LEADER: ReplicaId = ReplicaId(1);
const FOLLOWER: ReplicaId = ReplicaId(2);
const INCARNATION: Incarnation = Incarnation(7);
const LOG: usize = 2_000;
const TICK: u64 = 100;
/// Longer than it takes to be given up on.
const ABSENT: u64 = 10_000;

/// A process with its disk, which is always done at once.
struct Node {
    replica: Replica,
    disk: Disk,
}

/// Two replicas and the messages between them; the register agrees to everything.
struct Pair {
    now: u64,
    view: View,
    leader: Node,
    follower: Option<Node>,
    messages: VecDeque<(ReplicaId, Message)>,
    /// Messages sent by anyone.
    said: usize,
    /// Entries sent to the follower.
    sent: usize,
    /// Snapshots given to it.
    snapshots: usize,
}

impl Pair {
    /// A leader with `log`, known to have one in-sync replica and one that it has not heard of.
    fn new(log: Vec<SharedEntry>) -> Self {
        let member = |replica: ReplicaId| Member {
            replica,
            pod: pod(replica),
            state: None,
        };
        let register = Register {
            incarnation: INCARNATION,
            epoch: 1,
            leader: LEADER,
            in_sync: BTreeSet::from([LEADER]),
            replicas: vec![member(LEADER), member(FOLLOWER)],
            answers: Vec::new(),
            held: 0,
            last_failover: None,
            loss: None,
        };
        let view = View {
            version: 1,
            register: Some(register),
            min_in_sync: 1,
            bootstrap: false,
            requests: Vec::new(),
        };
        Self {
            now: 0,
            view,
            leader: node(LEADER, log, 0),
            follower: None,
            messages: VecDeque::new(),
            said: 0,
            sent: 0,
            snapshots: 0,
        }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / TICK {
            self.now += TICK;
            self.step(LEADER, Input::Tick);
            self.step(FOLLOWER, Input::Tick);
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some((to, message)) = self.messages.pop_front() {
            let from = if to == LEADER { FOLLOWER } else { LEADER };
            self.step(to, Input::Received { from, message });
        }
    }

    fn step(&mut self, at: ReplicaId, input: Input) {
        let now = self.now;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(node) = self.node(at) else { return };
            let mut effects = node.replica.step(now, input, &node.disk);
            effects.extend(node.replica.flush(now, &node.disk));
            while node.replica.owes() {
                effects.extend(node.replica.flush(now, &node.disk));
            }
            for effect in effects {
                inputs.extend(self.carry_out(at, effect));
            }
        }
    }

    fn node(&mut self, at: ReplicaId) -> Option<&mut Node> {
        if at == LEADER {
            Some(&mut self.leader)
        } else {
            self.follower.as_mut()
        }
    }

    /// What the world answers.
    fn carry_out(&mut self, at: ReplicaId, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Persist(write) => {
                let disk = &mut self.node(at)?.disk;
                disk.write(write);
                disk.sync(1).map(Input::Persisted)
            }
            Effect::Send { to, message, .. } => {
                self.said += 1;
                if let Message::Append(append) = &message {
                    self.sent += append.entries.len();
                }
                self.messages.push_back((to, message));
                None
            }
            Effect::FetchSnapshot { .. } => Some(Input::SnapshotFetched),
            Effect::InstallSnapshot { given_up } => {
                let copy = self.leader.disk.clone();
                let mut disk = self.follower.take()?.disk;
                disk.install(&copy, given_up);
                self.snapshots += 1;
                self.follower = Some(started(FOLLOWER, disk, self.now));
                None
            }
            Effect::ReadRegister => Some(Input::RegisterRead(Some(self.view.clone()))),
            Effect::ChangeRegister { register, .. } => {
                self.view.version += 1;
                self.view.register = Some(register);
                let outcome = ChangeOutcome::Applied(Box::new(self.view.clone()));
                Some(Input::RegisterChanged(outcome))
            }
            _ => None,
        }
    }
}

fn pod(replica: ReplicaId) -> String {
    format!("acme-{replica}")
}

fn node(replica: ReplicaId, log: Vec<SharedEntry>, now: u64) -> Node {
    let mut disk = Disk::default();
    disk.write(Persist {
        ticket: 0,
        incarnation: Some(INCARNATION),
        promised_epoch: 1,
        truncate_after: None,
        append: log,
        forget: Vec::new(),
    });
    disk.sync(1);
    started(replica, disk, now)
}

fn started(replica: ReplicaId, disk: Disk, now: u64) -> Node {
    let config = Config {
        replica,
        pod: pod(replica),
        fresh_incarnation: Incarnation(8),
        opening_after_loss: Vec::new(),
        jitter_seed: 1,
        timing: Timing::new(500, 2_500),
    };
    let replica = Replica::new(config, disk.restored(), now);
    Node { replica, disk }
}

/// `count` more entries after `log`, told apart by `mark`.
fn extended(mut log: Vec<SharedEntry>, count: usize, mark: u8) -> Vec<SharedEntry> {
    for _ in 0..count {
        let last = log.last().map_or_else(Head::default, |entry| entry.head);
        log.push(Entry::after(last, 1, vec![mark]).into());
    }
    log
}

#[test]
fn a_follower_is_sent_what_it_lacks_and_little_more() {
    // Entries it has of the leader's log, entries of its own after them. What is found to be in
    // common may lie as far before the parting as that lies before the end of the follower's log.
    for (common, own) in [
        (0, 0),
        (LOG, 0),
        (LOG - 1, 0),
        (LOG - 100, 0),
        (LOG - 1, 1),
        (LOG - 50, 10),
        (100, 1_000),
    ] {
        for absent in [0, ABSENT] {
            let log = extended(Vec::new(), LOG, b'a');
            let held = extended(log[..common].to_vec(), own, b'b');
            let mut pair = Pair::new(log);
            pair.run(absent);
            pair.follower = Some(node(FOLLOWER, held, pair.now));
            pair.run(20_000);
            let follower = pair.follower.as_ref().expect("it was started");
            assert_eq!(follower.disk.last(), pair.leader.disk.last());
            // The epoch's opening entry comes on top.
            let lacked = LOG - common + 1;
            assert!(
                pair.sent <= lacked + own,
                "has {common} of {LOG} and {own} of its own, absent for {absent} ms: sent {}, lacked {lacked}",
                pair.sent
            );
            let register = pair.view.register.expect("a register");
            assert!(register.in_sync.contains(&FOLLOWER), "it is in sync");
        }
    }
}

#[test]
fn a_follower_behind_the_log_is_given_one_snapshot_and_then_the_rest() {
    const TRIMMED: u64 = 1_000;
    // Entries it has of the leader's log, entries of its own after them, snapshots it needs.
    for (common, own, snapshots) in [
        (0, 0, 1),
        (999, 0, 1),
        (500, 2_000, 1),
        (1_000, 0, 0),
        (1_500, 10, 0),
    ] {
        let log = extended(Vec::new(), LOG, b'a');
        let held = extended(log[..common].to_vec(), own, b'b');
        let mut pair = Pair::new(log);
        pair.run(ABSENT);
        pair.leader.disk.apply(TRIMMED);
        pair.leader.disk.trim(TRIMMED);
        pair.follower = Some(node(FOLLOWER, held, pair.now));
        pair.run(20_000);
        let follower = pair.follower.as_ref().expect("it was started");
        assert_eq!(follower.disk.last(), pair.leader.disk.last());
        assert_eq!(
            pair.snapshots, snapshots,
            "has {common} of {LOG} and {own} of its own"
        );
        let register = pair.view.register.expect("a register");
        assert!(register.in_sync.contains(&FOLLOWER), "it is in sync");
    }
}

#[test]
fn a_write_costs_a_follower_that_keeps_up_three_messages() {
    let mut pair = Pair::new(extended(Vec::new(), LOG, b'a'));
    pair.follower = Some(node(FOLLOWER, Vec::new(), 0));
    pair.run(20_000);
    for write in 1..=3 {
        let (said, last) = (pair.said, pair.leader.disk.last().index);
        let payload = vec![b'w'];
        pair.step(LEADER, Input::Propose { id: write, payload });
        pair.deliver();
        // The entry, the answer for it, and that it is committed.
        assert_eq!(pair.said - said, 3);
        let follower = pair.follower.as_ref().expect("it was started");
        assert_eq!(follower.disk.last().index, last + 1);
        let standing = follower.replica.standing(&follower.disk);
        assert_eq!(standing.commit, last + 1, "it was told");
    }
    // While nothing is written a heartbeat and its answer tell that both live.
    let said = pair.said;
    pair.run(5_000);
    assert_eq!(pair.said - said, 20);
}

/// What the register says of the follower.
fn told(pair: &Pair) -> Option<ReplicaState> {
    let register = pair.view.register.as_ref().expect("a register");
    let mut members = register.replicas.iter();
    let follower = members.find(|member| member.replica == FOLLOWER);
    follower.and_then(|member| member.state)
}

fn copied(pair: &mut Pair, percent: Option<u8>) {
    let by = FOLLOWER;
    pair.step(LEADER, Input::SnapshotRead { by, percent });
}

#[test]
fn the_register_says_how_far_a_copy_is_ten_times_at_most() {
    let mut pair = Pair::new(extended(Vec::new(), LOG, b'a'));
    // Long enough for the leader to have told what it found.
    pair.run(2 * ABSENT);
    assert_eq!(told(&pair), Some(ReplicaState::Probing));
    let before = pair.view.version;
    for percent in 0..=100 {
        copied(&mut pair, Some(percent));
        // A copy of two minutes.
        pair.run(1_200);
        let tenths = percent / 10 * 10;
        assert_eq!(
            told(&pair),
            Some(ReplicaState::Snapshotting { percent: tenths })
        );
    }
    assert_eq!(pair.view.version - before, 11);
    pair.follower = Some(node(FOLLOWER, Vec::new(), pair.now));
    pair.run(20_000);
    assert_eq!(told(&pair), Some(ReplicaState::InSync));
    let settled = pair.view.version;
    copied(&mut pair, None);
    pair.run(60_000);
    assert_eq!(pair.view.version, settled, "at rest nothing is written");
}

#[test]
fn states_that_change_all_the_time_are_written_now_and_then() {
    let mut pair = Pair::new(extended(Vec::new(), LOG, b'a'));
    // Long enough for the leader to have told what it found.
    pair.run(2 * ABSENT);
    let before = pair.view.version;
    let seconds = 60;
    for round in 0..seconds * 10 {
        copied(&mut pair, (round % 2 == 0).then_some(50));
        pair.run(TICK);
    }
    let written = pair.view.version - before;
    assert!(
        (1..=seconds).contains(&written),
        "{written} changes in {seconds} s"
    );
}
