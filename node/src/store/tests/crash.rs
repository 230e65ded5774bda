//! Kill -9 at any moment: what was reported durable is there, the log is whole, and applying the
//! rest of it leads to the state of a replica that was never killed.
//!
//! The test runs itself as a child process that writes and reports each step on its standard
//! output; the parent kills it after a random while, opens what is left, and lets the next child go
//! on from there.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// Children killed, one after the other, on the same disk.
const KILLS: u64 = 24;

/// Names the child's directory; without it the child has nothing to do.
const DIRECTORY: &str = "PERCOLATE_CRASH_TEST_DIRECTORY";

/// The path of [`child`] in the test binary.
const CHILD: &str = "store::tests::crash::child";

/// What the child has said about its disk when it was killed.
#[derive(Debug, Default)]
struct Reported {
    /// Last entry whose append has returned, unless a cut was begun since.
    durable: Option<(Index, String)>,
    applied: Index,
    /// What was applied before the last write to the log: synced with that.
    applied_durably: Index,
    promised: Epoch,
    lines: usize,
}

#[test]
fn nothing_reported_durable_is_lost_by_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut entries = 0;
    for kill in 0..KILLS {
        let reported = run_and_kill(directory.path(), delay(kill));
        let store = open(directory.path());
        check(&store, &reported);
        entries = store.durable().last.index;
    }
    assert!(
        entries > KILLS,
        "the children got nowhere: {entries} entries"
    );
}

/// Between a start and a few hundred steps. Different at every run: the moments matter, and a
/// failure names its report, not a seed that could not reproduce it.
fn delay(kill: u64) -> Duration {
    Duration::from_millis(RandomState::new().hash_one(kill) % 120)
}

fn run_and_kill(directory: &Path, delay: Duration) -> Reported {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            CHILD,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The clock runs from the first sign of life: a loaded machine may take long to start a process.
    lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line == "begun")
        .expect("the child begins");
    let killer = std::thread::spawn(move || kill_after(child, delay));
    let mut reported = Reported::default();
    for line in lines.map_while(Result::ok) {
        reported.read(&line);
    }
    killer.join().unwrap();
    reported
}

fn kill_after(mut child: Child, delay: Duration) {
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

impl Reported {
    /// A last line cut short by the kill says nothing.
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["durable", index, chain, "."] => {
                self.durable = Some((index.parse().unwrap(), (*chain).to_owned()));
                self.applied_durably = self.applied;
            }
            ["cutting", "."] => self.durable = None,
            ["applied", index, "."] => self.applied = index.parse().unwrap(),
            ["promised", epoch, "."] => self.promised = epoch.parse().unwrap(),
            _ => return,
        }
        self.lines += 1;
    }
}

fn check(store: &Store, reported: &Reported) {
    let durable = store.durable();
    let last = durable.last;
    assert!(
        durable.promised_epoch >= reported.promised,
        "{durable:?} after {reported:?}"
    );
    assert!(durable.applied.index <= last.index, "{durable:?}");
    assert!(
        durable.applied.index >= reported.applied_durably,
        "what the log was written after is as durable as that: {durable:?} after {reported:?}"
    );
    if let Some((index, chain)) = &reported.durable {
        let head = store
            .head(*index)
            .unwrap()
            .unwrap_or_else(|| panic!("{durable:?} after {reported:?}"));
        assert_eq!(&hexadecimal(head), chain);
    }
    let entries = store.read(1, usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, last.index);
    let chained = entries.iter().try_fold(Head::default(), |head, entry| {
        entry.follows(head).then_some(entry.head)
    });
    assert_eq!(chained, Some(last), "the log is not whole");
    store
        .apply(&entries[usize::try_from(durable.applied.index).unwrap()..])
        .unwrap();

    let undisturbed = Fixture::new();
    append(&undisturbed.store, &entries);
    undisturbed.store.apply(&entries).unwrap();
    assert_eq!(
        store.state_hash().unwrap(),
        undisturbed.store.state_hash().unwrap()
    );
}

#[test]
#[ignore = "the process that nothing_reported_durable_is_lost_by_kill_9 starts and kills"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = open(Path::new(&directory));
    if store.durable().incarnation.is_none() {
        store
            .persist(&LogChange {
                incarnation: Some(HISTORY),
                ..LogChange::default()
            })
            .unwrap();
    }
    // The test harness has written "test … " without a line's end before.
    say(&format_args!("\nbegun"));
    for step in 0.. {
        work(&store, step);
    }
}

/// One step of a replica: sometimes a new epoch that cuts what is not applied, then entries, then
/// apply some of what is not applied yet.
fn work(store: &Store, step: u64) {
    let Durable {
        last,
        applied,
        promised_epoch,
        ..
    } = store.durable();
    let mut change = LogChange::default();
    let mut head = last;
    if step % 7 == 6 {
        say(&format_args!("cutting ."));
        change.promise = Some(promised_epoch + 1);
        change.truncate_after = Some(applied.index);
        head = applied;
    }
    let epoch = change.promise.unwrap_or(promised_epoch).max(1);
    for n in 0..=step % 3 {
        let entry = Entry::after(head, epoch, payload(head.index + 1, n));
        head = entry.head;
        change.append.push(Arc::new(entry));
    }
    store.persist(&change).unwrap();
    say(&format_args!(
        "durable {} {} .",
        head.index,
        hexadecimal(head)
    ));
    say(&format_args!("promised {epoch} ."));
    if !step.is_multiple_of(3) {
        let entries = store.read(applied.index + 1, 2000).unwrap();
        store.apply(&entries).unwrap();
        say(&format_args!("applied {} .", store.applied().index));
    }
}

/// Few items, so that they are overwritten, and now and then a value larger than a disk's page.
fn payload(index: Index, n: u64) -> Vec<u8> {
    let size = if index.is_multiple_of(11) { 20_000 } else { 50 };
    let name = format!("item-{}", (index * 31 + n) % 13);
    let key = IdempotencyKey::new(format!("key-{}", index / 2)).unwrap();
    let operations = vec![
        put_entity(&name, &"x".repeat(size), &[]),
        put_edge(&name, "item-1"),
    ];
    let transaction =
        Transaction::new(Hlc::from_wall_ms(1_000_000 + index), Some(key), operations).unwrap();
    codec::encode_transaction(&transaction)
}

fn hexadecimal(head: Head) -> String {
    format!("{:032x}", u128::from_be_bytes(head.chain.0))
}

fn say(line: &std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}
