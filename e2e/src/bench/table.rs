//! A report as Markdown. Pure.

use std::fmt::Write as _;

use super::closed_loop::Measured;
use super::report::{Report, Row};
use super::scenario::{Scenario, Section};
use super::verdict;

/// What repeats the run.
const COMMAND: &str = "make bench";
/// More than this before the run is somebody else's work.
const QUIET_LOAD: f64 = 1.0;

/// The whole document.
pub(super) fn document(report: &Report) -> String {
    // Writing to a String cannot fail, here and below.
    let mut text = format!(
        "# Benchmarks\n\n\
         Everything here was measured in one run on one machine, on one file system, by one program that started every \
         database and every client, on the same cores and over loopback. Repeat it with `{COMMAND}`, which writes this \
         file; `percolate-e2e bench --only` measures a part.\n\n",
    );
    machine(report, &mut text);
    left_out(report, &mut text);
    if !report.rows.is_empty() {
        writes(report, &mut text);
    }
    for section in &report.sections {
        scenario(section, &mut text);
    }
    let _ = writeln!(text, "The raw figures are in [results.json](results.json).");
    text
}

fn left_out(report: &Report, text: &mut String) {
    let names = report.left_out();
    if !names.is_empty() {
        let _ = writeln!(text, "**Left out of this run**: {}.\n", names.join(", "));
    }
}

fn writes(report: &Report, text: &mut String) {
    let _ = write!(
        text,
        "## Durable writes beside the peers\n\n\
         Replicated writes of {} bytes: one database after the other. Each client sends its next write when the last \
         one is answered ({} s of warm-up, then {} s measured). A write counts as answered when it is synced on the \
         copies named in the table.\n\n",
        super::closed_loop::VALUE_BYTES,
        report.pace.warm_up_seconds,
        report.pace.measured_seconds,
    );
    figures(report, text);
    text.push_str("![Writes per second](rates.svg)\n\n![Latency](latencies.svg)\n\n");
    targets(report, text);
    setups(report, text);
}

fn scenario(section: &Section, text: &mut String) {
    let name = section.scenario.name();
    let _ = write!(text, "## {name}\n\n");
    if let Some(problem) = &section.problem {
        let problem = problem.replace('\n', " ");
        let _ = writeln!(text, "Not measured: {problem}\n");
    }
    let Some(figures) = &section.figures else {
        return;
    };
    let _ = writeln!(text, "{}", figures.text());
    for (file, shows, _) in figures.plots() {
        let _ = writeln!(text, "![{shows}]({file})\n");
    }
    let word = match section.scenario {
        Scenario::CatchUp => "catch-up",
        Scenario::Bootstrap => "bootstrap",
        Scenario::Memory => "memory",
        Scenario::Failover => "failover",
        Scenario::Idle => "idle",
    };
    let _ = writeln!(
        text,
        "{}\nThis alone: `percolate-e2e bench --only {word}`, in {:.0} s here, with starting and filling.\n",
        verdict::table(&figures.verdicts()),
        section.took_seconds,
    );
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
        "### Figures\n\n\
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
    let table = verdict::table(&report.verdicts());
    let _ = writeln!(text, "### Targets\n\n{table}");
}

fn setups(report: &Report, text: &mut String) {
    text.push_str("### How each was run\n\n");
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
         Percolate alone uses TLS, to its clients and between its replicas.\n",
    );
    if report.rows.iter().any(|row| row.subject.is_percolate()) {
        text.push_str(
            "Percolate is the build of `make build`, optimised but without link-time optimisation; \
             all others are release builds.\n",
        );
    }
    text.push('\n');
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
            .skip_while(|line| *line != "### Figures")
            .take_while(|line| *line != "### Targets")
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
        assert!(!document(&report).contains("**Other work disturbed this run**"));
        report.machine.load_before = 4.0;
        assert!(document(&report).contains("**Other work disturbed this run**"));
    }

    #[test]
    fn a_peer_that_was_not_measured_says_why() {
        assert!(
            document(&report()).contains("| rqlite 8.36.0 | 2 of 3 | not measured: it ended |")
        );
    }

    #[test]
    fn a_run_of_one_scenario_shows_that_and_what_it_left_out() {
        let mut report = report();
        report.rows.clear();
        report
            .sections
            .retain(|section| section.scenario == Scenario::Failover);
        let text = document(&report);
        assert!(text.contains("## Failover\n"), "{text}");
        assert!(text.contains("![Pauses of a failover](failover.svg)"));
        assert!(text.contains("| leader killed, p99 | ≤ 5000 ms | 3000 ms | met |"));
        assert!(text.contains("bench --only failover`, in 61 s"));
        assert!(!text.contains("rates.svg") && !text.contains("# Catch-up"));
        let left_out = text.lines().find(|line| line.starts_with("**Left out"));
        let left_out = left_out.expect("it says what is missing");
        assert!(left_out.contains("etcd 3.7.3") && left_out.contains("Idle tenant"));
        assert!(!left_out.contains("Failover"));
    }

    #[test]
    fn a_scenario_that_was_not_measured_says_why() {
        assert!(document(&report()).contains("## Idle tenant\n\nNot measured: it ended\n"));
    }
}
