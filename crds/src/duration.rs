//! Durations as people write them in a manifest (`500ms`, `30s`, `5m`), parsed once.
//!
//! In: a string the API server has already matched against [`PATTERN`]. Out: `std::time::Duration`.
//! One unit per value, so that two spellings of one duration stay rare and diffs stay readable.

use std::time::Duration;

/// What the CRDs accept, as a CEL and Rust regular expression.
pub const PATTERN: &str = "^[1-9][0-9]{0,5}(ms|s|m)$";

/// A string that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: {value:?} (write a whole number and a unit, like 500ms, 30s or 5m)")]
pub struct ParseDurationError {
    value: String,
}

/// Parses `500ms`, `30s` or `5m`.
pub fn parse(value: &str) -> Result<Duration, ParseDurationError> {
    let refused = || ParseDurationError {
        value: value.to_owned(),
    };
    let digits = value
        .find(|character: char| !character.is_ascii_digit())
        .ok_or_else(refused)?;
    let count: u64 = value[..digits].parse().map_err(|_| refused())?;
    match &value[digits..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => count
            .checked_mul(60)
            .map(Duration::from_secs)
            .ok_or_else(refused),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_and_one_unit_is_a_duration() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("5m", Some(Duration::from_mins(5))),
            ("", None),
            ("5", None),
            ("s", None),
            ("1h", None),
            ("1.5s", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            (
                "99999999999999999m",
                Some(Duration::from_mins(99_999_999_999_999_999)),
            ),
            ("999999999999999999m", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        }
    }
}
