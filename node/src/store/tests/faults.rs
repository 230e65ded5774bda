//! Disks that fail: a full one, one that cannot sync, write, read or create files. Each ends in one
//! named fault, nothing is taken for done that was not, and once the disk works again everything that
//! was reported durable is there.
//!
//! The test runs itself as a child process under a library that makes calls to the disk fail when
//! told (`faults/shim.c`, compiled here); the parent says what fails and reads what the child reports.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use super::*;
use crate::fault::Fault;
use crate::store::room::Room;

/// Names the child's directory; without it the child has nothing to do.
const DIRECTORY: &str = "PERCOLATE_FAULT_TEST_DIRECTORY";
/// The path of [`child`] in the test binary.
const CHILD: &str = "store::tests::faults::child";
/// Steps a child takes before its disk fails, and after at most: files are written meanwhile.
const STEPS: usize = 40;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// The library, compiled once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/faults/shim.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&path, &source])
            .status()
            .expect("a C compiler, as for the storage engine");
        assert!(compiled.success());
        (directory, path)
    });
    path
}

/// A process with a store, and what it has said.
struct Run {
    directory: TempDir,
    child: Child,
    orders: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    durable: Index,
}

impl Run {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                CHILD,
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DIRECTORY, directory.path().join("data"))
            .env("PERCOLATE_DISK_FAULT", directory.path().join("fault"))
            .env("LD_PRELOAD", shim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut run = Self {
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            orders: child.stdin.take().unwrap(),
            child,
            directory,
            durable: 0,
        };
        run.until("begun");
        run
    }

    /// From now on `call` fails on files whose path contains `part`.
    fn fail(&self, call: &str, code: i32, part: &str, times: u32) {
        let draft = self.directory.path().join("draft");
        fs::write(&draft, format!("{call} {code} {part} {times}\n")).unwrap();
        fs::rename(draft, self.directory.path().join("fault")).unwrap();
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// The rest of the first line that begins with `word`.
    fn until(&mut self, word: &str) -> String {
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(index) = line.strip_prefix("durable ") {
                self.durable = index.parse().unwrap();
            }
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
        panic!("the child never said {word:?}");
    }

    /// Waits for the end of the process; everything it reported is there afterwards.
    fn check_what_is_left(mut self, name: &str) {
        drop(self.orders);
        self.child.wait().unwrap();
        let store = open(&self.directory.path().join("data"));
        let last = store.durable().last.index;
        assert!(last >= self.durable, "{name}: {last} of {}", self.durable);
        assert!(self.durable > 0, "{name}: nothing was ever durable");
        let entries = store.read(store.applied().index + 1, usize::MAX).unwrap();
        store.apply(&entries).unwrap();
        assert_eq!(store.state_hash().unwrap().1, store.digest().hash, "{name}");
        store.examine(|_| true).unwrap();
    }
}

#[test]
fn a_disk_that_fails_to_write_ends_in_its_fault_and_nothing_reported_is_lost() {
    for (name, call, code, part, fault) in [
        ("a sync of the log", "sync", EIO, ".log", Fault::DiskFailed),
        (
            "no room for the log",
            "write",
            ENOSPC,
            ".log",
            Fault::DiskFull,
        ),
        (
            "a write of the log",
            "write",
            EIO,
            ".log",
            Fault::DiskFailed,
        ),
        (
            "no room for a flush",
            "write",
            ENOSPC,
            ".sst",
            Fault::DiskFull,
        ),
        ("a sync of a flush", "sync", EIO, ".sst", Fault::DiskFailed),
        (
            "no room for the manifest",
            "write",
            ENOSPC,
            "MANIFEST",
            Fault::DiskFull,
        ),
        (
            "a sync of the manifest",
            "sync",
            EIO,
            "MANIFEST",
            Fault::DiskFailed,
        ),
        (
            "read-only",
            "create",
            EROFS,
            "/data/store/",
            Fault::DiskFailed,
        ),
    ] {
        // For the log once is enough: the kernel may say yes the next time, and have dropped what it could
        // not write. What becomes of a file in the background the engine may try again with another.
        let times: &[u32] = if part == ".log" { &[1, 0] } else { &[0] };
        for times in times.iter().copied() {
            let name = format!("{name}, {times} times");
            let mut run = Run::start();
            run.order("work");
            run.until("worked");
            run.fail(call, code, part, times);
            run.order("work until it fails");
            let failed = run.until("failed ");
            assert_eq!(failed, fault.reason().name, "{name}");
            assert_eq!(run.until("then "), "stopped", "{name}");
            run.check_what_is_left(&name);
        }
    }
}

#[test]
fn what_cannot_be_read_is_damage() {
    let mut run = Run::start();
    run.order("work");
    run.until("worked");
    run.fail("read", EIO, ".sst", 0);
    run.order("read");
    assert_eq!(run.until("failed "), Fault::Damaged.reason().name);
    assert_eq!(run.until("then "), "stopped");
    fs::remove_file(run.directory.path().join("fault")).unwrap();
    run.check_what_is_left("unreadable");
}

