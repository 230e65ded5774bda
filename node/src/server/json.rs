//! JSON bodies, read strictly: what one reader takes and another drops must not get in.
//!
//! A key given twice, a field nobody knows, a document nested deeper than [`JSON_DEPTH`] are all
//! refused with a sentence that names them. Refusing unknown fields is the stricter of two
//! choices: a misspelt `metadate` is told at once instead of losing data silently.

use std::fmt;

use percolate_core::model::limits::MAX_JSON_DEPTH;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Nesting of a body: an item's values may be as deep as the model allows, inside an operation,
/// inside a batch.
const JSON_DEPTH: usize = MAX_JSON_DEPTH + 4;

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

/// Read `body` as one JSON document without duplicate keys or excessive nesting.
pub(super) fn document(body: &[u8]) -> Result<Value, JsonError> {
    let refused = |error: serde_json::Error| JsonError {
        reason: error.to_string(),
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Strict { depth: 0 }
        .deserialize(&mut reader)
        .map_err(refused)?;
    reader.end().map_err(refused)?;
    Ok(value)
}

/// Reads any value, like `Value`'s own reader, but refuses what that one would let pass.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= JSON_DEPTH {
            return Err(E::custom(format_args!(
                "nested deeper than {JSON_DEPTH} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {:?} is given twice",
                    shortened(&key)
                )));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

fn shortened(key: &str) -> String {
    /// Enough to find the key in the document, not enough to flood a log.
    const SHOWN: usize = 64;
    key.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_another_reader_might_take_otherwise_is_refused() {
        let deep = format!(
            "{}1{}",
            "[".repeat(JSON_DEPTH + 1),
            "]".repeat(JSON_DEPTH + 1)
        );
        let deepest = format!("{}1{}", "[".repeat(JSON_DEPTH), "]".repeat(JSON_DEPTH));
        let abyss = "[".repeat(10_000);
        let cases = [
            (r#"{"a":1,"a":2}"#, Some("given twice")),
            (r#"{"a":{"b":1,"b":1}}"#, Some("given twice")),
            (deep.as_str(), Some("nested deeper")),
            (deepest.as_str(), None),
            (abyss.as_str(), Some("nested deeper")),
            ("NaN", Some("expected")),
            ("1e400", Some("out of range")),
            (r#""\ud800""#, Some("hex escape")),
            ("\"\u{0}\"", Some("control character")),
            ("{} {}", Some("trailing")),
            ("", Some("EOF")),
            ("{\"a\":", Some("EOF")),
            (r#"{"a":[1,-2,3.5,"x",null,true]}"#, None),
        ];
        for (body, refused) in cases {
            let outcome = document(body.as_bytes());
            match refused {
                None => assert!(outcome.is_ok(), "{body}: {outcome:?}"),
                Some(reason) => {
                    let error = outcome.expect_err(body).reason;
                    assert!(error.contains(reason), "{body}: {error}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn valid_documents_read_as_serde_reads_them(numbers in prop::collection::vec(any::<i64>(), 0..8), text in ".*", float in -1e300..1e300) {
            let text = serde_json::json!({"numbers": numbers, "text": text, "float": float, "none": null}).to_string();
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(document(text.as_bytes()), Ok(expected));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = document(&body);
        }
    }
}
