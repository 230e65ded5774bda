//! A follower on cores of its own, as it is on a machine of its own: what it does with its processor must
//! not look as if its leader were slow.
//!
//! ```text
//! cores of this process ─► halves: leader and clients │ follower
//! ```
//! Disk and memory stay shared. With one core there is nothing to part.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::daemon::Daemon;
use crate::command::{run, system};

/// This program and a leader on one half of the cores; this program on all of them again when this is
/// dropped.
pub(super) struct Parted {
    all: String,
    halves: Option<[String; 2]>,
}

impl Parted {
    /// Keeps this program, and with it the clients, and `leader` to the first half.
    pub(super) fn from(leader: &Daemon) -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let all =
            allowed_in(&status).context("the kernel does not say on which cores this runs")?;
        let halves = halves(&all);
        let parted = Self {
            all: listed(&all),
            halves,
        };
        if let Some([first, _]) = &parted.halves {
            keep(std::process::id(), first)?;
            keep(leader.id(), first)?;
        }
        Ok(parted)
    }

    /// The other half.
    pub(super) fn others(&self) -> Option<String> {
        self.halves.as_ref().map(|[_, second]| second.clone())
    }

    /// Keeps a follower that was just started to the other half.
    pub(super) fn keep_apart(&self, follower: &Daemon) -> Result<()> {
        match &self.halves {
            Some([_, second]) => keep(follower.id(), second),
            None => Ok(()),
        }
    }
}

impl Drop for Parted {
    fn drop(&mut self) {
        // What remains is measured on fewer cores then, which only this could say.
        if let Err(error) = keep(std::process::id(), &self.all) {
            crate::progress::say(&format!(
                "  this program stays on half of the cores: {error:#}"
            ));
        }
    }
}

/// `program` on these cores, if there are any to part.
pub(super) fn program_on(cores: Option<&str>, program: &Path) -> Command {
    let Some(cores) = cores else {
        return Command::new(program);
    };
    let mut command = system("taskset");
    command.args(["--cpu-list", cores]).arg(program);
    command
}

/// Keeps the thread that calls this to these cores, if there are any to part.
pub(super) fn stay_on(cores: Option<&str>) -> Result<()> {
    let Some(cores) = cores else { return Ok(()) };
    let thread = fs::read_link("/proc/thread-self").context("which thread is this")?;
    let thread = thread.file_name().context("which thread is this")?;
    let arguments = ["--cpu-list", "--pid", cores].map(OsStr::new);
    run(system("taskset").args(arguments).arg(thread)).map(drop)
}

/// All threads of a process, and those that they will start.
fn keep(process: u32, cores: &str) -> Result<()> {
    let process = process.to_string();
    let arguments = ["--all-tasks", "--cpu-list", "--pid", cores, &process];
    run(system("taskset").args(arguments)).map(drop)
}

/// From a line such as `Cpus_allowed_list: 0-2,5`.
fn allowed_in(status: &str) -> Option<Vec<usize>> {
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = Vec::new();
    for part in allowed.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cores)
}

fn halves(cores: &[usize]) -> Option<[String; 2]> {
    let (first, second) = cores.split_at(cores.len() / 2);
    (!first.is_empty()).then(|| [listed(first), listed(second)])
}

fn listed(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_belongs_to_one_half() {
        for (list, expected) in [
            ("0-1", Some(["0", "1"])),
            ("0-2,5", Some(["0,1", "2,5"])),
            ("3,7,9", Some(["3", "7,9"])),
            ("4", None),
        ] {
            let status = format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n");
            let cores = allowed_in(&status).expect("readable");
            let expected = expected.map(|halves| halves.map(str::to_owned));
            assert_eq!(halves(&cores), expected, "{list}");
        }
        assert_eq!(allowed_in("Cpus_allowed_list:\tmany\n"), None);
        assert_eq!(allowed_in(""), None);
    }
}
