//! What a person sees while long work goes on: one line per step with the time it took, on standard
//! error, so that standard output carries only what another program may read.

use std::time::{Duration, Instant};

/// Says in one line what is true or was decided.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs `work` as a named step and prints how long it took.
///
/// # Errors
/// Those of `work`, after a line that names the step that failed.
pub fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("  {name} ...");
    let start = Instant::now();
    let result = work();
    match &result {
        Ok(_) => eprintln!("  {name}: done in {}", elapsed(start.elapsed())),
        Err(_) => eprintln!("  {name}: FAILED after {}", elapsed(start.elapsed())),
    }
    result
}

/// A duration as a person reads it: `0.4s`, `12s`, `3m05s`.
pub fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        _ => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (millis, expected) in [
            (0, "0.0s"),
            (412, "0.4s"),
            (9_900, "9.9s"),
            (12_000, "12s"),
            (185_000, "3m05s"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(millis)), expected);
        }
    }
}
