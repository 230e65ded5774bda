//! When nobody in sync is left, nobody leads; until a person accepts the loss, and then the one that
//! has most of the rest.

#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "simulation/disk.rs"]
mod disk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use disk::Disk;
use percolate_core::identity::{Epoch, Incarnation, Index, ReplicaId};
use percolate_core::log::{Entry, Head, ReadLog, SharedEntry};
use percolate_core::register::{
    Action, FailoverReason, Member, Register, Request, View, check_change,
};
use percolate_core::replica::message::Outrun;
use percolate_core::replica::{
    ChangeOutcome, Config, Effect, Input, Message, Persist, Position, Replica, Stranded, Timing,
};

const LOST: ReplicaId = ReplicaId(1);
const BEHIND: ReplicaId = ReplicaId(2);
const FURTHER_BEHIND: ReplicaId = ReplicaId(3);
const EMPTY: ReplicaId = ReplicaId(4);
const EMPTY_TOO: ReplicaId = ReplicaId(5);
const INCARNATION: Incarnation = Incarnation(7 << 64);
/// The epoch of the leader that is lost.
const EPOCH: Epoch = 3;
/// What it held, and what it had told the register that it holds.
const ALL: usize = 12;
const HELD: Index = 10;

/// A pod, and the replica on its disk.
struct Node {
    replica: Replica,
    disk: Disk,
}

/// Replicas that hear each other at once, and their register.
struct Group {
    now: u64,
    nodes: BTreeMap<ReplicaId, Node>,
    view: View,
    sent: VecDeque<(ReplicaId, ReplicaId, Message)>,
    /// Hears no other, and nobody hears it.
    cut_off: Option<ReplicaId>,
    /// Is not told of the register's changes; it may still read it.
    deaf: Option<ReplicaId>,
    /// Its disk takes what is written, and syncs nothing.
    hangs: Option<ReplicaId>,
    /// Snapshots are asked for, and never copied.
    copies_hang: bool,
}

fn pod(replica: ReplicaId) -> String {
    // The empty disks have taken the places of these.
    let ordinal = match replica {
        EMPTY => LOST.0,
        EMPTY_TOO => BEHIND.0,
        other => other.0,
    };
    format!("acme-{ordinal}")
}

/// The beginning of the one log that there was.
fn log(count: usize) -> Vec<SharedEntry> {
    let mut entries = Vec::new();
    extend(&mut entries, EPOCH, count);
    entries
}

/// Entries whose payload is the place at which they were made.
fn extend(entries: &mut Vec<SharedEntry>, epoch: Epoch, count: usize) {
    for _ in 0..count {
        let head = entries.last().map_or(Head::default(), |last| last.head);
        let payload = vec![u8::try_from(entries.len()).expect("few")];
        entries.push(Entry::after(head, epoch, payload).into());
    }
}

/// A disk with these entries, all but `open` of them applied.
fn disk_of(entries: Vec<SharedEntry>, open: Index) -> Disk {
    let mut disk = Disk::default();
    let last = entries.len() as Index;
    if last > 0 {
        disk.write(Persist {
            ticket: 0,
            incarnation: Some(INCARNATION),
            promised_epoch: EPOCH,
            truncate_after: None,
            append: entries,
            forget: Vec::new(),
        });
        disk.sync(1);
        disk.apply(last - open);
    }
    disk
}

impl Group {
    /// Led by the lost one, which alone is in sync; the others are known and behind.
    fn new() -> Self {
        let member = |replica| Member {
            replica,
            pod: pod(replica),
            state: None,
        };
        let register = Register {
            incarnation: INCARNATION,
            epoch: EPOCH,
            leader: LOST,
            in_sync: BTreeSet::from([LOST]),
            replicas: [LOST, BEHIND, FURTHER_BEHIND].map(member).to_vec(),
            answers: Vec::new(),
            held: HELD,
            last_failover: None,
            loss: None,
        };
        Self {
            now: 0,
            nodes: BTreeMap::new(),
            view: View {
                version: 1,
                register: Some(register),
                min_in_sync: 1,
                bootstrap: false,
                requests: Vec::new(),
            },
            sent: VecDeque::new(),
            cut_off: None,
            deaf: None,
            hangs: None,
            copies_hang: false,
        }
    }

    /// With a process on a disk that has so many entries, all applied.
    fn with(mut self, replica: ReplicaId, entries: usize) -> Self {
        self.start(replica, entries);
        self
    }

    fn start(&mut self, replica: ReplicaId, entries: usize) {
        self.start_on(replica, disk_of(log(entries), 0));
    }

