//! How fast snapshots are read: one budget for all readers together, whoever they are.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hands out the time at which bytes may be read.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::default(),
        }
    }

    /// How long to wait at `now` before so many bytes are read. Who asks has to read them then: time
    /// that is not used is not kept for later, so a reader that was stalled cannot make a burst of it.
    pub(super) fn wait(&self, bytes: u64, now: Instant) -> Duration {
        let nanos = bytes.saturating_mul(1_000_000_000) / self.bytes_per_second;
        let takes = Duration::from_nanos(nanos);
        // Assigned whole: a panic elsewhere leaves nothing half done.
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(begin + takes);
        begin - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_readers_together_keep_to_the_rate() {
        let (pace, begin) = (Pace::new(1_000), Instant::now());
        let waits: Vec<u128> = [500, 500, 1_000, 1]
            .map(|bytes| pace.wait(bytes, begin).as_millis())
            .to_vec();
        assert_eq!(waits, [0, 500, 1_000, 2_000]);
        let later = begin + Duration::from_secs(10);
        assert_eq!(pace.wait(1, later), Duration::ZERO, "nobody read meanwhile");
        assert!(
            pace.wait(1, later) > Duration::ZERO,
            "silence is not saved up"
        );
    }
}
