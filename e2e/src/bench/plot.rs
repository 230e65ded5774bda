//! A report as pictures: SVG, written by hand, readable on light and dark pages. Pure.

pub(super) mod bars;
pub(super) mod curve;
pub(super) mod strip;

use std::fmt::Write as _;

use self::bars::{Bar, bars};
use super::closed_loop::{Measured, as_float};
use super::report::{Report, Subject};
use super::table::{thousands, time};

const WIDTH: f64 = 860.0;
const ROW: f64 = 30.0;
/// Above the rows: title, and the scale of a plot that has one.
const TOP: f64 = 56.0;
const BOTTOM: f64 = 14.0;
/// Where names end and the scale begins.
const LEFT: f64 = 220.0;
/// Room for the figure behind the longest bar.
const RIGHT: f64 = 110.0;
const SPAN: f64 = WIDTH - LEFT - RIGHT;
/// Percolate.
pub(super) const OWN_COLOUR: &str = "#0f766e";
/// Its peers.
pub(super) const PEER_COLOUR: &str = "#64748b";
/// What databases stand on.
pub(super) const FLOOR_COLOUR: &str = "#cbd5e1";
/// Quantiles of a latency plot, each with the radius of its mark.
const MARKS: [(&str, f64); 3] = [("p50", 6.0), ("p99", 4.5), ("p99.9", 3.0)];

/// Writes per second of the databases with many clients, and of what they stand on.
pub(super) fn rates(report: &Report) -> String {
    let rows = with_many_clients(report, |subject| {
        !matches!(subject, Subject::Device | Subject::RoundTrip)
    });
    let rows: Vec<Bar> = rows
        .iter()
        .map(|(subject, many)| Bar {
            name: subject.name(),
            colour: colour(*subject),
            value: many.per_second,
        })
        .collect();
    let title = "Durable writes per second, 64 clients (longer is better)";
    bars(title, &rows, thousands)
}

/// Latencies of the databases with many clients, on a logarithmic scale.
pub(super) fn latencies(report: &Report) -> String {
    let rows = with_many_clients(report, |subject| {
        !subject.is_floor() && subject != Subject::PercolateBatches
    });
    let (low, high) = decades(&rows);
    let place = |micros: f64| LEFT + (micros.max(1.0).log10() - low) / (high - low) * SPAN;
    let mut body = String::new();
    let mut decade = low;
    while decade <= high {
        let x = place(10_f64.powf(decade));
        let bottom = row_top(rows.len());
        let _ = writeln!(
            body,
            r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom:.1}" stroke="#94a3b8" stroke-width="0.5"/>"##
        );
        let _ = writeln!(
            body,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            TOP - 6.0,
            decade_name(decade)
        );
        decade += 1.0;
    }
    for (at, (subject, many)) in rows.iter().enumerate() {
        let y = row_top(at) + ROW / 2.0;
        let times = [many.p50_micros, many.p99_micros, many.p999_micros];
        let points = times.map(|micros| place(as_float(micros)));
        name(&mut body, at, subject.name());
        let _ = writeln!(
            body,
            r#"<line x1="{:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="{}" stroke-width="2"/>"#,
            points[0],
            points[2],
            colour(*subject)
        );
        for ((x, micros), (quantile, radius)) in points.iter().zip(times).zip(MARKS) {
            let _ = writeln!(
                body,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{}"><title>{quantile}: {}</title></circle>"#,
                colour(*subject),
                time(micros)
            );
        }
        let _ = writeln!(
            body,
            r#"<text x="{:.1}" y="{:.1}">{}</text>"#,
            points[2] + 10.0,
            y + 4.0,
            time(many.p999_micros)
        );
    }
    picture(
        "Latency with 64 clients: p50, p99, p99.9 (further left is better)",
        row_top(rows.len()) + BOTTOM,
        &body,
    )
}

fn with_many_clients(
    report: &Report,
    wanted: impl Fn(Subject) -> bool,
) -> Vec<(Subject, &Measured)> {
    let rows = report.rows.iter().filter(|row| wanted(row.subject));
    rows.filter_map(|row| Some((row.subject, row.many.as_ref()?)))
        .collect()
}

/// Powers of ten, of microseconds, that enclose all latencies.
fn decades(rows: &[(Subject, &Measured)]) -> (f64, f64) {
    let logarithm = |micros: u64| as_float(micros.max(1)).log10();
    let lows = rows
        .iter()
        .map(|(_, many)| logarithm(many.p50_micros).floor());
    let highs = rows
        .iter()
        .map(|(_, many)| logarithm(many.p999_micros).ceil());
    let low = lows.fold(f64::INFINITY, f64::min);
    let high = highs.fold(f64::NEG_INFINITY, f64::max);
    if low < high { (low, high) } else { (0.0, 6.0) }
}

fn decade_name(decade: f64) -> String {
    let micros = 10_f64.powf(decade);
    if micros < 1e3 {
        format!("{micros:.0} µs")
    } else if micros < 1e6 {
        format!("{:.0} ms", micros / 1e3)
    } else {
        format!("{:.0} s", micros / 1e6)
    }
}

fn row_top(at: usize) -> f64 {
    TOP + as_float(at as u64) * ROW
}

fn name(body: &mut String, at: usize, name: &str) {
    let _ = writeln!(
        body,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
        LEFT - 10.0,
        row_top(at) + ROW / 2.0 + 4.0,
        name
    );
}

fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::Percolate | Subject::PercolateBatches => OWN_COLOUR,
        _ if subject.is_floor() => FLOOR_COLOUR,
        _ => PEER_COLOUR,
    }
}

/// On a background of its own: the text would else vanish on a dark page.
fn picture(title: &str, height: f64, body: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="#0f172a">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="14" y="22" font-size="15" font-weight="600">{title}</text>
{body}</svg>
"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn the_longest_bar_fills_the_scale_and_the_others_are_in_proportion() {
        let svg = rates(&report());
        assert!(svg.contains(&format!(r#"width="{SPAN:.1}""#)), "{svg}");
        assert!(
            svg.contains(&format!(r#"width="{:.1}""#, SPAN / 2.0)),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect x=").count(), 3);
    }

    #[test]
    fn latencies_lie_between_the_powers_of_ten_around_them() {
        let report = report();
        let rows = with_many_clients(&report, |subject| !subject.is_floor());
        assert_eq!(decades(&rows), (2.0, 4.0));
        assert_eq!(decades(&[]), (0.0, 6.0));
        let svg = latencies(&report);
        for decade in ["100 µs", "1 ms", "10 ms"] {
            assert!(svg.contains(&format!(">{decade}</text>")), "{svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 3 * 3);
    }

    #[test]
    fn every_element_is_closed() {
        let sections = crate::bench::scenario::tests::sections();
        let figures = sections
            .iter()
            .filter_map(|section| section.figures.as_ref());
        let plots = figures.flat_map(crate::bench::scenario::Figures::plots);
        let pictures = plots.map(|(_, _, svg)| svg);
        for svg in pictures.chain([rates(&report()), latencies(&report())]) {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for element in ["svg", "text", "circle", "title"] {
                let opened = svg.matches(&format!("<{element}")).count();
                let closed = svg.matches(&format!("</{element}>")).count();
                assert_eq!(opened, closed, "{element}");
            }
        }
    }
}
