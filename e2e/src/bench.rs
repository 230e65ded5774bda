//! `percolate-e2e bench`: Percolate and its peers, side by side, in one run on one machine.
//!
//! ```text
//! for each subject: Place ─► start ─► closed_loop::run with 64 clients, then with 1 ─► Row ─► stopped, removed
//! for each scenario: Place ─► scenario::play: a follower behind, a leader lost, nothing at all ─► Section
//! machine, rows, sections ─► Report ─► table (Markdown), plots (SVG), results.json
//! ```
//! Every peer is real and started here, on loopback, below one directory; only one runs at a time.
//! What cannot be measured is said in the report, and the run fails after all others are done. A report
//! is one run: it shows what that has measured, says what it left out, and keeps nothing of an earlier one.
//! What this does not do: judge Percolate by a bound in a test. Times depend on the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::closed_loop::{Measured, Pace, Peer};
use self::daemon::Daemon;
use self::machine::Machine;
use self::percolate::{InBatches, Percolate, Streams};
use self::place::Place;
use self::report::{Report, Row, Subject};
pub use self::scenario::Sizes;
use self::scenario::{Figures, Scenario, Section};
use crate::cluster::layout::cache;
use crate::progress::say;

mod authority;
mod closed_loop;
mod comeback;
mod cores;
mod daemon;
mod deployment;
mod etcd;
mod filling;
mod floor;
mod http;
mod levels;
mod machine;
mod nats;
mod percolate;
mod place;
mod plain_copy;
mod plot;
mod redis;
mod register;
mod report;
mod rqlite;
mod scenario;
mod steady;
mod table;
mod target;
mod verdict;

/// As many as make a group commit worth its name, and few enough to share two cores with servers.
const CLIENTS: usize = 64;
/// Chooses everything that is written to beside the peers.
const WRITES: &str = "writes";
/// Files that are synced at a time where clients have no meaning: two replicas on one disk.
const FILES: usize = 2;

/// What to measure, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seconds that are measured, per subject and number of clients.
    pub seconds: u64,
    /// Seconds of writing before that.
    pub warm_up: u64,
    /// Only those whose name contains one of these words, whatever the case; all if there is none.
    pub only: Vec<String>,
    /// How large the scenarios are.
    pub sizes: Sizes,
    /// Where the peers' data lie; in the cache by default. Decides on the disk that is measured.
    pub directory: Option<PathBuf>,
    /// Folder for table, plots and raw results.
    pub write: Option<PathBuf>,
}

/// What a run found.
pub struct Found {
    /// The report, Markdown.
    pub table: String,
    /// What could not be measured, and why.
    pub problems: Vec<String>,
}

/// Measures everything and writes the report.
///
/// # Errors
/// When the run was interrupted, or its report cannot be written.
pub async fn run(options: &Options) -> Result<Found> {
    let mut terminate = signal(SignalKind::terminate())?;
    let report = tokio::select! {
        report = measure_all(options) => report?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    };
    let table = table::document(&report);
    if let Some(folder) = &options.write {
        write(&report, &table, folder)?;
    }
    Ok(Found {
        table,
        problems: report.problems(),
    })
}

async fn measure_all(options: &Options) -> Result<Report> {
    refuse_unknown(&options.only)?;
    let parent = match &options.directory {
        Some(directory) => directory.clone(),
        None => cache()?,
    };
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let mut report = Report {
        machine: Machine::here(&parent)?,
        pace: Pace {
            warm_up_seconds: options.warm_up,
            measured_seconds: options.seconds,
        },
        rows: Vec::new(),
        sections: Vec::new(),
    };
    for subject in Subject::ALL {
        if is_wanted(subject, &options.only) {
            let row = measure(subject, &parent, report.pace).await;
            announce(&row);
            report.rows.push(row);
        }
    }
    report.rows.sort_by_key(|row| row.subject);
    for scenario in Scenario::ALL {
        if options.only.is_empty() || options.only.iter().any(|word| names(word, scenario.name())) {
            say(&format!("  {} ...", scenario.name()));
            let section = scenario::play(scenario, &parent, &options.sizes).await;
            announce_section(&section);
            report.sections.push(section);
        }
    }
    Ok(report)
}