    /// The process is killed, and begins anew on its disk.
    fn restart(&mut self, replica: ReplicaId) {
        let mut disk = self.nodes.remove(&replica).expect("it runs").disk;
        disk.crash();
        self.start_on(replica, disk);
    }

    fn start_on(&mut self, replica: ReplicaId, disk: Disk) {
        let config = Config {
            replica,
            pod: pod(replica),
            fresh_incarnation: Incarnation(8),
            opening_after_loss: b"after a loss".to_vec(),
            jitter_seed: 1,
            timing: Timing::new(500, 2_500),
        };
        let machine = Replica::new(config, disk.restored(), self.now);
        let node = Node {
            replica: machine,
            disk,
        };
        self.nodes.insert(replica, node);
        self.step(replica, Input::RegisterRead(Some(self.view.clone())));
    }

    /// Clients of the new leader write.
    fn write(&mut self, count: u64) {
        for id in 0..count {
            let payload = b"new".to_vec();
            self.step(BEHIND, Input::Propose { id, payload });
        }
    }

    fn accept_loss_of(&mut self, epoch: Epoch) {
        self.view.requests = vec![Request {
            id: format!("accept-loss-{epoch}"),
            action: Action::AcceptLoss { epoch },
        }];
        self.view.version += 1;
        self.tell_register();
    }

    fn tell_register(&mut self) {
        for replica in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.deaf != Some(replica) {
                self.step(replica, Input::Watched(self.view.clone()));
            }
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += 100;
            for replica in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.step(replica, Input::Tick);
            }
            let mut heard = 0;
            while let Some((from, to, message)) = self.sent.pop_front() {
                heard += 1;
                assert!(heard < 10_000, "they never fall silent: {message:?}");
                let is_heard = ![Some(from), Some(to)].contains(&self.cut_off);
                if is_heard && self.nodes.contains_key(&to) {
                    self.step(to, Input::Received { from, message });
                }
            }
        }
    }

    fn step(&mut self, replica: ReplicaId, input: Input) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&replica) else {
            return;
        };
        let mut effects = node.replica.step(now, input, &node.disk);
        effects.extend(node.replica.flush(now, &node.disk));
        for effect in effects {
            self.carry_out(replica, effect);
        }
    }

    fn carry_out(&mut self, replica: ReplicaId, effect: Effect) {
        let node = self.nodes.get_mut(&replica).expect("it runs");
        match effect {
            Effect::Persist(write) => {
                node.disk.write(write);
                if self.hangs != Some(replica) {
                    let ticket = node.disk.sync(1).expect("one is pending");
                    self.step(replica, Input::Persisted(ticket));
                }
            }
            Effect::Commit(index) => node.disk.apply(index),
            Effect::Send {
                to,
                pod: at,
                message,
            } => {
                assert_eq!(at, pod(to), "sent to where it is");
                self.sent.push_back((replica, to, message));
            }
            Effect::ReadRegister => {
                self.step(replica, Input::RegisterRead(Some(self.view.clone())));
            }
            Effect::ChangeRegister { expected, register } => {
                self.change(replica, expected, register);
            }
            Effect::FetchSnapshot { .. } if self.copies_hang => {}
            Effect::FetchSnapshot { .. } => self.step(replica, Input::SnapshotFetched),
            Effect::InstallSnapshot { given_up } => self.install(replica, given_up),
            Effect::Rescue(entries) => {
                let proposal = |entry: &SharedEntry| (entry.head.place(), entry.payload.clone());
                let proposals = entries.iter().map(proposal).collect();
                self.step(replica, Input::Rescue(proposals));
            }
            _ => {}
        }
    }

    /// The process ends, and the next one begins on what the leader has applied.
    fn install(&mut self, replica: ReplicaId, given_up: bool) {
        let copy = self.nodes[&self.register().leader].disk.clone();
        let mut disk = self.nodes.remove(&replica).expect("it runs").disk;
        disk.install(&copy, given_up);
        self.start_on(replica, disk);
    }

    fn change(&mut self, replica: ReplicaId, expected: u64, register: Register) {
        let known = self.view.register.as_ref();
        check_change(known, Some(&register), &self.view.requests).expect("a safe change");
        let outcome = if expected == self.view.version {
            self.view.version += 1;
            self.view.register = Some(register);
            ChangeOutcome::Applied(Box::new(self.view.clone()))
        } else {
            ChangeOutcome::NotKnownApplied
        };
        self.step(replica, Input::RegisterChanged(outcome));
        self.tell_register();
    }

    fn register(&self) -> &Register {
        self.view.register.as_ref().expect("there is a history")
    }

    fn position(&self, replica: ReplicaId) -> Position {
        let node = &self.nodes[&replica];
        node.replica.standing(&node.disk).position
    }

    /// What stands in a replica's log from an index on.
    fn payloads(&self, replica: ReplicaId, from: Index) -> Vec<Vec<u8>> {
        let disk = &self.nodes[&replica].disk;
        let places = from..=disk.last().index;
        let entries = places.flat_map(|index| disk.read(index, 1).into_iter().take(1));
        entries.map(|entry| entry.payload.clone()).collect()
    }

    /// The lost one follows whoever leads, in sync, and all that only it held is in the log again.
    fn check_given_back(&self, only_it_held: std::ops::Range<u8>) {
        assert_eq!(self.position(LOST), Position::Follower);
        let leader = self.register().leader;
        assert_eq!(self.last(LOST), self.last(leader));
        assert!(self.register().in_sync.contains(&LOST));
        let there = self.payloads(leader, 1);
        for number in only_it_held {
            let times = there.iter().filter(|payload| **payload == [number]).count();
            assert!(times > 0, "{number} is missing in {there:?}");
        }
    }

    fn last(&self, replica: ReplicaId) -> Head {
        self.nodes[&replica].disk.last()
    }
}

