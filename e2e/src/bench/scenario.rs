//! Scenarios: what happens to a tenant beside the writing, each with targets of its own.
//!
//! ```text
//! Scenario, Place, Sizes ─► measured ─► Figures ─► verdicts, words, plots
//! ```

pub(super) mod bootstrap;
pub(super) mod catch_up;
pub(super) mod failover;
pub(super) mod idle;
pub(super) mod memory;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::bootstrap::Bootstrap;
use self::catch_up::CatchUp;
use self::failover::Failover;
use self::idle::Idle;
use self::memory::Memory;
use super::comeback::Writes;
use super::place::Place;
use super::table;
use super::verdict::{Bound, Verdict, ratio};
use crate::command::{run, system};

/// After much was written, before anything is measured: the engine merges its files in the meantime.
const SETTLE: Duration = Duration::from_secs(5);

const UNDISTURBED: Bound = Bound {
    target: "p99 of the leader's writes, meanwhile / undisturbed",
    wanted: 1.2,
    shown: ratio,
};

/// How large scenarios are.
#[derive(Debug, Clone, clap::Args)]
pub struct Sizes {
    /// Catch-up: operations that the follower lacks
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=20_000_000))]
    pub operations: u64,
    /// Bootstrap: MiB of documents in the store that is copied
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    pub snapshot_mib: u64,
    /// Memory: MiB of documents that the follower lacks
    #[arg(long, value_name = "MIB", default_value_t = 10_240, value_parser = clap::value_parser!(u64).range(16..=61_440))]
    pub behind_mib: u64,
    /// Failover: faults of each kind
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Idle: seconds that nobody does anything
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub idle_seconds: u64,
    /// Catch-up, bootstrap: seconds of undisturbed writes to compare with
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub calm_seconds: u64,
}

/// What is played, in the order of playing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// A follower comes back that the log reaches.
    CatchUp,
    /// A follower comes back with an empty disk.
    Bootstrap,
    /// A follower is far behind.
    Memory,
    /// The leader is lost.
    Failover,
    /// Nobody does anything.
    Idle,
}

impl Scenario {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::CatchUp,
        Self::Bootstrap,
        Self::Memory,
        Self::Failover,
        Self::Idle,
    ];

    /// Its name for people, who also choose it by a part of that.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CatchUp => "Catch-up from the log",
            Self::Bootstrap => "Bootstrap from a snapshot",
            Self::Memory => "Memory with a follower far behind",
            Self::Failover => "Failover",
            Self::Idle => "Idle tenant",
        }
    }
}

/// A scenario that was played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Section {
    /// Which.
    pub(super) scenario: Scenario,
    /// How long all of it took, with filling and starting.
    pub(super) took_seconds: f64,
    /// What was found, unless there is a problem.
    pub(super) figures: Option<Figures>,
    /// Why there are no figures.
    pub(super) problem: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Figures {
    /// Of [`Scenario::CatchUp`].
    CatchUp(CatchUp),
    /// Of [`Scenario::Bootstrap`].
    Bootstrap(Bootstrap),
    /// Of [`Scenario::Memory`].
    Memory(Memory),
    /// Of [`Scenario::Failover`].
    Failover(Failover),
    /// Of [`Scenario::Idle`].
    Idle(Idle),
}

/// A picture: its file, what it shows, SVG.
pub(super) type Picture = (&'static str, &'static str, String);

impl Figures {
    /// Every target.
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        match self {
            Self::CatchUp(found) => found.verdicts(),
            Self::Bootstrap(found) => found.verdicts(),
            Self::Memory(found) => found.verdicts(),
            Self::Failover(found) => found.verdicts(),
            Self::Idle(found) => found.verdicts(),
        }
    }

    /// How it was run, and the figures, as Markdown.
    pub(super) fn text(&self) -> String {
        match self {
            Self::CatchUp(found) => found.text(),
            Self::Bootstrap(found) => found.text(),
            Self::Memory(found) => found.text(),
            Self::Failover(found) => found.text(),
            Self::Idle(found) => found.text(),
        }
    }

    /// Its pictures.
    pub(super) fn plots(&self) -> Vec<Picture> {
        match self {
            Self::CatchUp(found) => found.plots(),
            Self::Bootstrap(found) => found.plots(),
            Self::Memory(found) => found.plots(),
            Self::Failover(found) => found.plots(),
            Self::Idle(_) => Vec::new(),
        }
    }
}

