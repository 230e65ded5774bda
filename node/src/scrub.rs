//! Looks for damage all the while, slowly: a thread that reads the store's files again and again, and
//! now and then counts what is in them.
//!
//! ```text
//! every 30 s: Store::scrub   ─┐
//! rarely:     Store::recount ─┴─▶ damage ─▶ the store stops ─▶ the driver ends ─▶ quarantine
//! ```
//! A byte that goes wrong is seen a pass later: within 30 s, or as long as the store's bytes take at
//! the rate allowed, whichever is longer. Quiet tenants are read too; their files are few.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::scrub::{Pass, Verified};

/// How much is read, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pacing {
    /// Bytes read per second, at most.
    pub bytes_per_second: u64,
    /// From the beginning of one pass to that of the next.
    pub every: Duration,
    /// From one count of all items to the next. It decompresses and hashes everything, tens of times
    /// the cost of reading it.
    pub recount_every: Duration,
}

impl Pacing {
    /// The usual times at a given rate.
    pub fn at(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            every: Duration::from_secs(30),
            recount_every: Duration::from_hours(6),
        }
    }
}

/// Ahead of its pace by less than this it does not wait: each wait is a wakeup.
const SLACK: Duration = Duration::from_millis(100);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Scrubber {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Starts it.
    pub fn start(
        store: Arc<Store>,
        pacing: Pacing,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("scrub".to_owned())
            .spawn(move || Scrub::new(store, pacing, metrics, stopped).run())?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Scrub {
    store: Arc<Store>,
    pacing: Pacing,
    metrics: Arc<Metrics>,
    stopped: mpsc::Receiver<()>,
    verified: Verified,
    /// A count is due at the first pass: what an earlier process was not told is found then.
    counted_at: Option<Instant>,
}

impl Scrub {
    fn new(
        store: Arc<Store>,
        pacing: Pacing,
        metrics: Arc<Metrics>,
        stopped: mpsc::Receiver<()>,
    ) -> Self {
        Self {
            verified: store.verified(),
            store,
            pacing,
            metrics,
            stopped,
            counted_at: None,
        }
    }

    fn run(mut self) {
        loop {
            let began = Instant::now();
            if !self.pass(began) {
                return;
            }
            let rest = self.pacing.every.saturating_sub(began.elapsed());
            if self.is_stopped_within(rest) {
                return;
            }
        }
    }

    /// One pass; whether there is to be another.
    fn pass(&mut self, began: Instant) -> bool {
        let due = self
            .counted_at
            .is_none_or(|at| began - at >= self.pacing.recount_every);
        let mut pace = Pace {
            bytes_per_second: self.pacing.bytes_per_second.max(1),
            stopped: &self.stopped,
            began,
            bytes: 0,
        };
        let metrics = &self.metrics;
        metrics.scrub_begins();
        let passed = self.store.scrub(&mut self.verified, due, |bytes| {
            metrics.scrubbed(bytes as u64);
            pace.allows(bytes)
        });
        match passed {
            Ok(Pass::Whole { .. }) => metrics.scrub_ends(true),
            Ok(Pass::Ended) => return false,
            Err(found) => {
                metrics.scrub_ends(false);
                tracing::error!(what = %found, "damage was found");
                return false;
            }
        }
        if due {
            if let Err(error) = self.store.recount(|bytes| pace.allows(bytes)) {
                metrics.scrub_ends(false);
                tracing::error!(%error, "damage was found");
                return false;
            }
            self.counted_at = Some(began);
        }
        true
    }

    fn is_stopped_within(&self, time: Duration) -> bool {
        !matches!(
            self.stopped.recv_timeout(time),
            Err(RecvTimeoutError::Timeout)
        )
    }
}

/// Holds reading back to the rate allowed.
struct Pace<'a> {
    bytes_per_second: u64,
    stopped: &'a mpsc::Receiver<()>,
    began: Instant,
    bytes: u64,
}

impl Pace<'_> {
    /// Waits if need be; whether to go on.
    fn allows(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        let due = Duration::from_millis(self.bytes.saturating_mul(1_000) / self.bytes_per_second);
        let ahead = due.saturating_sub(self.began.elapsed());
        if ahead < SLACK {
            return true;
        }
        matches!(
            self.stopped.recv_timeout(ahead),
            Err(RecvTimeoutError::Timeout)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_waits_for_its_pace_and_ends_when_told() {
        let (stop, stopped) = mpsc::channel::<()>();
        let mut pace = Pace {
            bytes_per_second: 1_000,
            stopped: &stopped,
            began: Instant::now(),
            bytes: 0,
        };
        assert!(pace.allows(200));
        assert!(
            pace.began.elapsed() >= Duration::from_millis(200),
            "it read ahead of its pace"
        );
        drop(stop);
        assert!(!pace.allows(1_000_000), "it goes on though nobody wants it");
    }
}