#[test]
#[ignore = "the process that the tests of this file start"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = open(Path::new(&directory));
    let promise = LogChange {
        incarnation: Some(HISTORY),
        ..LogChange::default()
    };
    store.persist(&promise).unwrap();
    say(&format_args!("\nbegun"));
    for order in std::io::stdin().lines().map(Result::unwrap) {
        let result = match order.as_str() {
            "work" => work(&store, STEPS),
            "work until it fails" => work(&store, 100 * STEPS),
            _ => store.recount(|_| true),
        };
        match result {
            Ok(()) if order.ends_with("fails") => say(&format_args!("failed to fail")),
            Ok(()) => say(&format_args!("worked")),
            Err(error) => {
                let fault = error
                    .fault()
                    .map_or("no fault", |fault| fault.reason().name);
                say(&format_args!("failed {fault}"));
                // The engine might take it now: nobody may be told so.
                let again = work(&store, 1);
                let stopped = matches!(again, Err(StoreError::Stopped));
                let then = if stopped { "stopped" } else { "went on" };
                say(&format_args!("then {then}"));
            }
        }
    }
}

/// Some entries, and a flush now and then.
fn work(store: &Store, steps: usize) -> Result<(), StoreError> {
    for step in 0..steps {
        let head = store.durable().last;
        let content = format!("content of {} ", head.index).repeat(50);
        let name = format!("resource-{}", head.index);
        let now = Hlc::from_wall_ms(1_000_000 + head.index);
        let operations = vec![put_resource(&name, content.as_bytes())];
        let transaction = Transaction::new(now, None, operations).unwrap();
        let payload = codec::encode_transaction(&transaction);
        let entries = vec![Arc::new(Entry::after(head, 1, payload))];
        store.persist(&LogChange {
            append: entries.clone(),
            ..LogChange::default()
        })?;
        say(&format_args!("durable {}", head.index + 1));
        store.apply(&entries)?;
        if step % 10 == 9 {
            for family in Family::ALL {
                // As in the background, where nobody is told but by the next write.
                let _ = store.db.flush_cf(engine::family(&store.db, family));
            }
        }
    }
    Ok(())
}

fn say(line: &std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// A file system of its own in memory; `None`, said loudly, where that is not allowed.
struct Volume(TempDir);

impl Volume {
    fn mount(mebibytes: u32) -> Option<Self> {
        let volume = Self(tempfile::tempdir().unwrap());
        let size = format!("size={mebibytes}m");
        let mounted = volume.run(&["mount", "-t", "tmpfs", "-o", &size, "none"]);
        if !mounted {
            eprintln!(
                "SKIPPED: a full disk needs a file system of its own, and only root may mount one"
            );
        }
        mounted.then_some(volume)
    }

    fn enlarge(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        assert!(self.run(&["mount", "-o", &size]));
    }

    fn run(&self, command: &[&str]) -> bool {
        let ran = Command::new(command[0])
            .args(&command[1..])
            .arg(self.0.path())
            .output();
        ran.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.run(&["umount", "-l"]);
    }
}

#[test]
fn a_full_volume_is_waited_for_and_what_it_took_is_there_when_it_is_larger() {
    let Some(volume) = Volume::mount(24) else {
        return;
    };
    let directory = volume.0.path().join("data");
    let store = open(&directory);
    let mut last = Head::default();
    let noise: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| blake3::hash(&n.to_be_bytes()).as_bytes()[..4].to_vec())
        .collect();
    store
        .persist(&LogChange {
            incarnation: Some(HISTORY),
            ..LogChange::default()
        })
        .unwrap();
    let mut reported = 0;
    let failed = (1..10_000_u64).find_map(|n| {
        let operations = vec![put_resource(
            &n.to_string(),
            &[&n.to_be_bytes(), &noise[..]].concat(),
        )];
        let transaction = Transaction::new(Hlc::from_wall_ms(n), None, operations).unwrap();
        let entry = Arc::new(Entry::after(
            last,
            1,
            codec::encode_transaction(&transaction),
        ));
        let change = LogChange {
            append: vec![Arc::clone(&entry)],
            ..LogChange::default()
        };
        last = entry.head;
        if let Err(error) = store.persist(&change) {
            return Some(error);
        }
        reported = n;
        store.apply(&[entry]).err()
    });
    let failed = failed.expect("the volume fills up");
    assert_eq!(
        failed.fault(),
        Some(Fault::DiskFull),
        "{failed}: {failed:?}"
    );
    drop(store);
    // What the engine gave up halfway is room again; somebody takes that too.
    let mut ballast = fs::File::create(volume.0.path().join("ballast")).unwrap();
    while ballast.write_all(&[1; 1 << 12]).is_ok() {}
    assert!(!Room::of(&directory).unwrap().is_enough());

    volume.enlarge(128);
    assert!(Room::of(&directory).unwrap().is_enough());
    let store = open(&directory);
    assert!(store.durable().last.index >= reported);
    let entries = store.read(store.applied().index + 1, usize::MAX).unwrap();
    store.apply(&entries).unwrap();
    store.examine(|_| true).unwrap();
}
