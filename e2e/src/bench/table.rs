//! A report as Markdown. Pure.

use std::fmt::Write as _;

use super::closed_loop::Measured;
use super::report::{Report, Row};

/// What repeats the run.
const COMMAND: &str = "make bench";
/// More than this before the run is somebody else's work.
const QUIET_LOAD: f64 = 1.0;

/// The whole document.
pub(super) fn document(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        text,
        "# Benchmarks\n\n\
         Durable, replicated writes of {} bytes: every database was started by the same program, one after the other, \
         in one run on one machine, on one file system, with clients on the same cores over loopback. Each client sends \
         its next write when the last one is answered ({} s of warm-up, then {} s measured). A write counts as answered \
         when it is synced on the copies named in the table.\n\n\
         Repeat it with `{COMMAND}`, which writes this file.\n\n",
        super::closed_loop::VALUE_BYTES,
        report.pace.warm_up_seconds,
        report.pace.measured_seconds,
    );
    machine(report, &mut text);
    figures(report, &mut text);
    text.push_str("![Writes per second](rates.svg)\n\n![Latency](latencies.svg)\n\n");
    targets(report, &mut text);
    setups(report, &mut text);
    text
}

fn machine(report: &Report, text: &mut String) {
    let machine = &report.machine;
    let _ = write!(
        text,
        "The machine: {} cores ({}), {} GiB, Linux {}, {}. Load before the run: {:.1}.\n\n",
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.load_before,
    );
    if machine.load_before > QUIET_LOAD {
        text.push_str(
            "**Other work disturbed this run**: its rates are too low and its latencies too high, \
             and not by the same factor for everybody.\n\n",
        );
    }
}

fn figures(report: &Report, text: &mut String) {
    text.push_str(
        "## Figures\n\n\
         | | synced copies | clients | writes/s | p50 | p99 | p99.9 | one client: writes/s | p50 | p99 | p99.9 | servers' processor time per write |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &report.rows {
        let _ = writeln!(text, "{}", line(row));
    }
    text.push('\n');
}

fn line(row: &Row) -> String {
    let subject = row.subject;
    let head = format!("| {} | {} |", subject.name(), subject.copies());
    if let Some(problem) = &row.problem {
        let problem = problem.replace('|', "/").replace('\n', " ");
        return format!("{head} not measured: {problem} ||||||||||");
    }
    let many = row.many.as_ref();
    let clients = many.map_or_else(|| "–".to_owned(), |many| many.clients.to_string());
    let server = many.and_then(|many| many.server_micros_per_write);
    let server = server.map_or_else(|| "–".to_owned(), |micros| format!("{micros:.0} µs"));
    format!(
        "{head} {clients} | {} | {} | {server} |",
        cells(many),
        cells(row.one.as_ref())
    )
}

fn cells(measured: Option<&Measured>) -> String {
    let Some(measured) = measured else {
        return "– | – | – | –".to_owned();
    };
    format!(
        "{} | {} | {} | {}",
        thousands(measured.per_second),
        time(measured.p50_micros),
        time(measured.p99_micros),
        time(measured.p999_micros)
    )
}

fn targets(report: &Report, text: &mut String) {
    text.push_str("## Targets\n\n| | wanted | measured | |\n|---|---|---|---|\n");
    for verdict in report.verdicts() {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            verdict.target, verdict.wanted, verdict.found, verdict.judgement
        );
    }
    text.push('\n');
}

fn setups(report: &Report, text: &mut String) {
    text.push_str("## How each was run\n\n");
    for row in &report.rows {
        let _ = writeln!(
            text,
            "- **{}**: {}.",
            row.subject.name(),
            row.subject.setup()
        );
    }
    text.push_str(
        "\nMajority systems need three members to survive the loss of one, where Percolate and Redis need two: \
         that is the comparison, and on one machine the third member costs them processor time. \
         Percolate alone uses TLS, to its clients and between its replicas. \
         The raw figures are in [results.json](results.json).\n",
    );
    if report.rows.iter().any(|row| row.subject.is_percolate()) {
        text.push_str(
            "Percolate is the build of `make build`, optimised but without link-time optimisation; \
             all others are release builds.\n",
        );
    }
}

/// Microseconds as a person reads them.
pub(super) fn time(micros: u64) -> String {
    let millis = f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..10_000 => format!("{millis:.2} ms"),
        10_000..100_000 => format!("{millis:.1} ms"),
        _ => format!("{millis:.0} ms"),
    }
}

/// A rate with its thousands apart.
pub(super) fn thousands(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (micros, expected) in [
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
        ] {
            assert_eq!(time(micros), expected);
        }
        for (rate, expected) in [(7.0, "7"), (999.6, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(thousands(rate), expected);
        }
    }

    #[test]
    fn every_row_of_the_figures_has_all_columns() {
        let text = document(&report());
        let rows: Vec<&str> = text
            .lines()
            .skip_while(|line| *line != "## Figures")
            .take_while(|line| *line != "## Targets")
            .filter(|line| line.starts_with('|'))
            .collect();
        assert_eq!(rows.len(), 2 + report().rows.len());
        for row in rows {
            assert_eq!(row.matches('|').count(), 13, "{row}");
        }
    }

    #[test]
    fn a_disturbed_run_says_so() {
        let mut report = report();
        assert!(!document(&report).contains("disturbed"));
        report.machine.load_before = 4.0;
        assert!(document(&report).contains("disturbed"));
    }

    #[test]
    fn a_peer_that_was_not_measured_says_why() {
        assert!(
            document(&report()).contains("| rqlite 8.36.0 | 2 of 3 | not measured: it ended |")
        );
    }
}
