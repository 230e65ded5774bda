use proptest::prelude::*;

use super::*;
use crate::model::arbitrary;

#[test]
fn text_is_canonical() {
    for (text, canonical) in [
        (
            r#"{"b": 1, "a": {"d": [ ], "c": null}}"#,
            r#"{"a":{"c":null,"d":[]},"b":1}"#,
        ),
        ("1.50", "1.5"),
        ("1e2", "100.0"),
        ("-0.0", "-0.0"),
        ("18446744073709551615", "18446744073709551615"),
        (r#""\u00e9\n""#, "\"é\\n\""),
        // Read one unit too low without the parser's exact mode.
        ("0.1234567890123456789", "0.12345678901234568"),
        ("1.7976931348623157e308", "1.7976931348623157e308"),
    ] {
        let json = Json::parse(text).expect(text);
        assert_eq!(json.to_text(), canonical);
        assert_eq!(
            Json::parse(canonical).expect(canonical).to_text(),
            canonical
        );
    }
}

#[test]
fn what_is_not_json_or_nested_too_deep_is_refused() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (text, is_value) in [
        (nested(MAX_JSON_DEPTH), true),
        (nested(MAX_JSON_DEPTH + 1), false),
        (nested(100_000), false),
        ("NaN".to_owned(), false),
        ("1e400".to_owned(), false),
        ("{".to_owned(), false),
        ("1 2".to_owned(), false),
        (r#"{"a":1,"a":2}"#.to_owned(), true),
    ] {
        assert_eq!(
            Json::parse(&text).is_ok(),
            is_value,
            "{}",
            &text[..text.len().min(20)]
        );
    }
}

proptest! {
    #[test]
    fn equal_values_have_equal_texts(json in arbitrary::json()) {
        let text = json.to_text();
        let again = Json::parse(&text).expect("canonical text");
        prop_assert_eq!(&again, &json);
        prop_assert_eq!(again.to_text(), text);
    }

    #[test]
    fn every_double_reads_back_exactly(number in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
        let json = Json::try_from(Value::from(number)).expect("a number");
        let again = Json::parse(&json.to_text()).expect("canonical text");
        prop_assert_eq!(again.as_value().as_f64(), Some(number));
    }
}
