//! A steady, moderate load of writes at the leader, and how long each of them took.
//!
//! ```text
//! clients, each every 20 ms ─► PUT ─► Sample {answered, took} ─► latency of any part of the time
//! ```
//! The load is open: a write is due when it is due, however late the one before was answered, and its
//! time counts from then. A pause of the leader shows in every write that fell into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::closed_loop::{self, Writer as _};
use super::deployment::Access;
use super::percolate::OneByOne;

/// With [`EVERY`] 400 writes per second: a few percent of what a leader can take.
const CLIENTS: u32 = 8;
/// Time from one write of a client to its next.
const EVERY: Duration = Duration::from_millis(20);
/// A write that takes longer is a failure, and no figure.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Fewer writes have no 99th percentile worth the name.
const FEWEST: u64 = 100;

/// Clients at work.
pub(super) struct Steady {
    begun: Instant,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Result<Vec<Sample>>>,
}

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// When it was answered, since the load began.
    answered: Duration,
    /// Time since it was due.
    took: Duration,
}

/// How long writes took in some part of the time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    /// How many there were.
    pub(super) writes: u64,
    /// Half of them took no longer.
    pub(super) p50_micros: u64,
    /// 99 of 100 took no longer.
    pub(super) p99_micros: u64,
    /// The slowest.
    pub(super) max_micros: u64,
}

impl Steady {
    /// Sets the clients to work at `leader`.
    pub(super) async fn start(access: &Access, leader: usize) -> Result<Self> {
        let mut writers = Vec::new();
        for number in 0..CLIENTS {
            let connection = access.connect(leader).await?;
            writers.push(OneByOne::new(connection, format!("steady-{number}")));
        }
        let (begun, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for (number, writer) in (0..CLIENTS).zip(writers) {
            // Spread over the time between two writes, as clients that know nothing of each other.
            let first = begun + EVERY * number / CLIENTS;
            clients.spawn(write(writer, begun, first, Arc::clone(&stop)));
        }
        Ok(Self {
            begun,
            stop,
            clients,
        })
    }

    /// Time since the load began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Lets every client finish its write.
    ///
    /// # Errors
    /// When any write failed.
    pub(super) async fn stop(mut self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            samples.extend(ended.context("a client panicked")??);
        }
        Ok(samples)
    }
}

async fn write(
    mut writer: OneByOne,
    begun: Instant,
    first: Instant,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Sample>> {
    let (mut samples, mut due) = (Vec::new(), first);
    for sequence in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep_until(due).await;
        timeout(ANSWERED_WITHIN, writer.write(sequence))
            .await
            .context("a write of the steady load was not answered")?
            .context("a write of the steady load failed")?;
        let now = Instant::now();
        samples.push(Sample {
            answered: now - begun,
            took: now - due,
        });
        due += EVERY;
    }
    Ok(samples)
}

/// Of the writes that were answered between `from` and `until`.
///
/// # Errors
/// When there were too few.
pub(super) fn latency(samples: &[Sample], from: Duration, until: Duration) -> Result<Latency> {
    let mut times = closed_loop::histogram()?;
    for sample in samples {
        if sample.answered >= from && sample.answered < until {
            closed_loop::record(&mut times, sample.took);
        }
    }
    ensure!(
        times.len() >= FEWEST,
        "only {} writes fell into the {:.1} s to be measured: make it last longer",
        times.len(),
        until.saturating_sub(from).as_secs_f64()
    );
    Ok(Latency {
        writes: times.len(),
        p50_micros: times.value_at_quantile(0.5),
        p99_micros: times.value_at_quantile(0.99),
        max_micros: times.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_answered_in_time_counts() {
        let sample = |answered, took| Sample {
            answered: Duration::from_millis(answered),
            took: Duration::from_micros(took),
        };
        let samples: Vec<Sample> = (0..300)
            .map(|at| sample(at, if (100..200).contains(&at) { 900 } else { 100 }))
            .collect();
        let between = |from, until| {
            let (from, until) = (Duration::from_millis(from), Duration::from_millis(until));
            latency(&samples, from, until)
        };
        let slow = between(100, 200).expect("enough");
        assert_eq!(
            (slow.writes, slow.p50_micros, slow.p99_micros),
            (100, 900, 900)
        );
        let mixed = between(0, 200).expect("enough");
        assert_eq!((mixed.p50_micros, mixed.p99_micros), (100, 900));
        assert!(between(250, 400).is_err(), "only fifty");
    }
}
