//! Kubernetes quantities (`10Gi`, `500m`, `1e3`), as far as comparing volume sizes needs them.
//!
//! In: text the API server accepted. Out: thousandths of the base unit, exact for every size a
//! volume can have. Text that is no quantity compares as unknown, never as zero.

/// Parses a quantity into thousandths of its base unit.
pub fn parse(text: &str) -> Option<i128> {
    let split = text
        .find(|character: char| !matches!(character, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (multiplier, divisor) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let unscaled: i128 = digits.parse().ok()?;
    let places = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    unscaled
        .checked_mul(multiplier)?
        .checked_mul(1000)?
        .checked_div(divisor.checked_mul(places)?)
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    const KIBI: i128 = 1 << 10;
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (KIBI, 1),
        "Mi" => (KIBI.pow(2), 1),
        "Gi" => (KIBI.pow(3), 1),
        "Ti" => (KIBI.pow(4), 1),
        "Pi" => (KIBI.pow(5), 1),
        "Ei" => (KIBI.pow(6), 1),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(exponent)?, 1)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_compare_by_value_not_by_spelling() {
        for (left, right) in [
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("500m", "0.5"),
            ("1G", "1000M"),
        ] {
            assert_eq!(parse(left), parse(right), "{left} {right}");
            assert!(parse(left).is_some(), "{left}");
        }
        assert!(parse("10Gi") > parse("10G"));
        assert!(parse("1025Mi") > parse("1Gi"));
    }

    #[test]
    fn text_that_is_no_quantity_has_no_value() {
        for text in ["", "Gi", "10Gb", "ten", "1.2.3", "1e", "--1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
