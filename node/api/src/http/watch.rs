//! Events of `GET /watch`: where each stands in the tenant's history, and what it says.
//!
//! ```text
//! id: 57.0@<incarnation>      EventId: send it as Last-Event-ID to go on after it, at any node
//! event: put                  the word of a WatchEvent
//! data: {"kind": …}           the WatchEvent as JSON, on one line
//! ```

use std::fmt;
use std::str::FromStr;

use percolate_core::identity::{Incarnation, Index};
use percolate_core::model::{Item, ItemKey};
use serde::{Deserialize, Serialize};

use super::batch::KindWord;
use super::view::{ItemView, Meta};

/// Where a watch goes on: after one change, or after all of one entry of the log.
///
/// Written `<index>.<ordinal>@<incarnation>`. Without the ordinal it stands after the whole entry;
/// without the incarnation, in whatever history the tenant has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    /// The entry's place in the log; 0 is before the first.
    pub index: Index,
    /// Which of the entry's changes; `None` when all of them are meant.
    pub ordinal: Option<u32>,
    /// The history that the index counts in. An index alone would be taken for a place in another
    /// history after a restore, and changes would be missed without a word.
    pub incarnation: Option<Incarnation>,
}

/// Not where a watch could go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an index such as 57, or the id of an event such as 57.0 or 57.0@<incarnation>, got {text:?}"
)]
pub struct ParseEventIdError {
    /// What was given, cut to a length fit for a message.
    pub text: String,
}

/// What an event says; its JSON is the event's data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum WatchEvent {
    /// The item is so now.
    Put(Box<ItemView>),
    /// The item is gone.
    Delete(DeletedView),
    /// Everything up to the event's id has been sent.
    Reached(Reached),
}

/// What is left of a deleted item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletedView {
    /// What kind of item it was.
    pub kind: KindWord,
    /// What names it.
    #[serde(flatten)]
    pub names: Names,
    /// The version and time of its deletion.
    #[serde(flatten)]
    pub meta: Meta,
}

/// What names an item among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// An edge's three names.
    Edge {
        /// Where it starts.
        src: String,
        /// What it says.
        #[serde(rename = "type")]
        edge_type: String,
        /// Where it ends.
        dst: String,
    },
    /// The one id of any other item.
    Id {
        /// The id.
        id: String,
    },
}

/// How far a watch has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Send it as `Percolate-Session`, and no node answers with less than this watch has sent.
    pub session: String,
}

impl WatchEvent {
    /// An item went from one state to another.
    pub const PUT: &'static str = "put";
    /// An item was deleted.
    pub const DELETE: &'static str = "delete";
    /// All that is applied has been sent.
    pub const REACHED: &'static str = "reached";

    /// The item under a key, as its latest change left it.
    pub fn of_item(key: &ItemKey, item: &Item) -> Self {
        match ItemView::new(key, item) {
            Some(view) => Self::Put(Box::new(view)),
            None => Self::Delete(DeletedView::new(key, item)),
        }
    }

    /// What stands in the event's field `event`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Put(_) => Self::PUT,
            Self::Delete(_) => Self::DELETE,
            Self::Reached(_) => Self::REACHED,
        }
    }
}

impl DeletedView {
    fn new(key: &ItemKey, item: &Item) -> Self {
        let names = match key {
            ItemKey::Resource(id) | ItemKey::Entity(id) | ItemKey::Moment(id) => {
                Names::Id { id: id.to_string() }
            }
            ItemKey::Edge {
                src,
                edge_type,
                dst,
            } => Names::Edge {
                src: src.to_string(),
                edge_type: edge_type.to_string(),
                dst: dst.to_string(),
            },
        };
        Self {
            kind: key.kind().into(),
            names,
            meta: Meta::of(item),
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.index)?;
        if let Some(ordinal) = self.ordinal {
            write!(formatter, ".{ordinal}")?;
        }
        if let Some(incarnation) = self.incarnation {
            write!(formatter, "@{incarnation}")?;
        }
        Ok(())
    }
}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseEventIdError {
            text: text.chars().take(64).collect(),
        };
        let (place, incarnation) = match text.split_once('@') {
            Some((place, incarnation)) => (place, Some(incarnation)),
            None => (text, None),
        };
        let (index, ordinal) = match place.split_once('.') {
            Some((index, ordinal)) => (index, Some(ordinal)),
            None => (place, None),
        };
        Ok(Self {
            index: number(index).ok_or_else(refused)?,
            ordinal: ordinal
                .map(|ordinal| number(ordinal).ok_or_else(refused))
                .transpose()?,
            incarnation: incarnation
                .map(|incarnation| incarnation.parse().map_err(|_| refused()))
                .transpose()?,
        })
    }
}

impl TryFrom<String> for EventId {
    type Error = ParseEventIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

/// A number in digits alone: the standard library would take a sign as well.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::codec::arbitrary::items;

    proptest! {
        #[test]
        fn ids_read_back(index: u64, ordinal: Option<u32>, incarnation: Option<u128>) {
            let id = EventId { index, ordinal, incarnation: incarnation.map(Incarnation) };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn any_id_is_read_or_refused(text in ".{0,50}", near in "[0-9.@a-f+]{0,40}") {
            let _ = (text.parse::<EventId>(), near.parse::<EventId>());
        }

        #[test]
        fn what_is_sent_of_an_item_says_whether_it_is_there(items in items()) {
            for (key, item) in items {
                let event = WatchEvent::of_item(&key, &item);
                prop_assert_eq!(event.word() == WatchEvent::DELETE, item.is_deleted());
                let data = serde_json::to_string(&event).expect("JSON");
                prop_assert!(!data.contains(['\n', '\r']), "an event's data is one line");
                let value: Value = serde_json::from_str(&data).expect("JSON");
                prop_assert_eq!(&value["kind"], key.kind().word());
                if let WatchEvent::Delete(view) = event {
                    let read: DeletedView = serde_json::from_str(&data).expect("its own JSON");
                    prop_assert_eq!(read, view);
                }
            }
        }
    }

    #[test]
    fn ids_are_read_strictly() {
        let history = "0000000000000000000000000000000a";
        let full = format!("57.3@{history}");
        let known = Some(Incarnation(10));
        let id = |index, ordinal, incarnation| {
            Some(EventId {
                index,
                ordinal,
                incarnation,
            })
        };
        let cases = [
            ("0", id(0, None, None)),
            ("57", id(57, None, None)),
            ("57.3", id(57, Some(3), None)),
            (full.as_str(), id(57, Some(3), known)),
            (&format!("57@{history}"), id(57, None, known)),
            ("18446744073709551615", id(u64::MAX, None, None)),
            ("18446744073709551616", None),
            ("57.4294967296", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1.", None),
            (".1", None),
            ("1.2.3", None),
            ("1@", None),
            ("1@a", None),
            ("@", None),
            ("now", None),
            (&format!("{history}.1.57"), None),
        ];
        for (text, expected) in cases {
            let read = text.parse::<EventId>();
            assert_eq!(read.clone().ok(), expected, "{text}");
            if let Err(error) = read {
                assert!(error.to_string().contains(text), "{error}");
            }
        }
    }
}
