//! A follower that was away long comes back, and the leader's log has all that it lacks.
//!
//! ```text
//! follower stopped ─► a million operations ─► started, under a steady load ─► in sync, readable
//! the same operations in batches, RocksDB alone ─► what part of that it reached
//! ```

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Sizes, calm, other, settled_store};
use crate::bench::closed_loop::{VALUE_BYTES, as_float};
use crate::bench::comeback::{self, Comeback, Seen, Writes};
use crate::bench::deployment::{Deployment, Setup};
use crate::bench::filling::{self, Filling};
use crate::bench::floor;
use crate::bench::place::Place;
use crate::bench::plot::curve::{Chart, Line};
use crate::bench::plot::{OWN_COLOUR, PEER_COLOUR};
use crate::bench::table::thousands;
use crate::bench::verdict::{Bound, Verdict, count, mebibytes, ratio};

/// The most that a request may carry.
const OPERATIONS_EACH: u64 = 1000;
/// More than any run writes: the log is to reach back.
const LOG_KEEP_BYTES: u64 = 32 << 30;
/// A name in the colour of a floor's bar would be too pale to read.
const FLOOR_LINE_COLOUR: &str = "#b45309";
/// Points of the curve that are kept: enough for the picture.
const POINTS: usize = 150;

const RATE: Bound = Bound {
    target: "operations per second until in sync",
    wanted: 100_000.0,
    shown: count,
};
const OF_FLOOR: Bound = Bound {
    target: "part of what RocksDB alone reaches",
    wanted: 0.5,
    shown: ratio,
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct CatchUp {
    /// Operations that the follower lacked when it came back.
    lacked: u64,
    /// Operations in one entry of the log.
    operations_each: u64,
    /// Seconds it took to write them at the leader, alone.
    filling_seconds: f64,
    /// Operations it had when it was in sync: those it lacked, and those written meanwhile.
    copied: u64,
    /// Seconds from the start of its process until it was in sync.
    in_sync_seconds: f64,
    /// Seconds until its readers saw all that.
    readable_seconds: f64,
    /// Operations per second of `RocksDB` alone, in the same batches, each synced.
    floor_per_second: f64,
    /// The most memory the follower held, in bytes.
    follower_most_bytes: u64,
    /// The leader's writes.
    writes: Writes,
    /// How far the follower was.
    progress: Vec<Progress>,
}

/// How far it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Progress {
    seconds: f64,
    /// Operations in its log.
    logged: u64,
    /// Operations that its readers saw.
    readable: u64,
}

/// Entries of the log as operations: first whole batches, then single writes.
#[derive(Debug, Clone, Copy)]
struct Ledger {
    base: u64,
    filling: Filling,
}

impl Ledger {
    /// Operations of the entries up to `index`, since the follower went away.
    fn operations(self, index: u64) -> u64 {
        let entries = index.saturating_sub(self.base);
        let batches = entries.min(self.filling.batches);
        batches * self.filling.operations_each + (entries - batches)
    }
}

/// Runs it.
pub(in crate::bench) async fn measure(place: Place, sizes: &Sizes) -> Result<CatchUp> {
    let setup = Setup {
        min_in_sync: 1,
        serve: vec![("--log-keep-bytes", LOG_KEEP_BYTES.to_string())],
    };
    let filling = Filling {
        batches: sizes.operations.div_ceil(OPERATIONS_EACH),
        operations_each: OPERATIONS_EACH,
        value_bytes: VALUE_BYTES,
    };
    let mut deployment = Deployment::start(place, &setup).await?;
    let came_back = come_back(&mut deployment, filling, calm(sizes)).await;
    if came_back.is_err() {
        deployment.show_logs();
    }
    let (found, ledger, filling_seconds, follower_most_bytes) = came_back?;
    // Nothing else runs while the store shows what it can do alone.
    let place = deployment.end();
    let floor_per_second =
        floor::batches(&place.directory().join("rocksdb-batches"), None, filling)?;
    Ok(CatchUp {
        lacked: filling.operations(),
        operations_each: OPERATIONS_EACH,
        filling_seconds,
        copied: ledger.operations(found.last),
        in_sync_seconds: found.in_sync_seconds,
        readable_seconds: found.readable_seconds,
        floor_per_second,
        follower_most_bytes,
        writes: found.writes,
        progress: progress(&found.seen, ledger),
    })
}

async fn come_back(
    deployment: &mut Deployment,
    filling: Filling,
    calm: Duration,
) -> Result<(Comeback, Ledger, f64, u64)> {
    let leader = deployment.leader()?;
    let follower = other(leader);
    deployment.stop(follower).await?;
    let access = deployment.access().clone();
    access.until_alone(leader).await?;
    let base = access.levels(leader).await?.last;
    let filling_seconds = filling::fill(&access, leader, filling).await?;
    settled_store().await?;
    let beside = deployment.data(leader).with_file_name("rocksdb-beside");
    let control = move |cores: Option<&str>| {
        floor::batches(&beside, cores, filling)?;
        fs::remove_dir_all(&beside).context("cannot remove the control's store")
    };
    let ((), found) = comeback::watch(deployment, [leader, follower], calm, control).await?;
    let most = deployment.replica(follower).memory()?.most;
    Ok((found, Ledger { base, filling }, filling_seconds, most))
}

fn progress(seen: &[Seen], ledger: Ledger) -> Vec<Progress> {
    let every = seen.len().div_ceil(POINTS).max(1);
    let last = seen.len().saturating_sub(1);
    let kept = seen
        .iter()
        .enumerate()
        .filter(|(at, _)| at % every == 0 || *at == last);
    kept.filter_map(|(_, seen)| {
        let levels = seen.levels?;
        Some(Progress {
            seconds: seen.seconds,
            logged: ledger.operations(levels.last),
            readable: ledger.operations(levels.applied),
        })
    })
    .collect()
}

