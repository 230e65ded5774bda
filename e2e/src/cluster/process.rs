//! Processes that outlive the command which starts them, found again by a record on disk.
//!
//! A record holds the process id *and* its start time, so that a number used again by someone else is
//! never signalled; and the whole command line, so that a killed process can be started as it was.
//! Every process also carries [`MARK`] in its environment, which children inherit (containerd's
//! shims do): what has no record, for instance after a crash, is still known as ours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::command::{SYSTEM_PATH, wait_until};

/// Environment variable with the state directory of the cluster that a process belongs to.
pub(super) const MARK: &str = "PERCOLATE_E2E_CLUSTER";
/// How long a killed process may take to vanish: it may be inside a slow disk write.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What to run, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Service {
    /// Its name in records, logs and faults, for instance `kube-apiserver` or `node1/kubelet`.
    pub(super) name: String,
    /// Network namespace to run in; the host's if none.
    pub(super) namespace: Option<String>,
    /// The program's path.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
}

/// A service that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// What was run.
    pub(super) service: Service,
    pid: i32,
    start_time: u64,
}

impl Record {
    /// Whether that very process still lives. A stopped one does.
    pub(super) fn is_alive(&self) -> bool {
        ProcessState::read(self.pid)
            .is_some_and(|state| state.start_time == self.start_time && !state.is_dead())
    }

    /// Sends a signal; an error when the process is gone.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            bail!("{} does not run", self.service.name);
        }
        send(self.pid, signal)
    }

    /// Kills the process and waits until it is gone, so that its ports and files are free.
    pub(super) fn kill(&self) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        send(self.pid, Signal::KILL)?;
        let what = format!("{} is gone after SIGKILL", self.service.name);
        wait_until(&what, DEATH_TIMEOUT, POLL, || !self.is_alive())
    }
}

/// The records of one cluster.
pub(super) struct ProcessTable {
    state: PathBuf,
    records: PathBuf,
    logs: PathBuf,
}

impl ProcessTable {
    /// The table of this cluster, which may be empty.
    pub(super) fn of(layout: &Layout) -> Self {
        Self {
            state: layout.state().to_owned(),
            records: layout.processes(),
            logs: layout.logs(),
        }
    }

    /// Starts a service in a session of its own, with its output appended to its log.
    pub(super) fn start(&self, service: Service) -> Result<Record> {
        fs::create_dir_all(&self.records)?;
        let log = self.log(&service.name);
        fs::create_dir_all(&self.logs)?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        // setsid and nsenter replace themselves with the program: the process id stays the same.
        let mut command = Command::new("setsid");
        if let Some(namespace) = &service.namespace {
            // Not `ip netns exec`: that mounts /sys anew and hides the cgroups from kubelet.
            command
                .arg("nsenter")
                .arg(format!("--net=/var/run/netns/{namespace}"));
        }
        command
            .arg(&service.program)
            .args(&service.arguments)
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", &self.state)
            .env(MARK, &self.state)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", service.name))?;
        let pid = i32::try_from(child.id())?;
        let start_time = ProcessState::read(pid)
            .with_context(|| format!("{} ended at once, see {}", service.name, log.display()))?
            .start_time;
        let record = Record {
            service,
            pid,
            start_time,
        };
        fs::write(
            self.record(&record.service.name),
            serde_json::to_vec_pretty(&record)?,
        )?;
        Ok(record)
    }

    /// The record of a service.
    pub(super) fn get(&self, name: &str) -> Result<Record> {
        let bytes = fs::read(self.record(name)).with_context(|| {
            let known: Vec<_> = self
                .all()
                .into_iter()
                .map(|record| record.service.name)
                .collect();
            format!("no process {name} was started, only {}", known.join(", "))
        })?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// All records that can be read; a torn one, from a crash, is left out.
    pub(super) fn all(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.records) else {
            return Vec::new();
        };
        let mut records: Vec<Record> = entries
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
            .collect();
        records.sort_by(|a, b| a.service.name.cmp(&b.service.name));
        records
    }

