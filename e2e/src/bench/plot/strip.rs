//! Every single value of a few kinds as a mark on one scale: with few of them a histogram hides more
//! than it shows.

use std::fmt::Write as _;

use super::super::closed_loop::as_float;
use super::{BOTTOM, LEFT, ROW, SPAN, TOP, decade_name, name, picture, row_top};

const BOUND_COLOUR: &str = "#b91c1c";
const RADIUS: f64 = 5.0;

/// Values of one kind.
pub(in crate::bench) struct Strip {
    /// Before it.
    pub(in crate::bench) name: &'static str,
    /// Of the marks.
    pub(in crate::bench) colour: &'static str,
    /// Milliseconds.
    pub(in crate::bench) values: Vec<u64>,
    /// What is allowed, in milliseconds.
    pub(in crate::bench) bound: Option<f64>,
}

/// Strips below each other, on a logarithmic scale.
pub(in crate::bench) fn strips(title: &str, rows: &[Strip]) -> String {
    let (low, high) = decades(rows);
    let place = |millis: f64| LEFT + (millis.max(1.0).log10() - low) / (high - low) * SPAN;
    let mut body = String::new();
    let mut decade = low;
    while decade <= high {
        let (x, bottom) = (place(10_f64.powf(decade)), row_top(rows.len()));
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            body,
            r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom:.1}" stroke="#94a3b8" stroke-width="0.5"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
            TOP - 6.0,
            decade_name(decade + 3.0)
        );
        decade += 1.0;
    }
    for (at, strip) in rows.iter().enumerate() {
        row(&mut body, at, strip, place);
    }
    picture(title, row_top(rows.len()) + BOTTOM, &body)
}

fn row(body: &mut String, at: usize, strip: &Strip, place: impl Fn(f64) -> f64) {
    let y = row_top(at) + ROW / 2.0;
    name(body, at, strip.name);
    if let Some(bound) = strip.bound {
        let x = place(bound);
        let _ = writeln!(
            body,
            r#"<line x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{:.1}" stroke="{BOUND_COLOUR}" stroke-width="2.5"/>"#,
            y - ROW / 2.0 + 3.0,
            y + ROW / 2.0 - 3.0
        );
    }
    for millis in &strip.values {
        let _ = writeln!(
            body,
            r#"<circle cx="{:.1}" cy="{y:.1}" r="{RADIUS}" fill="{}" fill-opacity="0.45"><title>{millis} ms</title></circle>"#,
            place(as_float(*millis)),
            strip.colour
        );
    }
    if let Some(slowest) = strip.values.iter().max() {
        let beside = strip
            .bound
            .map_or(f64::NEG_INFINITY, |bound| place(bound) + 6.0);
        let x = place(as_float(*slowest)) + RADIUS + 5.0;
        // Beyond the bound, where the figure would lie across it.
        let x = if x < beside && beside < x + 70.0 {
            beside
        } else {
            x
        };
        let _ = writeln!(
            body,
            r#"<text x="{x:.1}" y="{:.1}">{slowest} ms</text>"#,
            y + 4.0
        );
    }
}

/// Powers of ten, of milliseconds, that enclose all values and bounds.
fn decades(rows: &[Strip]) -> (f64, f64) {
    let values = rows.iter().flat_map(|strip| {
        let values = strip.values.iter().map(|millis| as_float(*millis));
        values.chain(strip.bound).collect::<Vec<_>>()
    });
    let logarithms: Vec<f64> = values.map(|millis| millis.max(1.0).log10()).collect();
    let low = logarithms.iter().copied().fold(f64::INFINITY, f64::min);
    let high = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = (low.floor(), high.ceil());
    if low < high { (low, high) } else { (0.0, 4.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(values: &[u64], bound: Option<f64>) -> Strip {
        Strip {
            name: "fault",
            colour: "#000000",
            values: values.to_vec(),
            bound,
        }
    }

    #[test]
    fn the_scale_encloses_values_and_bounds() {
        assert_eq!(decades(&[strip(&[60, 90], None)]), (1.0, 2.0));
        assert_eq!(decades(&[strip(&[60], Some(5000.0))]), (1.0, 4.0));
        assert_eq!(decades(&[]), (0.0, 4.0));
    }

    #[test]
    fn every_value_is_a_mark_and_the_slowest_is_named() {
        let svg = strips(
            "pauses",
            &[strip(&[60, 90, 70], Some(500.0)), strip(&[], None)],
        );
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains(">90 ms</text>"), "{svg}");
        assert_eq!(svg.matches(BOUND_COLOUR).count(), 1);
    }
}
