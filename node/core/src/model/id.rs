//! Ids and names: texts that are safe as keys, in paths and on terminals.

use std::borrow::Borrow;
use std::fmt;

use thiserror::Error;

use super::limits::{MAX_ID_BYTES, MAX_NAME_BYTES};

/// What identifies an item within its kind: 1 to 256 bytes of UTF-8 without control characters,
/// no segment of which is `.` or `..` (ids become file names in exports and paths in URLs).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(String);

/// The name of a property, a metadata field, a label or a type: 1 to 256 bytes of UTF-8 without
/// control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidId {
    /// It is no name either.
    #[error("id {0}")]
    Text(InvalidName),
    /// It would leave its directory when used as a path.
    #[error("id {id:?} has a segment that is \".\" or \"..\"")]
    Traversal {
        /// The text.
        id: String,
    },
}

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// It has too many bytes.
    #[error("has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// It has a character that is not meant to be seen.
    #[error("has the control character U+{:04X} at byte {at}", u32::from(*.character))]
    Control {
        /// The character.
        character: char,
        /// Its place.
        at: usize,
    },
}

impl ItemId {
    /// Checks a text.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidId> {
        let id = id.into();
        check_text(&id, MAX_ID_BYTES).map_err(InvalidId::Text)?;
        // Backslash as well: exports may be written on Windows.
        if id
            .split(['/', '\\'])
            .any(|segment| matches!(segment, "." | ".."))
        {
            return Err(InvalidId::Traversal { id });
        }
        Ok(Self(id))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name {
    /// Checks a text.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        check_text(&name, MAX_NAME_BYTES)?;
        Ok(Self(name))
    }

    /// The media type of content that came without one: `text/plain`.
    pub fn default_content_type() -> Self {
        Self("text/plain".to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_text(text: &str, limit: usize) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > limit {
        let bytes = text.len();
        return Err(InvalidName::TooLong { bytes, limit });
    }
    match text
        .char_indices()
        .find(|(_, character)| character.is_control())
    {
        Some((at, character)) => Err(InvalidName::Control { character, at }),
        None => Ok(()),
    }
}

macro_rules! shows_as_its_text {
    ($($text:ident),+) => {$(
        impl fmt::Display for $text {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $text {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $text {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

shows_as_its_text!(ItemId, Name);

#[cfg(test)]
mod tests;