impl CatchUp {
    fn per_second(&self) -> f64 {
        as_float(self.copied) / self.in_sync_seconds
    }

    /// The targets.
    pub(in crate::bench) fn verdicts(&self) -> Vec<Verdict> {
        vec![
            RATE.at_least(self.per_second()),
            OF_FLOOR.at_least(self.per_second() / self.floor_per_second),
            super::UNDISTURBED.at_most(self.writes.p99_ratio()),
        ]
    }

    /// How it was run, and the figures.
    pub(in crate::bench) fn text(&self) -> String {
        format!(
            "A follower of two is stopped, the leader takes {} operations without it, and the follower's process is \
             started again; the leader's log has all that it lacks. An operation is the write of one item of {} bytes; \
             they were written {} to a request, which makes them one entry of the log (that took {:.0} s). Meanwhile \
             eight clients write to the leader every 20 ms each. `minInSync` is 1: these writes wait for the follower \
             only once it is nearly there.\n\n\
             | | operations/s | seconds |\n|---|---|---|\n\
             | **until in sync**, from the start of the process | {} | {:.1} |\n\
             | until readers at the follower saw all of it | {} | {:.1} |\n\
             | floor: RocksDB alone, the same batches, each synced | {} | {:.1} |\n\n\
             The follower held {} of memory at most. {}\n",
            thousands(as_float(self.lacked)),
            VALUE_BYTES,
            thousands(as_float(self.operations_each)),
            self.filling_seconds,
            thousands(self.per_second()),
            self.in_sync_seconds,
            thousands(as_float(self.copied) / self.readable_seconds),
            self.readable_seconds,
            thousands(self.floor_per_second),
            as_float(self.lacked) / self.floor_per_second,
            mebibytes(as_float(self.follower_most_bytes)),
            super::writes_in_words(self.writes, "RocksDB alone, with the same synced batches,"),
        )
    }

    /// How far the follower was, over time.
    pub(in crate::bench) fn plots(&self) -> Vec<(&'static str, &'static str, String)> {
        let line = |name, colour, operations: fn(&Progress) -> u64| Line {
            name,
            colour,
            points: self
                .progress
                .iter()
                .map(|progress| (progress.seconds, as_float(operations(progress))))
                .collect(),
        };
        let seconds_of_floor = as_float(self.copied) / self.floor_per_second;
        let chart = Chart {
            title: "Catching up: operations that a follower has, from the start of its process",
            lines: vec![
                Line {
                    name: "RocksDB alone",
                    colour: FLOOR_LINE_COLOUR,
                    points: vec![(0.0, 0.0), (seconds_of_floor, as_float(self.copied))],
                },
                line("readable", PEER_COLOUR, |progress| progress.readable),
                line("in its log", OWN_COLOUR, |progress| progress.logged),
            ],
            bound: None,
            shown: count,
        };
        vec![("catch-up.svg", "Catching up", chart.draw())]
    }
}

#[cfg(test)]
pub(in crate::bench) mod tests {
    use super::*;
    use crate::bench::levels::Levels;

    pub(in crate::bench) fn found() -> CatchUp {
        CatchUp {
            lacked: 1_000_000,
            operations_each: 1000,
            filling_seconds: 30.0,
            copied: 1_002_000,
            in_sync_seconds: 8.0,
            readable_seconds: 16.0,
            floor_per_second: 400_000.0,
            follower_most_bytes: 64 << 20,
            writes: comeback::tests::writes(2000, 2200),
            progress: vec![
                Progress {
                    seconds: 0.5,
                    logged: 0,
                    readable: 0,
                },
                Progress {
                    seconds: 8.0,
                    logged: 1_002_000,
                    readable: 500_000,
                },
            ],
        }
    }

    const LEDGER: Ledger = Ledger {
        base: 10,
        filling: Filling {
            batches: 5,
            operations_each: 100,
            value_bytes: 1,
        },
    };

    #[test]
    fn entries_count_as_the_operations_in_them() {
        for (index, operations) in [(0, 0), (10, 0), (11, 100), (15, 500), (16, 501), (20, 505)] {
            assert_eq!(LEDGER.operations(index), operations, "up to {index}");
        }
    }

    #[test]
    fn the_curve_is_thinned_and_keeps_its_end() {
        let levels = |last| Levels {
            leads: false,
            in_sync: 1,
            last,
            applied: 10,
            snapshot_bytes: 0,
            copied_bytes: 0,
        };
        let seen: Vec<Seen> = (0..1000_u32)
            .map(|at| Seen {
                seconds: f64::from(at),
                levels: (at > 10).then(|| levels(if at < 999 { 11 } else { 12 })),
            })
            .collect();
        let progress = progress(&seen, LEDGER);
        assert!(progress.len() <= POINTS + 1, "{}", progress.len());
        let end = progress.last().expect("points");
        assert_eq!((end.logged, end.readable), (200, 0));
    }

    #[test]
    fn rate_part_of_the_floor_and_disturbance_are_judged() {
        let judged = |found: &CatchUp| -> Vec<bool> {
            let verdicts = found.verdicts();
            verdicts
                .iter()
                .map(|verdict| verdict.judgement == "met")
                .collect()
        };
        assert_eq!(judged(&found()), [true, false, true]);
        let slow = CatchUp {
            in_sync_seconds: 20.0,
            floor_per_second: 100_000.0,
            writes: comeback::tests::writes(2000, 2500),
            ..found()
        };
        assert_eq!(judged(&slow), [false, true, false]);
    }
}
