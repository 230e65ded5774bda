//! Which writes are let in: as many, in number and in bytes, as can be answered in good time.
//!
//! ```text
//! Handle::write ─▶ Admission ─ Place ─▶ log, disk, followers, apply ─▶ answered: the place is free
//!                      └─▶ overloaded (429): nothing of it was kept
//! ```
//! A write that waits is held in memory several times over: decoded, in the log, in a batch for the
//! disk, in a frame for each follower. All of them hold what has a place here and no more, so this
//! is the one bound of a leader's memory for writes. And it is the bound of their delay: once the
//! oldest write has waited for long, few more are let in until it is answered, however much room
//! there is. What is let in then waits for a queue that the disk can empty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many writes may wait, in number and in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all writes that wait; the largest body that is taken fits twice.
    pub bytes: usize,
    /// Writes that wait. Each costs some hundred bytes besides its own.
    pub writes: usize,
    /// How long the oldest may have waited while others are let in freely. Longer than a follower
    /// that hangs is waited for by default, and a fraction of what requests wait at most.
    pub oldest: Duration,
    /// Bytes that may wait behind an older one: a second's work of a slow disk.
    pub slow_bytes: usize,
    /// Writes that may wait behind an older one: what goes into one batch of the log without being
    /// felt. Also how many clients, one write each, never meet this limit.
    pub slow_writes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            writes: 16_384,
            oldest: Duration::from_millis(2_500),
            slow_bytes: 1 << 20,
            slow_writes: 128,
        }
    }
}

/// The writes that wait. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission {
    bounds: Bounds,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    next: u64,
    /// Since when each waits, in the order in which they came.
    since: BTreeMap<u64, Instant>,
}

/// The place of one write, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Mutex<Waiting>>,
    number: u64,
    bytes: usize,
}

impl Admission {
    /// Nothing waits yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            waiting: Arc::default(),
        }
    }

    /// A place for a write of so many bytes that comes `now`; none if it would have to wait too long
    /// or there is no room. A write that is alone always has room.
    pub fn admit(&self, bytes: usize, now: Instant) -> Option<Place> {
        let mut waiting = lock(&self.waiting);
        if !waiting.has_room(&self.bounds, bytes, now) {
            return None;
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.bytes += bytes;
        waiting.since.insert(number, now);
        Some(Place {
            waiting: Arc::clone(&self.waiting),
            number,
            bytes,
        })
    }

    /// Bytes of the writes that wait.
    pub fn bytes(&self) -> usize {
        lock(&self.waiting).bytes
    }
}

impl Waiting {
    fn has_room(&self, bounds: &Bounds, bytes: usize, now: Instant) -> bool {
        let Some((_, oldest)) = self.since.first_key_value() else {
            return true;
        };
        let is_slow = now.saturating_duration_since(*oldest) > bounds.oldest;
        let (most_bytes, most_writes) = if is_slow {
            (bounds.slow_bytes, bounds.slow_writes)
        } else {
            (bounds.bytes, bounds.writes)
        };
        self.bytes + bytes <= most_bytes && self.since.len() < most_writes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        waiting.bytes -= self.bytes;
        waiting.since.remove(&self.number);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Whole after every statement: a panic elsewhere leaves nothing half done.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 100,
        writes: 10,
        oldest: Duration::from_secs(2),
        slow_bytes: 20,
        slow_writes: 2,
    };

    /// Who is let in of writes of these bytes that come so many seconds after the first.
    fn let_in(writes: &[(usize, u64)]) -> Vec<bool> {
        let (admission, began) = (Admission::new(BOUNDS), Instant::now());
        let places = writes
            .iter()
            .map(|(bytes, after)| admission.admit(*bytes, began + Duration::from_secs(*after)));
        let places: Vec<_> = places.collect();
        places.iter().map(Option::is_some).collect()
    }

    #[test]
    fn there_is_room_in_bytes_and_in_number_and_less_behind_one_that_waits_for_long() {
        let eleven = [(1, 0); 11];
        let ten_and_not_one_more = [&[true; 10][..], &[false]].concat();
        let cases = [
            ("up to the bytes", &[(60, 0), (40, 0)][..], vec![true, true]),
            ("one byte more", &[(60, 0), (41, 0)], vec![true, false]),
            ("one too many", &eleven, ten_and_not_one_more),
            ("as large as it may be, alone", &[(1_000, 0)], vec![true]),
            ("behind a recent one", &[(1, 0), (20, 2)], vec![true, true]),
            ("behind an old one", &[(1, 0), (20, 3)], vec![true, false]),
            ("a small one", &[(1, 0), (19, 3)], vec![true, true]),
            (
                "a third",
                &[(1, 0), (1, 3), (1, 3)],
                vec![true, true, false],
            ),
        ];
        for (case, writes, expected) in cases {
            assert_eq!(let_in(writes), expected, "{case}");
        }
    }

    #[test]
    fn places_come_free_again_and_the_next_oldest_counts() {
        let (admission, began) = (Admission::new(BOUNDS), Instant::now());
        let later = began + Duration::from_secs(3);
        let old = admission.admit(90, began);
        let young = admission.admit(10, began + Duration::from_secs(2));
        assert!(admission.admit(1, later).is_none());
        drop(old);
        assert_eq!(admission.bytes(), 10);
        let next = admission.admit(90, later);
        assert!(next.is_some(), "the oldest now is a second old");
        drop((young, next));
        assert_eq!(admission.bytes(), 0);
    }
}