#[test]
fn nobody_leads_while_no_person_has_accepted_the_loss_of_this_epoch() {
    let mut group = Group::new().with(BEHIND, 8).with(FURTHER_BEHIND, 5);
    group.run(60_000);
    assert_eq!(
        (group.register().epoch, group.register().leader),
        (EPOCH, LOST)
    );
    group.accept_loss_of(EPOCH - 1);
    group.run(60_000);
    assert_eq!(
        (group.register().epoch, group.register().leader),
        (EPOCH, LOST)
    );
}

#[test]
fn the_one_that_has_most_leads_without_what_is_lost_and_the_others_follow() {
    for starts in [[FURTHER_BEHIND, BEHIND], [BEHIND, FURTHER_BEHIND]] {
        let mut group = Group::new().with(EMPTY, 0);
        for replica in starts {
            group.start(replica, if replica == BEHIND { 8 } else { 5 });
        }
        group.accept_loss_of(EPOCH);
        group.run(20_000);
        let register = group.register();
        assert_eq!((register.epoch, register.leader), (EPOCH + 1, BEHIND));
        assert_eq!(register.loss, Some(EPOCH + 1));
        assert_eq!(register.incarnation, INCARNATION);
        let failover = register.last_failover.as_ref().expect("told");
        assert_eq!(failover.reason, FailoverReason::LossAccepted);
        assert_eq!(failover.from, Some(LOST));
        let refused = |answer: &percolate_core::register::Answer| answer.refused.is_some();
        assert!(!register.answers.is_empty() && !register.answers.iter().any(refused));
        let all = BTreeSet::from([BEHIND, FURTHER_BEHIND, EMPTY]);
        assert_eq!(register.in_sync, all);
        assert_eq!(
            group.last(BEHIND).index,
            9,
            "and the entry that began the epoch"
        );
        for replica in all {
            assert_eq!(group.last(replica), group.last(BEHIND));
        }
    }
}

#[test]
fn an_empty_disk_leads_only_where_nobody_is_known_to_have_anything() {
    let mut group = Group::new().with(EMPTY, 0);
    group.accept_loss_of(EPOCH);
    group.run(60_000);
    assert_eq!(group.register().epoch, EPOCH, "the others may come back");
    assert_eq!(
        group.register().pod_of(EMPTY),
        Some("acme-1"),
        "it tells that it is there"
    );

    let mut alone = Group::new();
    if let Some(register) = &mut alone.view.register {
        register.replicas.retain(|member| member.replica == LOST);
    }
    let mut alone = alone.with(EMPTY, 0);
    alone.accept_loss_of(EPOCH);
    alone.run(20_000);
    assert_eq!(
        (alone.register().epoch, alone.register().leader),
        (EPOCH + 1, EMPTY)
    );
    assert_eq!(alone.position(EMPTY), Position::Leader);
}

#[test]
fn an_older_state_of_the_only_disk_leads_once_its_loss_is_accepted() {
    let mut group = Group::new().with(LOST, 6);
    group.run(20_000);
    assert_eq!(group.register().epoch, EPOCH);
    let outdated = Stranded::Outdated {
        held: HELD,
        last: 6,
    };
    assert_eq!(group.position(LOST), Position::Stranded(outdated));
    // Its process has ended; the next one finds the loss accepted.
    group.nodes.clear();
    group.accept_loss_of(EPOCH);
    group.start(LOST, 6);
    group.run(20_000);
    assert_eq!(
        (group.register().epoch, group.register().leader),
        (EPOCH + 1, LOST)
    );
    assert_eq!(group.register().loss, Some(EPOCH + 1));
    assert_eq!(group.position(LOST), Position::Leader);
}

