//! Paths of the API: every id is one segment, escaped once.

use std::fmt::Write as _;

use percolate_api::http::{API_BASE, encode_segment};

use crate::cli::{Item, Kind};

/// The word for a kind in a path.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Resources => "resources",
        Kind::Entities => "entities",
        Kind::Edges => "edges",
        Kind::Moments => "moments",
    }
}

/// The path of one item.
pub(super) fn of_item(item: &Item) -> String {
    match item {
        Item::Resource { id } => of("resources", &[id]),
        Item::Entity { id } => of("entities", &[id]),
        Item::Edge {
            src,
            edge_type,
            dst,
        } => of("edges", &[src, edge_type, dst]),
        Item::Moment { id } => of("moments", &[id]),
    }
}

/// The path below `collection` whose segments are `ids`.
pub(super) fn of(collection: &str, ids: &[&str]) -> String {
    let mut path = format!("{API_BASE}/{collection}");
    for id in ids {
        path.push('/');
        path.push_str(&encode_segment(id));
    }
    path
}

/// `path?name=value&...` for the values that are there.
pub(super) fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    let mut separator = '?';
    for (name, value) in query {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}{name}={}", encode_segment(value));
            separator = '&';
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_one_segment() {
        assert_eq!(
            of("resources", &["docs/a b.md"]),
            "/api/v1/resources/docs%2Fa%20b.md"
        );
        assert_eq!(
            of("edges", &["a/b", "knows", "50%"]),
            "/api/v1/edges/a%2Fb/knows/50%25"
        );
    }

    #[test]
    fn absent_parameters_are_left_out() {
        let query = [
            ("after", Some("a&b".to_owned())),
            ("label", None),
            ("limit", Some("5".to_owned())),
        ];
        assert_eq!(with_query("/x", &query), "/x?after=a%26b&limit=5");
        assert_eq!(with_query("/x", &[("label", None)]), "/x");
    }
}
