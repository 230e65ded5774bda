//! What a leader holds in memory while a follower is far behind, and while it catches up.
//!
//! ```text
//! idle ─► follower stopped, gibibytes written ─► nothing written ─► follower started, in sync
//!   └─────────────┴─────────────── resident memory ─┴─────────────────┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{Sizes, other};
use crate::bench::closed_loop::as_float;
use crate::bench::deployment::{Deployment, REPLICAS, Setup};
use crate::bench::filling::{self, Filling};
use crate::bench::place::Place;
use crate::bench::plot::OWN_COLOUR;
use crate::bench::plot::curve::{Chart, Line};
use crate::bench::verdict::{Bound, Verdict, mebibytes};

/// A document of some pages.
const VALUE_BYTES: usize = 16 << 10;
/// A mebibyte per request: what clients send at a time counts as memory, too.
const OPERATIONS_EACH: u64 = 64;
/// Beyond what the follower lacks: the log is to reach back.
const LOG_SPARE_BYTES: u64 = 2 << 30;
/// Nothing happens for so long before idle memory is read: what the start needed has been given back.
const QUIET: Duration = Duration::from_secs(15);
/// And after the writing, before the follower comes back.
const BEHIND: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Points of the curve that are kept: enough for the picture.
const POINTS: usize = 200;
const IN_SYNC_WITHIN: Duration = Duration::from_mins(10);

const MEBIBYTE: f64 = 1_048_576.0;

const ABOVE_IDLE: Bound = Bound {
    target: "leader's memory above idle, at most",
    wanted: 64.0 * MEBIBYTE,
    shown: mebibytes,
};

/// What was found; memory in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Memory {
    /// Bytes of values that the follower lacked.
    behind_bytes: u64,
    /// Before anything was written.
    idle: u64,
    /// At most, while the leader took what the follower lacks.
    taking: u64,
    /// When nothing was written any more.
    behind: u64,
    /// At most, while the follower caught up.
    catching_up: u64,
    /// The most that the follower held.
    follower: u64,
    /// The follower's seconds until it was in sync.
    in_sync_seconds: f64,
    /// The leader's memory over time.
    curve: Vec<Look>,
}

/// The leader's memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Look {
    seconds: f64,
    bytes: u64,
}

/// Runs it.
pub(in crate::bench) async fn measure(place: Place, sizes: &Sizes) -> Result<Memory> {
    let behind_bytes = sizes.behind_mib << 20;
    let keep = behind_bytes + LOG_SPARE_BYTES;
    let setup = Setup {
        min_in_sync: 1,
        serve: vec![("--log-keep-bytes", keep.to_string())],
    };
    let mut deployment = Deployment::start(place, &setup).await?;
    let found = watched(&mut deployment, behind_bytes).await;
    if found.is_err() {
        deployment.show_logs();
    }
    found
}

async fn watched(deployment: &mut Deployment, behind_bytes: u64) -> Result<Memory> {
    let leader = deployment.leader()?;
    let looks = Looks::begin(deployment.replicas()[leader].id());
    sleep(QUIET).await;
    let idle = deployment.replicas()[leader].memory()?.now;
    let stages = be_behind(deployment, leader, behind_bytes, &looks).await;
    let curve = looks.end();
    let stages = stages?;
    let most = |from, until| {
        let within = curve
            .iter()
            .filter(|look| (from..=until).contains(&look.seconds));
        within.map(|look| look.bytes).max().unwrap_or_default()
    };
    Ok(Memory {
        behind_bytes,
        idle,
        taking: most(stages.begun, stages.taken),
        behind: stages.behind,
        catching_up: most(stages.came_back, stages.in_sync),
        follower: stages.follower,
        in_sync_seconds: stages.in_sync - stages.came_back,
        curve: thinned(&curve),
    })
}

/// When each stage began, in seconds of the curve, and what is read at its time.
struct Stages {
    begun: f64,
    taken: f64,
    behind: u64,
    came_back: f64,
    in_sync: f64,
    follower: u64,
}

async fn be_behind(
    deployment: &mut Deployment,
    leader: usize,
    behind_bytes: u64,
    looks: &Looks,
) -> Result<Stages> {
    let follower = other(leader);
    deployment.stop(follower).await?;
    let access = deployment.access().clone();
    access.until_alone(leader).await?;
    let begun = looks.seconds();
    let filling = Filling::of_bytes(behind_bytes, OPERATIONS_EACH, VALUE_BYTES);
    filling::fill(&access, leader, filling).await?;
    let taken = looks.seconds();
    sleep(BEHIND).await;
    let behind = deployment.replicas()[leader].memory()?.now;
    let came_back = looks.seconds();
    deployment.replica(follower).start_again()?;
    let both = REPLICAS as u64;
    access.until_in_sync(leader, both, IN_SYNC_WITHIN).await?;
    let copied = access.levels(follower).await?.snapshot_bytes;
    ensure!(
        copied == 0,
        "a snapshot was copied: the log did not reach back"
    );
    Ok(Stages {
        begun,
        taken,
        behind,
        came_back,
        in_sync: looks.seconds(),
        follower: deployment.replica(follower).memory()?.most,
    })
}