#[test]
fn an_accepted_loss_costs_nothing_while_one_in_sync_is_there() {
    let mut group = Group::new().with(BEHIND, 8);
    group.accept_loss_of(EPOCH);
    group.start(LOST, ALL);
    group.run(20_000);
    let register = group.register();
    assert_eq!((register.leader, register.loss), (LOST, None));
    assert_eq!(
        register
            .last_failover
            .as_ref()
            .map(|failover| failover.reason),
        Some(FailoverReason::LeaderRestarted)
    );
    assert_eq!(group.last(BEHIND), group.last(LOST), "and it follows");
}

#[test]
fn the_lost_one_comes_back_follows_and_what_only_it_held_comes_with_it() {
    let mut group = Group::new().with(BEHIND, 8);
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    let epoch = group.register().epoch;
    group.start(LOST, ALL);
    group.run(20_000);
    assert_eq!(
        (group.register().epoch, group.register().leader),
        (epoch, BEHIND)
    );
    group.check_given_back(8..12);
    let opening = b"after a loss".to_vec();
    let rescued = [opening, vec![8], vec![9], vec![10], vec![11]];
    assert_eq!(group.payloads(BEHIND, 9), rescued, "each once, in order");
}

#[test]
fn it_comes_back_to_a_leader_that_has_gone_further() {
    type Change = fn(&mut Group);
    let restarted: Change = |group| group.restart(BEHIND);
    let trimmed: Change = |group| {
        let disk = &mut group.nodes.get_mut(&BEHIND).expect("it runs").disk;
        disk.trim(Index::MAX);
    };
    let written: Change = |group| group.write(20);
    let all: Change = |group| {
        group.restart(BEHIND);
        group.run(5_000);
        group.write(20);
        group.run(5_000);
        group.restart(BEHIND);
    };
    for (case, change) in [
        ("restarted", restarted),
        ("trimmed", trimmed),
        ("written", written),
        ("all", all),
    ] {
        let mut group = Group::new().with(BEHIND, 8);
        group.accept_loss_of(EPOCH);
        group.run(20_000);
        change(&mut group);
        group.run(5_000);
        group.start(LOST, ALL);
        eprintln!("{case}");
        group.run(20_000);
        group.check_given_back(8..12);
    }
}

#[test]
fn nobody_waits_for_the_lost_one_while_it_copies() {
    let mut group = Group::new().with(BEHIND, 8);
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    group.write(20);
    group.run(5_000);
    group.restart(BEHIND); // its epoch begins beyond what the lost one has
    group.run(5_000);
    group.copies_hang = true;
    group.start(LOST, ALL);
    for _ in 0..10 {
        group.write(1);
        group.run(1_500);
        let leader = &group.nodes[&BEHIND];
        let commit = leader.replica.standing(&leader.disk).commit;
        assert_eq!(commit, group.last(BEHIND).index, "a write waits");
        let lost = &group.nodes[&LOST];
        assert!(
            !lost.replica.standing(&lost.disk).serving,
            "it shows what is given up"
        );
    }
    group.copies_hang = false;
    group.run(20_000);
    group.check_given_back(8..12);
}

#[test]
fn what_the_new_leader_had_of_an_older_epoch_hides_nothing_of_what_was_given_up() {
    let mut shared = Vec::new();
    extend(&mut shared, EPOCH - 1, 8);
    let (mut own, mut lost) = (shared.clone(), shared);
    extend(&mut own, EPOCH - 1, 2); // never acknowledged
    extend(&mut lost, EPOCH, 12);
    let mut group = Group::new();
    group.start_on(BEHIND, disk_of(own, 2));
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    assert_eq!(group.register().leader, BEHIND);
    group.start_on(LOST, disk_of(lost, 0));
    group.run(20_000);
    group.check_given_back(8..20);
}

#[test]
fn where_two_in_sync_are_demanded_the_lost_one_is_the_second() {
    let mut group = Group::new().with(BEHIND, 8);
    group.view.min_in_sync = 2;
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    assert_eq!(group.register().in_sync, BTreeSet::from([BEHIND]));
    group.start(LOST, ALL);
    group.run(20_000);
    group.check_given_back(8..12);
}