fn is_wanted(subject: Subject, only: &[String]) -> bool {
    let chooses = |word: &String| word == WRITES || names(word, subject.name());
    only.is_empty() || only.iter().any(chooses)
}

/// Whether a word of the command line means what has this name.
fn names(word: &str, name: &str) -> bool {
    name.to_lowercase().contains(&word.to_lowercase())
}

/// A word that means nothing would leave out what somebody wanted, without a word.
fn refuse_unknown(only: &[String]) -> Result<()> {
    let subjects = Subject::ALL.map(Subject::name);
    let scenarios = Scenario::ALL.map(Scenario::name);
    let all: Vec<&str> = [&subjects[..], &scenarios[..], &[WRITES]].concat();
    let unknown = only
        .iter()
        .find(|word| !all.iter().any(|name| names(word, name)));
    match unknown {
        Some(word) => bail!("nothing is called {word:?}; there are: {}", all.join(", ")),
        None => Ok(()),
    }
}

/// One subject from nothing to its row; nothing of it is left.
async fn measure(subject: Subject, parent: &Path, duration: Pace) -> Row {
    say(&format!("  {} ...", subject.name()));
    // Boxed: each peer's future is large, and only one of them is needed.
    let figures = match Place::below(parent) {
        Ok(place) => Box::pin(figures(subject, place, duration)).await,
        Err(error) => Err(error),
    };
    match figures {
        Ok((many, one)) => Row {
            subject,
            many,
            one: Some(one),
            problem: None,
        },
        Err(error) => Row {
            subject,
            many: None,
            one: None,
            problem: Some(format!("{error:#}")),
        },
    }
}

/// With many clients, where that has a meaning, and with one.
type Pair = (Option<Measured>, Measured);

async fn figures(subject: Subject, place: Place, duration: Pace) -> Result<Pair> {
    match subject {
        Subject::Percolate => both(&Percolate::start(place).await?, duration).await,
        Subject::PercolateStream => both(&Streams(Percolate::start(place).await?), duration).await,
        Subject::PercolateBatches => {
            both(&InBatches(Percolate::start(place).await?), duration).await
        }
        Subject::Etcd => both(&etcd::Etcd::start(place).await?, duration).await,
        Subject::JetStream => both(&nats::Nats::start(place).await?, duration).await,
        Subject::Redis => both(&redis::Redis::start(place).await?, duration).await,
        Subject::Rqlite => both(&rqlite::Rqlite::start(place).await?, duration).await,
        Subject::RocksDb => {
            let many = floor::rocksdb(&place, duration, CLIENTS)?;
            Ok((Some(many), floor::rocksdb(&place, duration, 1)?))
        }
        Subject::Device => {
            let many = floor::device(&place, duration, FILES)?;
            Ok((Some(many), floor::device(&place, duration, 1)?))
        }
        Subject::RoundTrip => Ok((None, floor::round_trip(duration).await?)),
    }
}

/// With many clients, then with one.
async fn both(peer: &impl Peer, duration: Pace) -> Result<Pair> {
    let measured = async {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            clients.push(peer.connect(format!("many-{number:02}")).await?);
        }
        let many = closed_loop::run(clients, duration, peer.daemons()).await?;
        let alone = vec![peer.connect("one".to_owned()).await?];
        let one = closed_loop::run(alone, duration, peer.daemons()).await?;
        peer.check()?;
        anyhow::Ok((Some(many), one))
    };
    let measured = measured.await;
    if measured.is_err() {
        peer.daemons().iter().for_each(Daemon::show_log);
    }
    measured
}

