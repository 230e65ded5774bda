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
        ("0.30000000000000004", "0.30000000000000004"),
        // Read off by one or two units in the last place by readers that are not exact.
        ("9.919621719506168e-257", "9.919621719506168e-257"),
        ("0.1234567890123456789", "0.12345678901234568"),
        ("1.7976931348623157E+308", "1.7976931348623157e+308"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551616", "1.8446744073709552e+19"),
        (r#""\ud83d\ude00\/\t""#, "\"😀/\\t\""),
        (" [ 1 , { } ] ", "[1,{}]"),
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
        (r#"{"a":1,"a":2}"#.to_owned(), false),
        (r#"{"a":1,}"#.to_owned(), false),
        (r#"{"a" 1}"#.to_owned(), false),
        ("{a:1}".to_owned(), false),
        ("[1,]".to_owned(), false),
        ("[,1]".to_owned(), false),
        ("01".to_owned(), false),
        ("-".to_owned(), false),
        ("1.".to_owned(), false),
        ("1e".to_owned(), false),
        ("+1".to_owned(), false),
        ("tru".to_owned(), false),
        ("\"a".to_owned(), false),
        ("\"a\nb\"".to_owned(), false),
        (r#""\ud83d""#.to_owned(), false),
        (r#""\ud83dx""#.to_owned(), false),
        (r#""\ude00""#.to_owned(), false),
        (r#""\u12é""#.to_owned(), false),
        (r#""\x""#.to_owned(), false),
        (String::new(), false),
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
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn equal_values_have_equal_texts(json in arbitrary::json()) {
        let text = json.to_text();
        let again = Json::parse(&text).expect("canonical text");
        prop_assert_eq!(&again, &json);
        prop_assert_eq!(again.to_text(), text);
    }

    #[test]
    fn every_double_reads_back_exactly(
        number in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
    ) {
        let json = Json::try_from(Value::from(number)).expect("a number");
        let again = Json::parse(&json.to_text()).expect("canonical text");
        let read = again.as_value().as_f64().expect("a double");
        prop_assert_eq!(read.to_bits(), number.to_bits());
    }

    #[test]
    fn texts_are_accepted_as_by_any_other_reader(
        text in r#"[\[\]{}, :"tfn\\u0-9ae.+-]{0,12}|[\[{"]{0,2}(-?0|[1-9])(\.[0-9]{1,3})?(e-?[0-9])?[\]}]{0,2}|"(\\[nu"x]|[0-9dé]){0,9}""#,
    ) {
        let ours = Json::parse(&text);
        let theirs = serde_json::from_str::<Value>(&text);
        if !matches!(ours, Err(InvalidJson::RepeatedKey { .. })) {
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?} {:?}", text, ours, theirs);
        }
    }
}