/// Looks at a process's memory again and again, in a task of its own.
struct Looks {
    begun: Instant,
    seen: Arc<Mutex<Vec<Look>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Looks {
    fn begin(process: u32) -> Self {
        let (begun, seen) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            // Once the process has ended there is nothing to see.
            while let Ok(memory) = crate::bench::daemon::memory_of(process) {
                let look = Look {
                    seconds: begun.elapsed().as_secs_f64(),
                    bytes: memory.now,
                };
                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(look);
                sleep(LOOK_EVERY).await;
            }
        });
        Self { begun, seen, task }
    }

    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn end(self) -> Vec<Look> {
        self.task.abort();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *seen)
    }
}

/// The highest of every so many looks: a thinned curve that hides no peak.
fn thinned(curve: &[Look]) -> Vec<Look> {
    let every = curve.len().div_ceil(POINTS).max(1);
    let highest = |looks: &[Look]| looks.iter().max_by_key(|look| look.bytes).copied();
    curve.chunks(every).filter_map(highest).collect()
}

impl Memory {
    fn most(&self) -> u64 {
        self.taking.max(self.behind).max(self.catching_up)
    }

    /// The target.
    pub(in crate::bench) fn verdicts(&self) -> Vec<Verdict> {
        let above = self.most().saturating_sub(self.idle);
        vec![ABOVE_IDLE.at_most(as_float(above))]
    }

    /// How it was run, and the figures.
    pub(in crate::bench) fn text(&self) -> String {
        let row = |bytes: u64| {
            let above = as_float(bytes) - as_float(self.idle);
            format!(
                "{} | {:+.1} MiB",
                mebibytes(as_float(bytes)),
                above / MEBIBYTE
            )
        };
        format!(
            "The leader's resident memory, read from `/proc` ten times a second. A follower of two is stopped, the leader \
             takes {} of documents of 16 KiB without it, a mebibyte to a request, three requests at a time; its log keeps \
             all of that. Then the follower comes back and catches up, which took {:.1} s.\n\n\
             | | leader | above idle |\n|---|---|---|\n\
             | idle, both in sync | {} |\n\
             | at most, while it took what the follower lacks | {} |\n\
             | the follower behind, nothing written | {} |\n\
             | at most, while the follower caught up | {} |\n\n\
             The follower itself held {} at most.\n",
            mebibytes(as_float(self.behind_bytes)),
            self.in_sync_seconds,
            row(self.idle),
            row(self.taking),
            row(self.behind),
            row(self.catching_up),
            mebibytes(as_float(self.follower)),
        )
    }

    /// The leader's memory over time.
    pub(in crate::bench) fn plots(&self) -> Vec<(&'static str, &'static str, String)> {
        let points = self.curve.iter();
        let chart = Chart {
            title: "A leader's memory: idle, a follower far behind, the follower catching up",
            lines: vec![Line {
                name: "leader",
                colour: OWN_COLOUR,
                points: points
                    .map(|look| (look.seconds, as_float(look.bytes) / MEBIBYTE))
                    .collect(),
            }],
            bound: Some((
                "allowed",
                (as_float(self.idle) + ABOVE_IDLE.wanted) / MEBIBYTE,
            )),
            shown: |mebibytes| format!("{mebibytes:.0} MiB"),
        };
        vec![("memory.svg", "A leader's memory", chart.draw())]
    }
}

#[cfg(test)]
pub(in crate::bench) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    pub(in crate::bench) fn found() -> Memory {
        Memory {
            behind_bytes: 2048 * MIB,
            idle: 20 * MIB,
            taking: 70 * MIB,
            behind: 50 * MIB,
            catching_up: 83 * MIB,
            follower: 120 * MIB,
            in_sync_seconds: 12.0,
            curve: vec![
                Look {
                    seconds: 0.0,
                    bytes: 20 * MIB,
                },
                Look {
                    seconds: 40.0,
                    bytes: 83 * MIB,
                },
            ],
        }
    }

    #[test]
    fn the_highest_of_all_stages_is_judged() {
        assert_eq!(found().verdicts()[0].judgement, "met");
        let higher = Memory {
            taking: 148 * MIB,
            ..found()
        };
        let verdict = &higher.verdicts()[0];
        assert_eq!(verdict.found, "128.0 MiB");
        assert_eq!(verdict.judgement, "**missed**: 2.00 times what is allowed");
    }

    #[test]
    fn a_thinned_curve_keeps_the_peak() {
        let curve: Vec<Look> = (0..10_000_u32)
            .map(|at| Look {
                seconds: f64::from(at),
                bytes: if at == 4321 { 9 } else { 1 },
            })
            .collect();
        let thinned = thinned(&curve);
        assert!(thinned.len() <= POINTS);
        assert_eq!(thinned.iter().map(|look| look.bytes).max(), Some(9));
    }
}
