//! `percolate get`, `ls` and `status`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use percolate_api::http::{ItemView, ListPage, MAX_LIST_LIMIT, ResourceView, Status as NodeStatus};
use serde::Serialize;
use serde_json::Value;

use super::api::{Api, Call};
use super::error::ClientError;
use super::path;
use super::printer::Printer;
use crate::cli::data::Consistency;
use crate::cli::{Format, Get, Kind, List, Status};

/// Content shown of an item in a list.
const SHOWN_CHARACTERS: usize = 60;

pub(super) async fn get(arguments: Get) -> Result<(), ClientError> {
    let api = Api::new(&arguments.connection)?;
    let path = path::with_query(
        &path::of_item(&arguments.item),
        &[
            ("consistency", consistency(arguments.consistency)),
            ("max_staleness", arguments.max_staleness),
        ],
    );
    let answer = api.call(&Call::new(Method::GET, path)).await?;
    let item: ItemView = api.decode(&answer)?;
    match (arguments.connection.output, content(&item)?) {
        (Format::Text, Some(content)) => Printer::raw(&content),
        (format, _) => Printer { format }.show(&item, described),
    }
}

pub(super) async fn list(arguments: List) -> Result<(), ClientError> {
    let api = Api::new(&arguments.connection)?;
    let printer = Printer {
        format: arguments.connection.output,
    };
    let mut pages = Pages::new(arguments.kind, arguments.after, arguments.limit);
    pages.filter = vec![
        ("label", arguments.label),
        ("since", arguments.since),
        ("consistency", consistency(arguments.consistency)),
        ("max_staleness", arguments.max_staleness),
    ];
    while let Some(items) = pages.next(&api).await? {
        for item in items {
            printer.show(&item, summary)?;
        }
    }
    Ok(())
}

pub(super) async fn status(arguments: Status) -> Result<(), ClientError> {
    let api = Api::new(&arguments.connection)?;
    let status: NodeStatus = api.get(&path::of("status", &[])).await?;
    Printer {
        format: arguments.connection.output,
    }
    .show(&status, condition)
}

/// The pages of a listing, one after the other.
pub(super) struct Pages {
    kind: Kind,
    after: Option<String>,
    left: Option<usize>,
    at_end: bool,
    /// Further query parameters.
    pub(super) filter: Vec<(&'static str, Option<String>)>,
}

impl Pages {
    /// Items of `kind` after `after`, `limit` of them or all.
    pub(super) fn new(kind: Kind, after: Option<String>, limit: Option<usize>) -> Self {
        Self {
            kind,
            after,
            left: limit,
            at_end: limit == Some(0),
            filter: Vec::new(),
        }
    }

