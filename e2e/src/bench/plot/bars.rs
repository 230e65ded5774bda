//! Figures as bars, each with its name and its value.

use std::fmt::Write as _;

use super::{BOTTOM, LEFT, ROW, SPAN, name, picture, row_top};

/// One bar.
pub(in crate::bench) struct Bar {
    /// Before it.
    pub(in crate::bench) name: &'static str,
    /// Of its area.
    pub(in crate::bench) colour: &'static str,
    /// Its length.
    pub(in crate::bench) value: f64,
}

/// Bars below each other; the longest fills the scale.
pub(in crate::bench) fn bars(title: &str, rows: &[Bar], shown: impl Fn(f64) -> String) -> String {
    let longest = rows.iter().map(|bar| bar.value).fold(1.0, f64::max);
    let mut body = String::new();
    for (at, bar) in rows.iter().enumerate() {
        let top = row_top(at);
        let length = bar.value / longest * SPAN;
        name(&mut body, at, bar.name);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            body,
            r#"<rect x="{LEFT}" y="{:.1}" width="{length:.1}" height="{:.1}" rx="2" fill="{}"/>"#,
            top + 4.0,
            ROW - 8.0,
            bar.colour
        );
        let _ = writeln!(
            body,
            r#"<text x="{:.1}" y="{:.1}">{}</text>"#,
            LEFT + length + 6.0,
            top + ROW / 2.0 + 4.0,
            shown(bar.value)
        );
    }
    picture(title, row_top(rows.len()) + BOTTOM, &body)
}
