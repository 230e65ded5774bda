//! Memory and processor time of this process, from `/proc`. Elsewhere both stay 0.

use std::fs;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The kernel counts processor time for user space in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Default)]
pub(super) struct Usage {
    resident_bytes: Gauge<u64, AtomicU64>,
    cpu_seconds: Counter<f64, AtomicU64>,
}

impl Usage {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "resident",
            "Memory of this process",
            Unit::Bytes,
            self.resident_bytes.clone(),
        );
        registry.register_with_unit(
            "cpu",
            "Processor time of this process",
            Unit::Seconds,
            self.cpu_seconds.clone(),
        );
    }

    pub(super) fn read(&self) {
        if let Some(bytes) = fs::read_to_string("/proc/self/status")
            .ok()
            .as_deref()
            .and_then(resident_bytes)
        {
            self.resident_bytes.set(bytes);
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(cpu_seconds)
        {
            let spent = seconds - self.cpu_seconds.get();
            self.cpu_seconds.inc_by(spent.max(0.0));
        }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The program's name may hold spaces and brackets; the fields begin after its closing one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<f64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map_while(|ticks| ticks.parse().ok())
        .collect();
    let &[user, system] = ticks.as_slice() else {
        return None;
    };
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_kernels_text() {
        assert_eq!(
            resident_bytes("Name:\tx\nVmRSS:\t   20480 kB\nThreads:\t1\n"),
            Some(20_971_520)
        );
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }
}
