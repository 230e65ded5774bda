//! `percolate watch`: what changes, one line each, for as long as nobody stops it.
//!
//! ```text
//! Api::open (Last-Event-ID) -> EventReader -> Seen -> one line
//!        ▲                                      │ where it stood
//!        └── the connection ends, or is silent ◀┘
//! ```
//! Connections end: nodes stop, leaders change, networks break. The next one goes on after the last
//! event of the one before, so that no change is missed or printed twice.

use std::time::Duration;

use http::Method;
use percolate_api::http::{DeletedView, EventId, ItemView, Names, WatchEvent};
use percolate_core::model::Kind;
use serde::Serialize;

use super::api::{Api, Call, exactly, innermost};
use super::error::ClientError;
use super::events::{EVENT_BYTES, EventReader, SentEvent};
use super::path;
use super::printer::{Printer, note};
use super::reading::summary;
use crate::cli::{self, Watch};

/// Pause before a stream that ended is opened again: a node that ends streams at once is not asked
/// in a tight loop.
const PAUSE: Duration = Duration::from_millis(200);

/// A change as it is printed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seen {
    event: &'static str,
    position: EventId,
    item: WatchEvent,
}

pub(super) async fn watch(arguments: Watch) -> Result<(), ClientError> {
    let printer = Printer {
        format: arguments.connection.output,
    };
    follow(arguments, |seen| printer.show(seen, line)).await
}

/// Show every change, until `show` or a node says that there is no going on.
pub(super) async fn follow(
    arguments: Watch,
    mut show: impl FnMut(&Seen) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let api = Api::for_streams(&arguments.connection)?;
    let kind = arguments.kind.map(|kind| word(kind).to_owned());
    let path = path::with_query(&path::of("watch", &[]), &[("kind", kind)]);
    let mut after = arguments.from;
    loop {
        let call = Call::new(Method::GET, path.as_str()).after_event(after.as_ref());
        let mut response = api.open(&call).await?;
        let mut events = EventReader::new(EVENT_BYTES);
        let end = loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break "the node ended the watch".to_owned(),
                Err(error) => break format!("the connection was lost: {}", innermost(&error)),
            };
            let arrived = events.take(&chunk).map_err(|_| api.strange())?;
            for sent in arrived {
                let (position, seen) = read(&sent).ok_or_else(|| api.strange())?;
                if let Some(seen) = seen {
                    show(&seen)?;
                }
                after = Some(position);
            }
        };
        let place = after.map_or_else(|| "the beginning".to_owned(), |after| after.to_string());
        note(&format!("{end}; going on after {place}"));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where an event stands, and the change in it if there is one. `None` if no node sends such.
fn read(sent: &SentEvent) -> Option<(EventId, Option<Seen>)> {
    let position: EventId = sent.id.parse().ok()?;
    let data = sent.data.as_bytes();
    let item = match sent.name.as_str() {
        WatchEvent::PUT => WatchEvent::Put(exactly(data)?),
        WatchEvent::DELETE => WatchEvent::Delete(exactly(data)?),
        // How far it has come; and whatever later versions may tell besides.
        _ => return Some((position, None)),
    };
    let seen = Seen {
        event: item.word(),
        position,
        item,
    };
    Some((position, Some(seen)))
}

/// One line about a change, for people.
fn line(seen: &Seen) -> String {
    let about = match &seen.item {
        WatchEvent::Put(item) => put(item),
        WatchEvent::Delete(item) => deleted(item),
        WatchEvent::Reached(_) => String::new(),
    };
    // The history is the same all along.
    let position = EventId {
        incarnation: None,
        ..seen.position
    };
    format!("{position}\t{}\t{about}", seen.event)
}

fn put(item: &ItemView) -> String {
    format!("{}\t{}", item.kind(), summary(item))
}

fn deleted(item: &DeletedView) -> String {
    let name = match &item.names {
        Names::Id { id } => id.clone(),
        Names::Edge {
            src,
            edge_type,
            dst,
        } => format!("{src} {edge_type} {dst}"),
    };
    format!(
        "{}\t{name}\t{}",
        Kind::from(item.kind),
        item.meta.updated_at
    )
}

/// The word for a kind in a query.
fn word(kind: cli::Kind) -> &'static str {
    match kind {
        cli::Kind::Resources => Kind::Resource,
        cli::Kind::Entities => Kind::Entity,
        cli::Kind::Edges => Kind::Edge,
        cli::Kind::Moments => Kind::Moment,
    }
    .word()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_one_line_a_change() {
        let meta = r#""version":{},"etag":"","updated_at":"now""#;
        let cases = [
            (
                "put",
                format!(
                    r#"{{"kind":"moment","id":"m","timestamp":"then","content":"a\nb","metadata":{{}},{meta}}}"#
                ),
                "57.1\tput\tmoment\tm\tnow\tthen a b",
            ),
            (
                "delete",
                format!(r#"{{"kind":"entity","id":"e",{meta}}}"#),
                "57.1\tdelete\tentity\te\tnow",
            ),
            (
                "delete",
                format!(r#"{{"kind":"edge","src":"a","type":"knows","dst":"b",{meta}}}"#),
                "57.1\tdelete\tedge\ta knows b\tnow",
            ),
        ];
        for (name, data, expected) in cases {
            let sent = SentEvent {
                id: format!("57.1@{:032x}", 7),
                name: name.to_owned(),
                data,
            };
            let (_, seen) = read(&sent).expect("as nodes send it");
            assert_eq!(line(&seen.expect("a change")), expected);
        }
    }

    #[test]
    fn what_no_node_sends_is_told_from_what_later_ones_may() {
        let cases = [
            ("57@", "put", "{}", false),
            ("", "put", "{}", false),
            ("57.0", "put", "{}", false),
            ("57.0", "put", "x", false),
            ("57.0", "delete", r#"{"kind":"thing","id":"a"}"#, false),
            ("57", "reached", r#"{"session":"s"}"#, true),
            ("57", "news", "x", true),
        ];
        for (id, name, data, expected) in cases {
            let sent = SentEvent {
                id: id.to_owned(),
                name: name.to_owned(),
                data: data.to_owned(),
            };
            let read = read(&sent);
            assert_eq!(read.is_some(), expected, "{sent:?}");
            assert!(read.is_none_or(|(_, seen)| seen.is_none()));
        }
    }
}