    /// The log of a service.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}.log", file_name(name)))
    }

    fn record(&self, name: &str) -> PathBuf {
        self.records.join(format!("{}.json", file_name(name)))
    }
}

/// Every process that carries the mark of the cluster at `state`, with or without a record.
pub(super) fn marked(state: &Path) -> Vec<i32> {
    let mark = format!("{MARK}={}", state.display());
    all_pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == mark.as_bytes())
            })
        })
        .collect()
}

/// Kills these processes and waits until all of them are gone.
pub(super) fn kill_all(pids: &[i32]) -> Result<()> {
    let alive: BTreeMap<i32, u64> = pids
        .iter()
        .filter_map(|pid| Some((*pid, ProcessState::read(*pid)?.start_time)))
        .collect();
    for pid in alive.keys() {
        // An error means that it went by itself meanwhile; the wait below decides.
        let _ = send(*pid, Signal::KILL);
    }
    wait_until("killed processes are gone", DEATH_TIMEOUT, POLL, || {
        alive.iter().all(|(pid, start_time)| {
            ProcessState::read(*pid)
                .is_none_or(|state| state.start_time != *start_time || state.is_dead())
        })
    })
}

/// Sends a signal to a process.
pub(super) fn send(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("process 0 cannot be signalled")?;
    kill_process(pid, signal).with_context(|| format!("cannot signal process {pid:?}"))
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn file_name(service: &str) -> String {
    service.replace('/', "-")
}

/// The part of `/proc/<pid>/stat` that tells one life of a process id from the next.
#[derive(Debug, PartialEq, Eq)]
struct ProcessState {
    letter: char,
    start_time: u64,
}

impl ProcessState {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields are counted from the last `)`: the name before it may contain anything.
    fn parse(stat: &str) -> Option<Self> {
        const STATE: usize = 0;
        const START_TIME: usize = 19;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            letter: fields.get(STATE)?.chars().next()?,
            start_time: fields.get(START_TIME)?.parse().ok()?,
        })
    }

    /// A zombie has let go of everything but its number.
    fn is_dead(&self) -> bool {
        matches!(self.letter, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (tempfile::TempDir, ProcessTable) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let table = ProcessTable::of(&Layout::at(directory.path().to_owned()));
        (directory, table)
    }

    fn sleeper() -> Service {
        Service {
            name: "node1/sleeper".into(),
            namespace: None,
            program: "sleep".into(),
            arguments: vec!["600".into()],
        }
    }

    #[test]
    fn stat_is_read_past_a_name_with_spaces_and_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 1 2 3";
        let state = ProcessState::parse(stat).expect("readable");
        assert_eq!(
            state,
            ProcessState {
                letter: 'S',
                start_time: 4242
            }
        );
        assert_eq!(ProcessState::parse("7 (truncated"), None);
    }

    #[test]
    fn a_started_process_is_found_by_record_and_mark_and_gone_after_kill() {
        let (directory, table) = table();
        let record = table.start(sleeper()).expect("sleep starts");
        assert!(record.is_alive());
        assert_eq!(marked(directory.path()), [record.pid]);
        let found = table.get("node1/sleeper").expect("recorded");
        assert_eq!((found.pid, &found.service), (record.pid, &sleeper()));
        found.kill().expect("killed");
        assert!(!record.is_alive());
        assert!(found.signal(Signal::CONT).is_err());
    }

    #[test]
    fn a_number_used_by_another_process_is_not_signalled() {
        let (_directory, table) = table();
        let record = table.start(sleeper()).expect("sleep starts");
        let stale = Record {
            start_time: record.start_time - 1,
            ..record.clone()
        };
        assert!(!stale.is_alive());
        stale.kill().expect("nothing to do");
        assert!(record.is_alive());
        kill_all(&[record.pid]).expect("killed");
        assert!(!record.is_alive());
    }
}
