//! How far the copy of a snapshot is, for people: counted by the copying tasks, shown by the driver.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bytes of a copy. Shared.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    present: AtomicU64,
    /// Since when bytes are fetched, and how many were there by then.
    began: Mutex<Option<(Instant, u64)>>,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copying {
    /// Bytes that are there and verified.
    pub bytes: u64,
    /// Bytes of the whole.
    pub total: u64,
    /// How long it still takes, at the pace so far; `None` before there is one.
    pub remaining: Option<Duration>,
}

impl Copying {
    /// How much is there, of a hundred, in steps of ten.
    pub fn percent(&self) -> u8 {
        percent(self.bytes, self.total)
    }
}

/// `part` of `whole`, of a hundred, in steps of ten.
pub(super) fn percent(part: u64, whole: u64) -> u8 {
    let tenths = u128::from(part.min(whole)) * 10 / u128::from(whole.max(1));
    u8::try_from(tenths * 10).unwrap_or(100)
}

impl Progress {
    /// So many bytes are to be there in the end.
    pub(super) fn announce(&self, total: u64) {
        self.present.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So many more bytes are there.
    pub(super) fn add(&self, bytes: u64) {
        self.present.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What is there was found; the rest is fetched from now on.
    pub(super) fn fetching(&self, now: Instant) {
        let present = self.present();
        *self.lock() = Some((now, present));
    }

    /// Bytes that are there.
    pub(super) fn present(&self) -> u64 {
        self.present.load(Ordering::Relaxed)
    }

    /// Nothing is copied any more.
    pub fn clear(&self) {
        self.announce(0);
        *self.lock() = None;
    }

    /// How far it is; `None` if nothing is copied.
    pub fn at(&self, now: Instant) -> Option<Copying> {
        let (bytes, total) = (self.present(), self.total.load(Ordering::Relaxed));
        let remaining = self.lock().and_then(|(began, before)| {
            let fetched = bytes.saturating_sub(before);
            let took = now.saturating_duration_since(began);
            let left = total.saturating_sub(bytes);
            (fetched > 0).then(|| took.mul_f64(as_f64(left) / as_f64(fetched)))
        });
        (total > 0).then_some(Copying {
            bytes,
            total,
            remaining,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, u64)>> {
        // Assigned whole: a panic elsewhere leaves nothing half done.
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of an estimate nobody misses the last digits.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_says_nothing_about_the_pace() {
        let (progress, begin) = (Progress::default(), Instant::now());
        assert_eq!(progress.at(begin), None);
        progress.announce(1_000);
        progress.add(500);
        progress.fetching(begin);
        let later = begin + Duration::from_secs(10);
        assert_eq!(progress.at(later).and_then(|now| now.remaining), None);
        progress.add(100);
        let copying = progress.at(later).expect("under way");
        assert_eq!(copying.percent(), 60);
        assert_eq!(copying.remaining, Some(Duration::from_secs(40)));
        progress.clear();
        assert_eq!(progress.at(later), None);
    }

    #[test]
    fn percentages_come_in_steps_and_stay_within_a_hundred() {
        for (part, whole, expected) in [
            (0, 0, 0),
            (0, 10, 0),
            (99, 1_000, 0),
            (100, 1_000, 10),
            (999, 1_000, 90),
            (1_000, 1_000, 100),
            (2_000, 1_000, 100),
            (u64::MAX, u64::MAX, 100),
        ] {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
    }
}