    /// The next page; `None` after the last one.
    pub(super) async fn next(&mut self, api: &Api) -> Result<Option<Vec<ItemView>>, ClientError> {
        if self.at_end {
            return Ok(None);
        }
        let limit = self
            .left
            .map_or(MAX_LIST_LIMIT, |left| left.min(MAX_LIST_LIMIT));
        let mut query = vec![
            ("after", self.after.take()),
            ("limit", Some(limit.to_string())),
        ];
        query.extend(self.filter.iter().cloned());
        let path = path::with_query(&path::of(path::plural(self.kind), &[]), &query);
        let page: ListPage = api.get(&path).await?;
        self.after = page.next;
        self.left = self.left.map(|left| left.saturating_sub(page.items.len()));
        self.at_end = self.after.is_none() || self.left == Some(0);
        Ok(Some(page.items))
    }
}

/// What an item holds besides its members: shown as it is.
fn content(item: &ItemView) -> Result<Option<Vec<u8>>, ClientError> {
    match item {
        ItemView::Resource(ResourceView {
            content_base64: Some(content),
            ..
        }) => {
            let bytes = STANDARD.decode(content);
            bytes
                .map(Some)
                .map_err(|_| ClientError::usage("the node sent content that is not Base64"))
        }
        ItemView::Resource(resource) => Ok(resource.content.clone().map(String::into_bytes)),
        ItemView::Moment(moment) => Ok(Some(moment.content.clone().into_bytes())),
        ItemView::Entity(_) | ItemView::Edge(_) => Ok(None),
    }
}

fn consistency(consistency: Consistency) -> Option<String> {
    match consistency {
        Consistency::Session => None,
        Consistency::Linearizable => Some("linearizable".to_owned()),
        Consistency::Local => Some("local".to_owned()),
    }
}

/// What a node says of itself, and a leader of its followers: one line each.
fn condition(status: &NodeStatus) -> String {
    let Ok(Value::Object(mut members)) = serde_json::to_value(status) else {
        return String::new();
    };
    members.retain(|name, value| !(value.is_null() || ["copying", "followers"].contains(&&**name)));
    let mut lines = vec![described(&members)];
    if let Some(copying) = &status.copying {
        let left = copying
            .eta_seconds
            .map_or(String::new(), |seconds| format!(", {seconds} s left"));
        let (bytes, total) = (copying.bytes, copying.total);
        lines.push(format!(
            "a snapshot is copied: {bytes} of {total} bytes{left}"
        ));
    }
    for follower in &status.followers {
        lines.push(format!("follower {}  {}", follower.pod, follower.state));
    }
    lines.join("\n")
}

/// One member a line, as people read them.
fn described<T: Serialize>(document: &T) -> String {
    let Ok(Value::Object(members)) = serde_json::to_value(document) else {
        return String::new();
    };
    let width = members
        .keys()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or_default();
    let lines = members
        .iter()
        .map(|(name, value)| format!("{name:width$}  {}", plain(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// One line about an item: what names it, when it changed, what it says.
pub(super) fn summary(item: &ItemView) -> String {
    let (name, about) = match item {
        ItemView::Resource(view) => {
            let content = view
                .content
                .as_deref()
                .map_or("(binary)".to_owned(), beginning);
            (view.id.clone(), format!("{} {content}", view.content_type))
        }
        ItemView::Entity(view) => (
            view.id.clone(),
            format!(
                "{} {} {}",
                view.entity_type,
                view.labels.join(","),
                json(&view.properties)
            ),
        ),
        ItemView::Edge(view) => (
            format!("{} {} {}", view.src, view.edge_type, view.dst),
            json(&view.properties),
        ),
        ItemView::Moment(view) => (
            view.id.clone(),
            format!("{} {}", view.timestamp, beginning(&view.content)),
        ),
    };
    format!("{name}\t{}\t{}", item.meta().updated_at, about.trim())
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn beginning(content: &str) -> String {
    let visible = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    content
        .chars()
        .take(SHOWN_CHARACTERS)
        .map(visible)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use percolate_api::http::Meta;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_about_an_item_is_one_line() {
        let meta = Meta {
            version: BTreeMap::new(),
            etag: String::new(),
            updated_at: "now".to_owned(),
        };
        let resource = ItemView::Resource(ResourceView {
            id: "a".to_owned(),
            content: Some("one\ntwo\tthree".to_owned()),
            content_base64: None,
            content_type: "text/plain".to_owned(),
            metadata: BTreeMap::new(),
            meta,
        });
        assert_eq!(summary(&resource), "a\tnow\ttext/plain one two three");
    }

    #[test]
    fn a_status_says_how_far_copies_are_and_nothing_that_is_absent() {
        let status = json!({
            "tenant_id": "acme", "node": "acme-1", "replica_id": "b", "role": "learner", "epoch": 3,
            "leader": null, "in_sync": ["a"], "incarnation": "c", "committed": 9, "applied": 0,
            "lag": 9, "state": "Snapshotting 40%",
            "copying": {"bytes": 40, "total": 100, "eta_seconds": 6},
            "followers": [{"replica_id": "d", "pod": "acme-2", "state": "Streaming"}],
        });
        let status: NodeStatus = serde_json::from_value(status).unwrap();
        let text = condition(&status);
        for line in [
            "state        Snapshotting 40%",
            "a snapshot is copied: 40 of 100 bytes, 6 s left",
            "follower acme-2  Streaming",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
        assert!(
            !text.contains("leader") && !text.contains("staleness"),
            "{text}"
        );
    }

    #[test]
    fn a_status_of_an_older_version_is_read() {
        let status = json!({
            "tenant_id": "acme", "node": "acme-1", "replica_id": "b", "role": "leader", "epoch": 3,
            "leader": "b", "in_sync": ["b"], "incarnation": "c", "committed": 9, "applied": 9, "lag": 0,
        });
        let status: NodeStatus = serde_json::from_value(status).unwrap();
        assert_eq!((status.state.as_str(), status.followers.len()), ("", 0));
    }

    #[test]
    fn documents_are_described_member_by_member() {
        assert_eq!(
            described(&json!({"a": 1, "long": "text"})),
            "a     1\nlong  text"
        );
    }
}
