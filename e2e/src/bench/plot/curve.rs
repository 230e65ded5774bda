//! Figures over time, as curves with their names at their ends.

use std::fmt::Write as _;

use super::super::closed_loop::as_float;
use super::{WIDTH, picture};

const HEIGHT: f64 = 340.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 44.0;
/// Lines of the grid at most, each way.
const TICKS: f64 = 6.0;
/// Least distance between the names at the ends of curves.
const NAME_HEIGHT: f64 = 16.0;
const GRID: &str = "#e2e8f0";
const BOUND_COLOUR: &str = "#b91c1c";

/// Curves over the same time.
pub(in crate::bench) struct Chart {
    /// Above it.
    pub(in crate::bench) title: &'static str,
    /// Later ones lie above earlier ones.
    pub(in crate::bench) lines: Vec<Line>,
    /// A value with its name that no curve should exceed.
    pub(in crate::bench) bound: Option<(&'static str, f64)>,
    /// Prints a value.
    pub(in crate::bench) shown: fn(f64) -> String,
}

/// One curve.
pub(in crate::bench) struct Line {
    /// At its end.
    pub(in crate::bench) name: &'static str,
    /// Of the line and its name.
    pub(in crate::bench) colour: &'static str,
    /// Seconds and values, in the order of time.
    pub(in crate::bench) points: Vec<(f64, f64)>,
}

impl Chart {
    /// The chart as SVG.
    pub(in crate::bench) fn draw(&self) -> String {
        let scale = self.scale();
        let mut body = String::new();
        self.grid(&scale, &mut body);
        if let Some((_, value)) = self.bound {
            let (left, right, y) = (LEFT, WIDTH - RIGHT, scale.y(value));
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                body,
                r#"<line x1="{left:.1}" y1="{y:.1}" x2="{right:.1}" y2="{y:.1}" stroke="{BOUND_COLOUR}" stroke-width="1.5" stroke-dasharray="5 4"/>"#
            );
        }
        for line in &self.lines {
            let points: Vec<String> = line
                .points
                .iter()
                .map(|(seconds, value)| format!("{:.1},{:.1}", scale.x(*seconds), scale.y(*value)))
                .collect();
            let _ = writeln!(
                body,
                r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="2.5" stroke-linejoin="round"/>"#,
                points.join(" "),
                line.colour
            );
        }
        self.names(&scale, &mut body);
        picture(self.title, HEIGHT, &body)
    }

    fn scale(&self) -> Scale {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let bound = self.bound.map_or(0.0, |(_, value)| value);
        let most = points().map(|point| point.1).fold(bound, f64::max);
        let last = points().map(|point| point.0).fold(0.0, f64::max);
        Scale {
            seconds: last.max(1e-3),
            value: (most * 1.05).max(1e-3),
        }
    }

    fn grid(&self, scale: &Scale, body: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for value in ticks(scale.value) {
            let y = scale.y(value);
            let _ = writeln!(
                body,
                r#"<line x1="{LEFT:.1}" y1="{y:.1}" x2="{right:.1}" y2="{y:.1}" stroke="{GRID}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                y + 4.0,
                (self.shown)(value)
            );
        }
        for seconds in ticks(scale.seconds) {
            let x = scale.x(seconds);
            let _ = writeln!(
                body,
                r#"<line x1="{x:.1}" y1="{TOP:.1}" x2="{x:.1}" y2="{bottom:.1}" stroke="{GRID}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{} s</text>"#,
                bottom + 20.0,
                trimmed(seconds)
            );
        }
    }

    /// At the ends of the curves, moved apart where they would lie on each other.
    fn names(&self, scale: &Scale, body: &mut String) {
        let mut names: Vec<(f64, f64, &str, &str)> = self
            .lines
            .iter()
            .filter_map(|line| {
                let (seconds, value) = line.points.last()?;
                Some((scale.y(*value), scale.x(*seconds), line.name, line.colour))
            })
            .collect();
        if let Some((name, value)) = self.bound {
            names.push((scale.y(value), WIDTH - RIGHT, name, BOUND_COLOUR));
        }
        names.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut lowest = f64::NEG_INFINITY;
        for (y, x, name, colour) in names {
            let y = y.max(lowest + NAME_HEIGHT);
            lowest = y;
            let _ = writeln!(
                body,
                r#"<text x="{:.1}" y="{:.1}" fill="{colour}" font-weight="600">{name}</text>"#,
                x + 8.0,
                y + 4.0
            );
        }
    }
}

/// From figures to places of the picture.
struct Scale {
    seconds: f64,
    value: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.value * (HEIGHT - TOP - BOTTOM)
    }
}

/// Round numbers from 0 to `most`, a handful of them.
fn ticks(most: f64) -> Vec<f64> {
    let rough = most / TICKS;
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(most);
    (0..=20_u64)
        .map(|count| as_float(count) * step)
        .take_while(|value| *value <= most)
        .collect()
}

/// Seconds with no more digits than they need.
fn trimmed(seconds: f64) -> String {
    let text = format!("{seconds:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (most, expected) in [
            (10.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
            (1.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (33.0, vec![0.0, 10.0, 20.0, 30.0]),
        ] {
            let found = ticks(most);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-9, "{found} {expected}");
            }
        }
        assert_eq!(trimmed(2.0), "2");
        assert_eq!(trimmed(0.25), "0.25");
        assert_eq!(trimmed(10.0), "10");
    }

    #[test]
    fn curves_begin_left_and_reach_right_and_names_lie_apart() {
        let line = |name, value| Line {
            name,
            colour: "#000000",
            points: vec![(0.0, 0.0), (4.0, value)],
        };
        let chart = Chart {
            title: "a chart",
            lines: vec![line("one", 100.0), line("other", 99.0)],
            bound: Some(("allowed", 200.0)),
            shown: |value| format!("{value:.0}"),
        };
        let svg = chart.draw();
        let start = format!(r#"points="{LEFT:.1},{:.1} "#, HEIGHT - BOTTOM);
        assert_eq!(svg.matches(&start).count(), 2, "{svg}");
        assert_eq!(svg.matches(&format!(" {:.1},", WIDTH - RIGHT)).count(), 2);
        let height = |name: &str| -> f64 {
            let line = svg.lines().find(|line| line.contains(&format!(">{name}<")));
            let line = line.expect("a name");
            let y = line.split("y=\"").nth(1).expect("a place");
            y.split('"')
                .next()
                .expect("quoted")
                .parse()
                .expect("a number")
        };
        assert!(height("other") - height("one") >= NAME_HEIGHT - 0.2);
        assert!(height("allowed") < height("one"), "more is higher");
    }
}
