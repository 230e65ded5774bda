//! JSON bodies, read strictly and exactly: what one reader takes and another drops must not get in,
//! and a number must not change on its way.
//!
//! A key given twice, a field nobody knows, a document nested deeper than the model's own limit are
//! all refused. Refusing unknown fields is the stricter of two choices: a misspelt `metadate` is
//! told at once instead of losing data silently.

use percolate_core::model::Json;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Values in one document, those within others included. Each takes thirty to a hundred bytes of memory
/// and two of the body: without a limit the largest body would fill the memory of a small pod. An
/// item with so many numbers is nearly as large as one may be.
const MOST_VALUES: usize = 512 * 1024;

/// Why a body is not what it should be; the text is meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct JsonError {
    /// What is wrong and where.
    pub(super) reason: String,
}

/// Read `body`, a JSON object, as a `T`.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let value = document(body)?;
    // An array would pass for an object whose members come in order.
    if !value.is_object() {
        let reason = "it must be a JSON object".to_owned();
        return Err(JsonError { reason });
    }
    serde_json::from_value(value).map_err(|error| JsonError {
        reason: error.to_string(),
    })
}

/// Read `body` as one JSON document.
fn document(body: &[u8]) -> Result<Value, JsonError> {
    let refused = |reason: String| JsonError { reason };
    let text = std::str::from_utf8(body).map_err(|_| refused("it is not UTF-8".to_owned()))?;
    let json = Json::parse_within(text, MOST_VALUES).map_err(|error| refused(error.to_string()))?;
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use percolate_core::model::limits::MAX_JSON_DEPTH;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_another_reader_might_take_otherwise_is_refused() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let (deep, deepest) = (nested(MAX_JSON_DEPTH + 1), nested(MAX_JSON_DEPTH));
        let abyss = "[".repeat(10_000);
        let zeros = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        // The array itself is a value, too.
        let (most, one_more) = (zeros(MOST_VALUES - 1), zeros(MOST_VALUES));
        let cases = [
            (r#"{"a":1,"a":2}"#, Some("second time")),
            (r#"{"a":{"b":1,"b":1}}"#, Some("second time")),
            (deep.as_str(), Some("nested deeper")),
            (deepest.as_str(), None),
            (abyss.as_str(), Some("nested deeper")),
            (most.as_str(), None),
            (one_more.as_str(), Some("more than 524288 values")),
            ("NaN", Some("a value")),
            ("1e400", Some("out of range")),
            (r#""\ud800""#, Some("surrogates")),
            ("\"\u{0}\"", Some("byte 1")),
            ("{} {}", Some("the end")),
            ("", Some("a value")),
            ("{\"a\":", Some("a value")),
            (r#"{"a":[1,-2,3.5,"x",null,true]}"#, None),
        ];
        for (body, refused) in cases {
            let outcome = document(body.as_bytes());
            match refused {
                None => assert!(outcome.is_ok(), "{body:.80}: {outcome:?}"),
                Some(reason) => {
                    let error = outcome.expect_err(body).reason;
                    assert!(error.contains(reason), "{body}: {error}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_printed_reads_back_exactly(numbers in prop::collection::vec(any::<i64>(), 0..8), text in ".*", float in -1e300..1e300) {
            let value = serde_json::json!({"numbers": numbers, "text": text, "float": float, "none": null});
            prop_assert_eq!(document(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = document(&body);
        }
    }
}
