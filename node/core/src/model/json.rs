//! JSON values in one canonical form, so that equal values have equal bytes and hashes everywhere.

mod reader;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::limits::MAX_JSON_DEPTH;

/// A JSON value of limited depth. Keys of objects are sorted by their bytes; its text has no spaces,
/// and reads back as the same value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Json(Value);

/// Why a value or text cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidJson {
    /// Arrays and objects within one another.
    #[error("JSON is nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    /// Not JSON.
    #[error("JSON has something other than {expected} at byte {at}")]
    Syntax {
        /// What should be there.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// An object names a key twice.
    #[error("JSON has an object that names the key at byte {at} a second time")]
    RepeatedKey {
        /// Where the second one is.
        at: usize,
    },
    /// More values than its reader is ready to hold.
    #[error("JSON has more than {limit} values")]
    TooManyValues {
        /// How many it may have.
        limit: usize,
    },
    /// A number that no double holds.
    #[error("JSON has a number at byte {at} that is out of range")]
    NumberRange {
        /// Where.
        at: usize,
    },
}

impl Json {
    /// Reads a text, canonical or not.
    pub fn parse(text: &str) -> Result<Self, InvalidJson> {
        Self::parse_within(text, usize::MAX)
    }

    /// Reads a text of at most so many values, those within others included: each takes far more
    /// memory than the two bytes it may have in the text.
    pub fn parse_within(text: &str, values: usize) -> Result<Self, InvalidJson> {
        canonical(reader::read(text, MAX_JSON_DEPTH, values)?, MAX_JSON_DEPTH).map(Self)
    }

    /// The value.
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The canonical text.
    pub fn to_text(&self) -> String {
        self.0.to_string()
    }

    /// About how many bytes the text has, without writing it: strings are counted unescaped.
    pub fn size(&self) -> usize {
        size(&self.0)
    }
}

impl TryFrom<Value> for Json {
    type Error = InvalidJson;

    fn try_from(value: Value) -> Result<Self, InvalidJson> {
        canonical(value, MAX_JSON_DEPTH).map(Self)
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        json.0
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Sorting is done here and not left to `serde_json`'s map, whose order depends on a feature that
/// any crate in the build can switch on.
fn canonical(value: Value, levels: usize) -> Result<Value, InvalidJson> {
    match value {
        Value::Array(elements) => {
            let levels = levels.checked_sub(1).ok_or(InvalidJson::TooDeep)?;
            let elements = elements
                .into_iter()
                .map(|element| canonical(element, levels));
            elements.collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(members) => {
            let levels = levels.checked_sub(1).ok_or(InvalidJson::TooDeep)?;
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let members = members
                .into_iter()
                .map(|(key, member)| Ok((key, canonical(member, levels)?)));
            members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        scalar => Ok(scalar),
    }
}

fn size(value: &Value) -> usize {
    // Quotes, commas, colons and the like: close enough for a limit, and independent of escaping.
    const PUNCTUATION: usize = 2;
    // The longest shortest text of a double has 24 characters.
    const NUMBER: usize = 24;
    PUNCTUATION
        + match value {
            Value::Null | Value::Bool(_) => 4,
            Value::Number(_) => NUMBER,
            Value::String(text) => text.len(),
            Value::Array(elements) => elements.iter().map(size).sum(),
            Value::Object(members) => members
                .iter()
                .map(|(key, member)| PUNCTUATION + key.len() + size(member))
                .sum(),
        }
}

#[cfg(test)]
mod tests;