fn announce(row: &Row) {
    let name = row.subject.name();
    if let Some(problem) = &row.problem {
        return say(&format!("  {name}: NOT MEASURED: {problem}"));
    }
    for measured in row.many.iter().chain(&row.one) {
        say(&format!(
            "  {name}: {} at a time: {}/s, p50 {}, p99 {}, p99.9 {}",
            measured.clients,
            table::thousands(measured.per_second),
            table::time(measured.p50_micros),
            table::time(measured.p99_micros),
            table::time(measured.p999_micros),
        ));
    }
}

fn announce_section(section: &Section) {
    let name = section.scenario.name();
    if let Some(problem) = &section.problem {
        return say(&format!("  {name}: NOT MEASURED: {problem}"));
    }
    say(&format!("  {name}: {:.0} s", section.took_seconds));
    let verdicts = section.figures.iter().flat_map(Figures::verdicts);
    for verdict in verdicts {
        say(&format!(
            "    {}: {} ({}): {}",
            verdict.target, verdict.found, verdict.wanted, verdict.judgement
        ));
    }
}

fn write(report: &Report, table: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    remove_pictures(folder)?;
    let results = format!("{}\n", serde_json::to_string_pretty(report)?);
    let mut files = vec![("README.md", table.to_owned()), ("results.json", results)];
    if !report.rows.is_empty() {
        files.push(("rates.svg", plot::rates(report)));
        files.push(("latencies.svg", plot::latencies(report)));
    }
    let sections = report.sections.iter();
    let figures = sections.filter_map(|section| section.figures.as_ref());
    let plots = figures.flat_map(Figures::plots);
    files.extend(plots.map(|(file, _, svg)| (file, svg)));
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    say(&format!("the report is in {}", folder.display()));
    Ok(())
}

/// Pictures of an earlier run would stand beside figures of this one.
fn remove_pictures(folder: &Path) -> Result<()> {
    for found in fs::read_dir(folder)? {
        let path = found?.path();
        if path.extension().is_some_and(|kind| kind == "svg") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_chosen_by_a_part_of_their_name() {
        let only = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Subject::ALL.map(|subject| is_wanted(subject, &words))
        };
        assert_eq!(only(&[]), [true; 10]);
        let chosen = |words: &[&str]| only(words).into_iter().filter(|wanted| *wanted).count();
        assert_eq!(chosen(&["REDIS"]), 1);
        assert_eq!(chosen(&["percolate", "floor"]), 6);
        assert_eq!(chosen(&["writes"]), Subject::ALL.len());
        assert_eq!(chosen(&["failover"]), 0);
    }

    #[test]
    fn a_word_that_means_nothing_is_refused_with_all_that_there_is() {
        let check = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            refuse_unknown(&words)
        };
        assert!(check(&[]).is_ok());
        assert!(check(&["writes", "CATCH-UP", "rqlite", "idle"]).is_ok());
        let error = check(&["idle", "mongo"]).expect_err("unknown").to_string();
        assert!(
            error.contains("\"mongo\"") && error.contains("Failover"),
            "{error}"
        );
    }

    #[test]
    fn a_report_replaces_everything_of_an_earlier_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut whole = report::tests::report();
        write(&whole, "whole", folder.path()).expect("written");
        whole.rows.clear();
        whole.sections.truncate(1);
        write(&whole, "part", folder.path()).expect("written");
        let mut files: Vec<String> = fs::read_dir(folder.path())
            .expect("readable")
            .map(|file| {
                file.expect("a file")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .collect();
        files.sort();
        assert_eq!(files, ["README.md", "catch-up.svg", "results.json"]);
    }

    #[tokio::test]
    async fn a_peer_that_cannot_start_is_a_row_with_the_reason() {
        let nowhere = Path::new("/proc/no-such-place");
        let pace = Pace {
            warm_up_seconds: 0,
            measured_seconds: 1,
        };
        let row = measure(Subject::Redis, nowhere, pace).await;
        assert!(row.many.is_none() && row.one.is_none());
        assert!(
            row.problem
                .expect("a reason")
                .contains("/proc/no-such-place")
        );
    }
}