/// Plays one; nothing of it is left.
pub(super) async fn play(scenario: Scenario, parent: &Path, sizes: &Sizes) -> Section {
    let begun = Instant::now();
    let played = match Place::below(parent) {
        // Boxed: each future is large, and only one of them is needed.
        Ok(place) => Box::pin(measure(scenario, place, parent, sizes)).await,
        Err(error) => Err(error),
    };
    let (figures, problem) = match played {
        Ok(figures) => (Some(figures), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Section {
        scenario,
        took_seconds: begun.elapsed().as_secs_f64(),
        figures,
        problem,
    }
}

async fn measure(
    scenario: Scenario,
    place: Place,
    parent: &Path,
    sizes: &Sizes,
) -> Result<Figures> {
    Ok(match scenario {
        Scenario::CatchUp => Figures::CatchUp(catch_up::measure(place, sizes).await?),
        Scenario::Bootstrap => Figures::Bootstrap(bootstrap::measure(place, sizes).await?),
        Scenario::Memory => Figures::Memory(memory::measure(place, sizes).await?),
        Scenario::Failover => Figures::Failover(failover::measure(place, parent, sizes).await?),
        Scenario::Idle => Figures::Idle(idle::measure(place, sizes).await?),
    })
}

/// Of two replicas the one that is not this.
fn other(ordinal: usize) -> usize {
    1 - ordinal
}

fn calm(sizes: &Sizes) -> Duration {
    Duration::from_secs(sizes.calm_seconds)
}

/// Lets the disk come to rest after much was written: what follows is not to pay for that.
pub(super) async fn settled_store() -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    tokio::task::spawn_blocking(|| run(&mut system("sync")))
        .await
        .context("waiting for the disk failed")?
        .map(drop)
}

/// What the leader's clients noticed.
fn writes_in_words(writes: Writes, control: &str) -> String {
    let latency = |latency: super::steady::Latency| {
        format!(
            "p50 {}, p99 {}, max {} ({} writes)",
            table::time(latency.p50_micros),
            table::time(latency.p99_micros),
            table::time(latency.max_micros),
            latency.writes
        )
    };
    format!(
        "All the while the leader and the clients had one half of the cores and the follower the other, as it has a machine \
         of its own; they shared the disk. The leader's writes, undisturbed: {}; meanwhile: {}. Before that, while {control} \
         took the follower's place, which is what this disk and these cores do to them: {}, a p99 of {:.2} times the \
         undisturbed.",
        latency(writes.undisturbed),
        latency(writes.meanwhile),
        latency(writes.beside_control),
        writes.p99_ratio_of_control(),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One section each, and one that failed.
    pub(in crate::bench) fn sections() -> Vec<Section> {
        let section = |scenario, figures| Section {
            scenario,
            took_seconds: 61.0,
            figures: Some(figures),
            problem: None,
        };
        vec![
            section(
                Scenario::CatchUp,
                Figures::CatchUp(catch_up::tests::found()),
            ),
            section(
                Scenario::Bootstrap,
                Figures::Bootstrap(bootstrap::tests::found()),
            ),
            section(Scenario::Memory, Figures::Memory(memory::tests::found())),
            section(
                Scenario::Failover,
                Figures::Failover(failover::tests::found()),
            ),
            Section {
                problem: Some("it ended".to_owned()),
                figures: None,
                ..section(Scenario::Idle, Figures::Idle(idle::tests::found()))
            },
        ]
    }

    #[test]
    fn every_table_has_rows_as_wide_as_its_head() {
        let idle = Figures::Idle(idle::tests::found());
        let others = sections().into_iter().filter_map(|section| section.figures);
        for figures in others.chain([idle]) {
            let text = figures.text();
            let rows: Vec<usize> = text
                .lines()
                .filter(|line| line.starts_with('|'))
                .map(|line| line.matches('|').count())
                .collect();
            assert!(rows.len() > 2, "{text}");
            assert!(rows.iter().all(|cells| *cells == rows[0]), "{text}");
        }
    }

    #[tokio::test]
    async fn a_scenario_that_cannot_begin_is_a_section_with_the_reason() {
        let sizes = Sizes {
            operations: 10_000,
            snapshot_mib: 16,
            behind_mib: 16,
            repetitions: 1,
            idle_seconds: 5,
            calm_seconds: 1,
        };
        let nowhere = Path::new("/proc/no-such-place");
        let section = play(Scenario::Idle, nowhere, &sizes).await;
        assert_eq!(section.figures, None);
        let problem = section.problem.expect("a reason");
        assert!(problem.contains("/proc/no-such-place"), "{problem}");
    }
}
