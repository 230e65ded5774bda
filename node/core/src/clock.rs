//! The hybrid logical clock: a time that follows the wall clock but never runs backwards and is
//! always later than what its owner has already seen.
//!
//! The wall clock is an argument: whoever owns the current [`Hlc`] passes `now_ms` in and keeps the
//! result. Nothing here reads a clock.

use std::fmt;

use thiserror::Error;

/// How far ahead of the receiver's wall clock a received time may be, in milliseconds.
///
/// Five minutes covers the skew of devices without time synchronisation; a time further ahead would
/// win every comparison until the real clock catches up, so it is refused rather than adopted.
pub const MAX_CLOCK_AHEAD_MS: u64 = 5 * 60 * 1000;

/// Bits of the counter that orders events within one millisecond.
const COUNTER_BITS: u32 = 16;
/// The largest wall clock that fits into the 48 bits left (the year 10889).
const MAX_WALL_MS: u64 = u64::MAX >> COUNTER_BITS;

/// A point in hybrid logical time: 48 bits of Unix milliseconds, then 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(u64);

/// A received time lies too far in the receiver's future to be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("clock {remote} is more than {MAX_CLOCK_AHEAD_MS} ms ahead of the local {now_ms} ms")]
pub struct ClockOutOfBounds {
    /// The time that was received.
    pub remote: Hlc,
    /// The receiver's wall clock, in Unix milliseconds.
    pub now_ms: u64,
}

impl Hlc {
    /// The time before all others.
    pub const ZERO: Self = Self(0);

    /// The time at the start of a wall clock millisecond.
    pub fn from_wall_ms(now_ms: u64) -> Self {
        Self(now_ms.min(MAX_WALL_MS) << COUNTER_BITS)
    }

    /// The time in its packed form, as it is stored and sent.
    pub fn from_packed(packed: u64) -> Self {
        Self(packed)
    }

    /// The packed form; its order as a number is the order of times.
    pub fn packed(self) -> u64 {
        self.0
    }

    /// The wall clock part, in Unix milliseconds.
    pub fn wall_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The counter within the millisecond.
    pub fn counter(self) -> u16 {
        // The mask leaves exactly the 16 bits that the result holds.
        #[allow(clippy::cast_possible_truncation)]
        let counter = (self.0 & u64::from(u16::MAX)) as u16;
        counter
    }

    /// The smallest time after this one. A full counter carries into the milliseconds.
    #[must_use]
    pub fn tick(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The time of a new local event: later than this one, and not before the wall clock.
    #[must_use]
    pub fn next(self, now_ms: u64) -> Self {
        self.tick().max(Self::from_wall_ms(now_ms))
    }

    /// The local time after a remote one was seen: later than both.
    pub fn observe(self, remote: Self, now_ms: u64) -> Result<Self, ClockOutOfBounds> {
        remote.check_bounds(now_ms)?;
        Ok(self.max(remote).next(now_ms))
    }

    /// Refuses a time that lies more than [`MAX_CLOCK_AHEAD_MS`] after `now_ms`.
    pub fn check_bounds(self, now_ms: u64) -> Result<(), ClockOutOfBounds> {
        if self.wall_ms() > now_ms.saturating_add(MAX_CLOCK_AHEAD_MS) {
            return Err(ClockOutOfBounds {
                remote: self,
                now_ms,
            });
        }
        Ok(())
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.counter())
    }
}

#[cfg(test)]
mod tests;
