//! How long nobody was told of a successful write: the pause that a fault or a planned change costs.
//!
//! ```text
//! times of acknowledgements, times of faults ─► pauses ─► Histogram ─► table
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Longer pauses count as this one; a story gives up long before.
const LONGEST_MS: u64 = 600_000;
/// Three digits: a pause of 2.5 s is told from one of 2.51 s.
const SIGNIFICANT_DIGITS: u8 = 3;
/// What the table shows, and what promises are made about.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// For each fault the longest time between one acknowledgement and the next, from the fault until the
/// next fault. All times are since the same moment, earliest first. A fault after which nothing was
/// acknowledged is left out: there is no next write to measure.
pub fn pauses(acknowledged: &[Duration], faults: &[Duration]) -> Vec<Duration> {
    faults
        .iter()
        .enumerate()
        .filter_map(|(number, fault)| {
            let until = faults.get(number + 1).copied().unwrap_or(Duration::MAX);
            pause(acknowledged, *fault, until)
        })
        .collect()
}

/// The longest time between one acknowledgement and the next that `fault` cost before the next fault,
/// which came at `until`. A silence that lasts beyond that is the next fault's, unless it began before
/// this one.
pub fn pause(acknowledged: &[Duration], fault: Duration, until: Duration) -> Option<Duration> {
    acknowledged
        .windows(2)
        .filter(|pair| pair[1] > fault && (pair[1] <= until || pair[0] < fault))
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .max()
}

/// The distribution of pauses, in milliseconds.
pub fn histogram(pauses: &[Duration]) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_MS, SIGNIFICANT_DIGITS)
        .context("the bounds of the histogram are wrong")?;
    for pause in pauses {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(LONGEST_MS);
        histogram.saturating_record(millis.clamp(1, LONGEST_MS));
    }
    Ok(histogram)
}

/// The distribution in one line for people.
pub fn table(what: &str, histogram: &Histogram<u64>) -> String {
    let cells: Vec<String> = QUANTILES
        .iter()
        .map(|(name, quantile)| format!("{name} {} ms", histogram.value_at_quantile(*quantile)))
        .collect();
    format!("{what}: {} of them; {}", histogram.len(), cells.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_fault_costs_the_longest_silence_until_the_next_fault() {
        type Case<'a> = (&'a str, &'a [u64], &'a [u64], &'a [u64]);
        let cases: [Case; 8] = [
            ("no fault", &[0, 10, 500], &[], &[]),
            (
                "the silence spans the fault",
                &[0, 10, 510, 520],
                &[12],
                &[500],
            ),
            (
                "the silence comes after it",
                &[0, 10, 20, 900],
                &[12],
                &[880],
            ),
            (
                "before it does not count",
                &[0, 900, 910, 920],
                &[905],
                &[10],
            ),
            (
                "each fault has its own",
                &[0, 100, 400, 410, 710, 720],
                &[150, 500],
                &[300, 300],
            ),
            (
                "a longer one later is the other's",
                &[0, 100, 400, 410, 910],
                &[150, 500],
                &[300, 500],
            ),
            (
                "nothing between two faults",
                &[0, 100, 900],
                &[150, 500],
                &[800, 800],
            ),
            ("nothing after it", &[0, 10], &[20], &[]),
        ];
        for (case, acknowledged, faults, expected) in cases {
            assert_eq!(
                pauses(&millis(acknowledged), &millis(faults)),
                millis(expected),
                "{case}"
            );
        }
    }

    #[test]
    fn the_table_names_count_and_quantiles() {
        let histogram = histogram(&millis(&[100, 200, 5_000])).expect("sound bounds");
        let table = table("pauses", &histogram);
        assert!(
            table.starts_with("pauses: 3 of them; p50 200 ms"),
            "{table}"
        );
        assert!(table.contains("max 500"), "{table}");
    }
}
