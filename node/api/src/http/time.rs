//! Times as RFC 3339 texts in UTC.

use jiff::Timestamp;
use percolate_core::clock::Hlc;

use super::request::BadRequest;

/// The wall clock part of an HLC, to the millisecond.
pub fn format_hlc(hlc: Hlc) -> String {
    let ms = i64::try_from(hlc.wall_ms()).unwrap_or(i64::MAX);
    // An HLC reaches to the year 10889, RFC 3339 to 9999.
    Timestamp::from_millisecond(ms)
        .unwrap_or(Timestamp::MAX)
        .to_string()
}

/// Microseconds since 1970.
pub fn format_us(timestamp_us: i64) -> String {
    let bound = if timestamp_us < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_microsecond(timestamp_us)
        .unwrap_or(bound)
        .to_string()
}

/// Reads an RFC 3339 time with an offset, in microseconds since 1970; finer parts are cut off.
pub fn parse_timestamp(text: &str) -> Result<i64, BadRequest> {
    let timestamp = text.parse::<Timestamp>();
    let timestamp = timestamp.map_err(|_| BadRequest::Timestamp {
        text: text.to_owned(),
    })?;
    Ok(timestamp.as_microsecond())
}