#[test]
fn a_lost_leader_that_was_only_cut_off_hears_of_its_successor_before_of_the_loss() {
    let mut group = Group::new().with(LOST, ALL).with(BEHIND, 0);
    group.run(1_000);
    assert_eq!(group.position(LOST), Position::Leader);
    group.nodes.remove(&BEHIND);
    group.run(20_000);
    (group.cut_off, group.deaf) = (Some(LOST), Some(LOST));
    let epoch = group.register().epoch;
    if let Some(register) = &mut group.view.register {
        register.in_sync = BTreeSet::from([LOST]);
    }
    group.start(BEHIND, 8);
    group.accept_loss_of(epoch);
    group.run(20_000);
    assert_eq!(group.register().leader, BEHIND);
    assert_eq!(group.position(LOST), Position::Leader, "it does not know");
    group.cut_off = None;
    group.run(5_000);
    group.deaf = None;
    group.tell_register();
    group.run(5_000);
    group.check_given_back(8..12);
}

#[test]
fn the_log_says_that_entries_were_given_up_even_if_its_leader_fell_before_it_could() {
    let mut group = Group::new().with(BEHIND, 8);
    group.hangs = Some(BEHIND);
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    assert_eq!(
        group.register().epoch,
        EPOCH + 1,
        "it leads, and its disk has nothing of it"
    );
    group.hangs = None;
    group.restart(BEHIND);
    group.run(5_000);
    assert_eq!(group.register().epoch, EPOCH + 2);
    assert_eq!(group.payloads(BEHIND, 9), [b"after a loss".to_vec()]);
    group.restart(BEHIND);
    group.run(5_000);
    assert_eq!(group.payloads(BEHIND, 10), [Vec::<u8>::new()], "said once");
}

#[test]
fn of_disks_that_are_all_empty_one_leads() {
    let mut group = Group::new();
    if let Some(register) = &mut group.view.register {
        register
            .replicas
            .retain(|member| member.replica != FURTHER_BEHIND);
    }
    let mut group = group.with(EMPTY, 0).with(EMPTY_TOO, 0);
    group.run(20_000);
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    let register = group.register();
    assert_eq!(register.loss, Some(EPOCH + 1));
    assert_eq!(register.in_sync, BTreeSet::from([EMPTY, EMPTY_TOO]));
}

#[test]
fn who_is_in_sync_and_whole_leads_if_it_comes_back_in_time() {
    let mut group = Group::new();
    if let Some(register) = &mut group.view.register {
        register.in_sync = BTreeSet::from([LOST, FURTHER_BEHIND]);
    }
    // It has more, which nobody ever acknowledged.
    group.start_on(BEHIND, disk_of(log(ALL + 3), 7));
    group.accept_loss_of(EPOCH);
    group.run(4_500);
    assert_eq!(group.register().epoch, EPOCH, "it waits for others");
    group.start(FURTHER_BEHIND, ALL);
    group.run(20_000);
    let register = group.register();
    assert_eq!((register.leader, register.loss), (FURTHER_BEHIND, None));
}

#[test]
fn another_log_is_taken_for_damage_where_nothing_was_given_up() {
    let mut group = Group::new();
    if let Some(register) = &mut group.view.register {
        register.in_sync = BTreeSet::from([BEHIND]);
        register.held = 0;
    }
    let mut group = group.with(BEHIND, 8);
    group.run(20_000);
    assert_eq!(group.register().leader, BEHIND);
    group.start(LOST, ALL);
    group.run(20_000);
    let diverged = Stranded::Diverged { at: 9 };
    assert_eq!(group.position(LOST), Position::Stranded(diverged));
}

#[test]
fn a_leader_is_not_unsettled_by_what_was_given_up() {
    let mut group = Group::new().with(BEHIND, 8).with(FURTHER_BEHIND, 5);
    group.accept_loss_of(EPOCH);
    group.run(20_000);
    assert_eq!(group.register().in_sync.len(), 2);
    // The next leader commits nothing before the one in sync with it is back.
    group.view.min_in_sync = 2;
    group.view.version += 1;
    group.tell_register();
    group.nodes.remove(&BEHIND);
    group.run(20_000);
    assert_eq!(group.register().leader, FURTHER_BEHIND);
    let committed = log(ALL)[ALL - 1].head;
    let epoch = group.register().epoch;
    let message = Message::Outrun(Outrun { epoch, committed });
    group.step(
        FURTHER_BEHIND,
        Input::Received {
            from: LOST,
            message,
        },
    );
    assert_eq!(group.position(FURTHER_BEHIND), Position::Leader);
}
