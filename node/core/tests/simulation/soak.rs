//! Schedules of fresh seeds for as long as is asked, on every processor; the first violation ends it.
//!
//! ```text
//! a random first seed ─▶ seed, seed + 1, … in every scenario ─▶ progress, or how to replay
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::world::{Scenario, World};

/// Often enough to see that it lives.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What was run, and the first violation if there was one.
struct Soak {
    first_seed: u64,
    until: Instant,
    taken: AtomicU64,
    done: AtomicU64,
    violation: Mutex<Option<String>>,
}

/// Runs for `time`, tells how it goes by `report`. `Err` says what went wrong and how to see it again.
pub(crate) fn soak(time: Duration, report: impl Fn(String)) -> Result<(), String> {
    let began = Instant::now();
    let soak = Soak {
        first_seed: fresh_seed(),
        until: began + time,
        taken: AtomicU64::new(0),
        done: AtomicU64::new(0),
        violation: Mutex::new(None),
    };
    report(format!("seeds from {}", soak.first_seed));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| soak.work())).collect();
        let mut reported = began;
        while !workers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            std::thread::sleep(Duration::from_millis(50));
            if reported.elapsed() >= PROGRESS_EVERY {
                reported = Instant::now();
                report(soak.progress(began));
            }
        }
    });
    report(soak.progress(began));
    soak.found().map_or(Ok(()), Err)
}

impl Soak {
    fn work(&self) {
        while Instant::now() < self.until && self.found().is_none() {
            let seed = self.first_seed + self.taken.fetch_add(1, Ordering::Relaxed);
            for scenario in Scenario::ALL {
                if let Err(why) = verdict(scenario, seed) {
                    self.note(format!(
                        "{scenario:?} seed {seed}: {why}\nreplay: PERCOLATE_SEED={seed} cargo test -p percolate-core --test simulation -- --ignored --nocapture replays_a_seed"
                    ));
                    return;
                }
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn progress(&self, began: Instant) -> String {
        format!(
            "{:4} s: {} schedules, seeds {} to {}",
            began.elapsed().as_secs(),
            self.done.load(Ordering::Relaxed),
            self.first_seed,
            self.first_seed + self.taken.load(Ordering::Relaxed)
        )
    }

    fn found(&self) -> Option<String> {
        let violation = self.violation.lock();
        violation.expect("no worker panics with it").clone()
    }

    fn note(&self, violation: String) {
        let mut first = self.violation.lock().expect("no worker panics with it");
        first.get_or_insert(violation);
    }
}

/// A panic is a violation too, and must not lose the seed.
fn verdict(scenario: Scenario, seed: u64) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| World::run(scenario, seed).verdict()))
        .unwrap_or_else(|_| Err("panicked, see above".to_owned()))
}

/// Of the time: another one for every run, and short enough to be copied by hand.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or_default() * 1_000
        % 1_000_000_000_000
}
