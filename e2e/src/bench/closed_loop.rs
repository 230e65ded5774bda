//! Clients that each send the next write when the last one is answered, for a fixed time.
//!
//! ```text
//! writers, pace ─► warm-up, unrecorded ─► measuring ─► Measured: rate, latencies, processor time
//! ```
//! A write that fails ends the measuring: a peer that refuses writes has no rate worth comparing.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::daemon::{Daemon, processor_seconds};

/// Bytes of each value, for every peer.
pub(super) const VALUE_BYTES: usize = 256;
/// A longer write counts as this long: nothing waits longer, because the loop gives up first.
const LONGEST_MICROS: u64 = 60_000_000;
/// Three digits: 1.00 ms is told from 1.01 ms.
const SIGNIFICANT_DIGITS: u8 = 3;
/// How long after the end the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// Text that values are cut from, at changing places, so that no two neighbours compress to nothing.
const TEXT_BYTES: usize = 1 << 16;
/// Distance between the places where values are cut; prime, so that they come back late.
const STRIDE: u64 = 257;

/// One connection that writes.
pub(super) trait Writer: Send + 'static {
    /// How many values one call writes.
    const BATCH: u64 = 1;

    /// Writes under keys that nobody used before, and returns when that is as durable as promised.
    fn write(&mut self, sequence: u64) -> impl Future<Output = Result<()>> + Send;
}

/// A database that was started for this.
pub(super) trait Peer {
    /// What writes to it, with a connection of its own.
    type Client: Writer;

    /// The processes whose work is counted.
    fn daemons(&self) -> &[Daemon];

    /// A client that writes under keys beginning with `name`, at whoever takes writes.
    async fn connect(&self, name: String) -> Result<Self::Client>;

    /// Whether it still is what was to be measured, once it was.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// How long to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Seconds of writing before anything is recorded.
    pub(super) warm_up_seconds: u64,
    /// Seconds that are recorded.
    pub(super) measured_seconds: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// How many clients wrote at a time.
    pub(super) clients: usize,
    /// Calls answered while it was recorded.
    pub(super) answered: u64,
    /// Values written per second.
    pub(super) per_second: f64,
    /// Half of the calls were answered within this time.
    pub(super) p50_micros: u64,
    /// 99 of 100 were.
    pub(super) p99_micros: u64,
    /// 999 of 1,000 were.
    pub(super) p999_micros: u64,
    /// The slowest.
    pub(super) max_micros: u64,
    /// Processor time of all of the peer's processes per value, if it has any.
    pub(super) server_micros_per_write: Option<f64>,
}

impl Measured {
    /// From latencies that were recorded for so many seconds.
    pub(super) fn of(
        histogram: &Histogram<u64>,
        clients: usize,
        batch: u64,
        seconds: f64,
        server_seconds: Option<f64>,
    ) -> Self {
        let values = as_float(histogram.len() * batch);
        Self {
            clients,
            answered: histogram.len(),
            per_second: values / seconds,
            p50_micros: histogram.value_at_quantile(0.5),
            p99_micros: histogram.value_at_quantile(0.99),
            p999_micros: histogram.value_at_quantile(0.999),
            max_micros: histogram.max(),
            server_micros_per_write: server_seconds.map(|used| used * 1e6 / values.max(1.0)),
        }
    }
}

/// Lets all writers write side by side.
pub(super) async fn run<W: Writer>(
    writers: Vec<W>,
    pace: Pace,
    servers: &[Daemon],
) -> Result<Measured> {
    let clients = writers.len();
    let begin = Instant::now() + Duration::from_secs(pace.warm_up_seconds);
    let end = begin + Duration::from_secs(pace.measured_seconds);
    let mut loops = JoinSet::new();
    for writer in writers {
        loops.spawn(write_until(writer, begin, end));
    }
    let collect = async {
        let mut all = histogram()?;
        while let Some(ended) = loops.join_next().await {
            all.add(ended.context("a client panicked")??)
                .context("histograms differ in their bounds")?;
        }
        anyhow::Ok(all)
    };
    let processors = async {
        sleep_until(begin).await;
        let before = processor_seconds(servers);
        sleep_until(end).await;
        processor_seconds(servers) - before
    };
    let both = async { tokio::try_join!(collect, async { Ok(processors.await) }) };
    let (all, server_seconds) = timeout_at(end + LAST_ANSWERS, both)
        .await
        .context("a write was not answered within 30 s")??;
    ensure!(
        !all.is_empty(),
        "no write was answered in the measured time"
    );
    let seconds = as_float(pace.measured_seconds);
    let server_seconds = (!servers.is_empty()).then_some(server_seconds);
    Ok(Measured::of(
        &all,
        clients,
        W::BATCH,
        seconds,
        server_seconds,
    ))
}

async fn write_until<W: Writer>(
    mut writer: W,
    begin: Instant,
    end: Instant,
) -> Result<Histogram<u64>> {
    let mut histogram = histogram()?;
    let mut sent = Instant::now();
    for sequence in 0.. {
        if sent >= end {
            break;
        }
        writer.write(sequence).await?;
        let answered = Instant::now();
        if answered >= begin && answered < end {
            record(&mut histogram, answered - sent);
        }
        sent = answered;
    }
    Ok(histogram)
}

/// An empty distribution of times in microseconds.
pub(super) fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, SIGNIFICANT_DIGITS)
        .context("the bounds of the histogram are wrong")
}

/// Counts one time.
pub(super) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST_MICROS);
    histogram.saturating_record(micros.clamp(1, LONGEST_MICROS));
}

/// The value of a write, of letters and digits.
pub(super) fn value(sequence: u64) -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let letters = rand::rng().sample_iter(Alphanumeric);
        letters.take(TEXT_BYTES).map(char::from).collect()
    });
    let places = (TEXT_BYTES - VALUE_BYTES) as u64;
    let place = usize::try_from(sequence.wrapping_mul(STRIDE) % places).unwrap_or(0);
    &text[place..place + VALUE_BYTES]
}

/// Counts of a benchmark are far below 2^52, where a float stops being exact.
#[expect(clippy::cast_precision_loss)]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_length_and_differ_from_their_neighbours() {
        for sequence in [0, 1, 1_000_000, u64::MAX] {
            assert_eq!(value(sequence).len(), VALUE_BYTES);
        }
        assert_ne!(value(1), value(2));
    }

    #[test]
    fn a_batch_counts_as_its_values() {
        let mut times = histogram().expect("valid bounds");
        for micros in [100, 100, 300, 900] {
            record(&mut times, Duration::from_micros(micros));
        }
        let measured = Measured::of(&times, 64, 10, 2.0, Some(0.004));
        assert_eq!((measured.answered, measured.clients), (4, 64));
        assert!((measured.per_second - 20.0).abs() < 1e-9);
        let server = measured.server_micros_per_write.expect("there is a server");
        assert!((server - 100.0).abs() < 1e-9);
        assert_eq!((measured.p50_micros, measured.max_micros), (100, 900));
    }

    #[tokio::test]
    async fn a_write_that_fails_ends_the_measuring() {
        struct Refused;
        impl Writer for Refused {
            async fn write(&mut self, sequence: u64) -> Result<()> {
                ensure!(sequence < 3, "no more of that");
                Ok(())
            }
        }
        let pace = Pace {
            warm_up_seconds: 600,
            measured_seconds: 600,
        };
        let error = run(vec![Refused], pace, &[]).await.expect_err("refused");
        assert_eq!(error.to_string(), "no more of that");
    }
}
