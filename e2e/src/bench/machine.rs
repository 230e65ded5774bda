//! Facts about the machine, without which no figure means anything.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::command::{run, system};

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// What the processor calls itself.
    pub(super) processor: String,
    /// Memory, in GiB.
    pub(super) memory_gib: u64,
    /// Release of the kernel.
    pub(super) kernel: String,
    /// Kind of the file system that everybody wrote to.
    pub(super) file_system: String,
    /// Processes that wanted to run just before, on average over a minute: above one or two,
    /// something else disturbed the run.
    pub(super) load_before: f64,
}

impl Machine {
    /// This machine, as seen from `directory`.
    pub(super) fn here(directory: &Path) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let file_system = run(system("findmnt")
            .args(["--noheadings", "--output", "FSTYPE", "--target"])
            .arg(directory))?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_gib: kibibytes(&field(&read("/proc/meminfo"), "MemTotal")).div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system.trim().to_owned(),
            load_before: first_number(&read("/proc/loadavg")),
        })
    }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values
        .into_iter()
        .find(|(key, _)| key.trim() == name)
        .map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
}

fn kibibytes(text: &str) -> u64 {
    let number = text.split_whitespace().next();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn first_number(text: &str) -> f64 {
    let number = text.split_whitespace().next();
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_what_the_kernel_prints() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2:5\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name"), "Some CPU @ 2:5");
        assert_eq!(field(text, "colour"), "unknown");
        assert_eq!(kibibytes("24576000 kB"), 24_576_000);
        assert!((first_number("1.25 0.5 0.1 1/200 77\n") - 1.25).abs() < 1e-9);
    }
}
