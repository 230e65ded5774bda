//! A target, what was found, and whether that meets it. Pure.

use std::fmt::Write as _;

/// A target and what was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// What is compared with what.
    pub(super) target: String,
    /// The bound, with its direction.
    pub(super) wanted: String,
    /// The figure.
    pub(super) found: String,
    /// Met, or missed by how much, or not known.
    pub(super) judgement: String,
}

/// A bound, and how people read figures of its kind.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// What is measured.
    pub(super) target: &'static str,
    /// The bound itself.
    pub(super) wanted: f64,
    /// Prints a figure with its unit.
    pub(super) shown: fn(f64) -> String,
}

impl Bound {
    /// The more the better.
    pub(super) fn at_least(self, found: f64) -> Verdict {
        self.judge(found, "≥", found >= self.wanted, || {
            format!(
                "it would have to be {:.2} times as much",
                self.wanted / found
            )
        })
    }

    /// The less the better.
    pub(super) fn at_most(self, found: f64) -> Verdict {
        self.judge(found, "≤", found <= self.wanted, || {
            if self.wanted > 0.0 {
                format!("{:.2} times what is allowed", found / self.wanted)
            } else {
                format!("{} too many", (self.shown)(found))
            }
        })
    }

    fn judge(self, found: f64, sign: &str, met: bool, how: impl Fn() -> String) -> Verdict {
        let judgement = if met {
            "met".to_owned()
        } else {
            format!("**missed**: {}", how())
        };
        Verdict {
            target: self.target.to_owned(),
            wanted: format!("{sign} {}", (self.shown)(self.wanted)),
            found: (self.shown)(found),
            judgement,
        }
    }
}

/// A plain ratio.
pub(super) fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// A count.
pub(super) fn count(value: f64) -> String {
    super::table::thousands(value)
}

/// Bytes, as MiB.
pub(super) fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1_048_576.0)
}

/// Milliseconds.
pub(super) fn millis(value: f64) -> String {
    format!("{value:.0} ms")
}

/// Verdicts as a table.
pub(super) fn table(verdicts: &[Verdict]) -> String {
    let mut text = String::from("| | wanted | measured | |\n|---|---|---|---|\n");
    for verdict in verdicts {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            verdict.target, verdict.wanted, verdict.found, verdict.judgement
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_or_missed_by_so_much() {
        let bound = |wanted| Bound {
            target: "speed",
            wanted,
            shown: ratio,
        };
        for (verdict, wanted, judgement) in [
            (bound(2.0).at_least(2.0), "≥ 2.00", "met"),
            (
                bound(2.0).at_least(1.6),
                "≥ 2.00",
                "**missed**: it would have to be 1.25 times as much",
            ),
            (bound(2.0).at_most(2.0), "≤ 2.00", "met"),
            (
                bound(2.0).at_most(3.0),
                "≤ 2.00",
                "**missed**: 1.50 times what is allowed",
            ),
            (bound(0.0).at_most(0.0), "≤ 0.00", "met"),
            (
                bound(0.0).at_most(3.0),
                "≤ 0.00",
                "**missed**: 3.00 too many",
            ),
        ] {
            assert_eq!((&*verdict.wanted, &*verdict.judgement), (wanted, judgement));
        }
    }

    #[test]
    fn every_row_has_four_cells() {
        let bound = Bound {
            target: "memory",
            wanted: 64.0 * 1_048_576.0,
            shown: mebibytes,
        };
        let text = table(&[bound.at_most(1_048_576.0)]);
        assert!(
            text.ends_with("| memory | ≤ 64.0 MiB | 1.0 MiB | met |\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.matches('|').count() == 5));
    }
}
