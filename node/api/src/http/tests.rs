use std::collections::BTreeMap;

use percolate_core::model::{ItemId, ItemKey, Json, Kind};
use percolate_core::operation::{Action, Operation, Precondition};
use percolate_core::version::{ActorId, Dot, VectorClock};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::arbitrary::{items, key};

proptest! {
    #[test]
    fn paths_and_cursors_read_back(key in key()) {
        let path = item_path(&key);
        let segments: Vec<String> = path.split('/').skip(4).map(|segment| {
            decode_segment(segment).expect("an encoded segment")
        }).collect();
        let ids: Vec<&str> = key.ids().map(ItemId::as_str).collect();
        prop_assert_eq!(segments, ids);
        prop_assert_eq!(parse_cursor(key.kind(), &cursor(&key)).expect("a cursor"), key);
    }

    #[test]
    fn any_cursor_is_read_or_refused(text in ".{0,12}", edge in "[a%/0-9]{0,12}") {
        for kind in Kind::ALL {
            let _ = parse_cursor(kind, &text);
            let _ = parse_cursor(kind, &edge);
        }
    }

    #[test]
    fn views_of_live_items_read_back_and_deleted_ones_have_none(items in items()) {
        for (key, item) in items {
            let view = ItemView::new(&key, &item);
            prop_assert_eq!(view.is_none(), item.is_deleted());
            let Some(view) = view else { continue };
            let text = serde_json::to_string(&view).expect("JSON");
            // Not by `serde_json` itself, which is not exact about doubles.
            let value = Json::parse(&text).expect("JSON");
            let read: ItemView = serde_json::from_value(value.into()).expect("its own JSON");
            prop_assert_eq!(&read, &view);
            let precondition = parse_if_match(&view.meta().etag).expect("its own etag");
            prop_assert_eq!(precondition, Precondition::Version(item.version().clone()));
        }
    }
}

fn version() -> VectorClock {
    let actor = ActorId {
        device: [0xAB; 16],
        epoch: 0,
    };
    [Dot { actor, sequence: 7 }].into_iter().collect()
}

const HEX: &str = "abababababababababababababababab";

#[test]
fn preconditions_are_read_from_headers() {
    let exact = Precondition::Version(version());
    for (header, expected) in [
        (format!("\"{HEX}:7\""), Some(exact.clone())),
        (format!(" {HEX}:7 "), Some(exact)),
        ("*".to_owned(), Some(Precondition::Exists)),
        ("\"\"".to_owned(), None),
        (String::new(), None),
        ("\"x\"".to_owned(), None),
        (format!("\"{HEX}:7\", \"{HEX}:8\""), None),
        (format!("W/\"{HEX}:7\""), None),
    ] {
        assert_eq!(parse_if_match(&header).ok(), expected, "{header:?}");
    }
    assert_eq!(parse_if_none_match("*").ok(), Some(Precondition::Absent));
    assert!(parse_if_none_match(&etag(&version())).is_err());
}

#[test]
fn timestamps_are_rfc_3339() {
    for (text, expected) in [
        ("2024-05-01T12:00:00Z", Some("2024-05-01T12:00:00Z")),
        (
            "2024-05-01T14:00:00.5+02:00",
            Some("2024-05-01T12:00:00.5Z"),
        ),
        (
            "1969-12-31T23:59:59.999999Z",
            Some("1969-12-31T23:59:59.999999Z"),
        ),
        ("2024-05-01T12:00:00", None),
        ("2024-05-01", None),
        ("yesterday", None),
        ("", None),
    ] {
        let read = parse_timestamp(text).ok().map(format_us);
        assert_eq!(read.as_deref(), expected, "{text:?}");
    }
    // Beyond what a text can say, but not beyond what can be stored.
    for timestamp_us in [i64::MIN, i64::MAX] {
        assert!(parse_timestamp(&format_us(timestamp_us)).is_ok());
    }
}

#[test]
fn a_batch_says_what_each_operation_does() {
    let body = json!({"ops": [
        {"op": "put", "kind": "resource", "id": "r", "content": "a", "content_type": "text/markdown"},
        {"op": "put", "kind": "resource", "id": "b", "content_base64": "/w==", "if_match": format!("{HEX}:7")},
        {"op": "put", "kind": "entity", "id": "e", "type": "person", "properties": {"a": 1, "b": null}, "labels": ["x"]},
        {"op": "patch", "kind": "entity", "id": "e", "properties": {"a": null}, "labels": {"add": ["y"]}},
        {"op": "put", "kind": "edge", "src": "e", "type": "knows", "dst": "f"},
        {"op": "put", "kind": "moment", "id": "m", "timestamp": "2024-05-01T12:00:00Z", "content": "c"},
        {"op": "delete", "kind": "edge", "src": "e", "type": "knows", "dst": "f", "if_match": "*"},
        {"op": "delete", "kind": "entity", "id": "e"},
    ]});
    let batch: BatchBody = serde_json::from_value(body.clone()).expect("a batch");
    assert_eq!(serde_json::to_value(&batch).expect("JSON"), body);
    let operations = batch.into_operations().expect("operations");
    let keys: Vec<String> = operations
        .iter()
        .map(|operation| operation.key().to_string())
        .collect();
    assert_eq!(
        keys,
        [
            "resource r",
            "resource b",
            "entity e",
            "entity e",
            "edge e/knows/f",
            "moment m",
            "edge e/knows/f",
            "entity e",
        ]
    );
    assert_eq!(
        operations[1].precondition,
        Some(Precondition::Version(version()))
    );
    assert_eq!(operations[6].precondition, Some(Precondition::Exists));
    let Action::PutEntity(put) = &operations[2].action else {
        panic!("{operations:?}")
    };
    let properties: Vec<String> = put
        .properties
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        (put.entity_type.as_str(), properties),
        ("person", vec!["a=1".to_owned()])
    );
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let put = |rest: serde_json::Value| {
        let mut operation = json!({"op": "put", "kind": "resource", "id": "r"});
        let (Some(into), Some(from)) = (operation.as_object_mut(), rest.as_object()) else {
            panic!("{rest}");
        };
        into.extend(from.clone());
        operation
    };
    for (operation, message) in [
        (
            put(json!({})),
            "a resource takes either content or content_base64",
        ),
        (
            put(json!({"content": "a", "content_base64": ""})),
            "a resource takes either content or content_base64",
        ),
        (
            put(json!({"content_base64": "?"})),
            "content_base64 is not standard Base64 with padding",
        ),
        (
            put(json!({"content": 1})),
            "body is not what this call takes: invalid type: integer `1`, expected a string",
        ),
        (
            put(json!({"content": "a", "extra": 1})),
            "body is not what this call takes: unknown field `extra`, expected one of `content`, `content_base64`, `content_type`, `metadata`",
        ),
        (
            put(json!({"content": "a", "id": ".."})),
            "id \"..\" has a segment that is \".\" or \"..\"",
        ),
        (
            put(json!({"content": "a", "metadata": {"": 1}})),
            "metadata name is empty",
        ),
        (
            put(json!({"content": "a", "if_match": "x"})),
            "if-match \"x\" is neither * nor one version as given in an etag",
        ),
        (
            put(json!({"content": "a", "if_match": "*", "if_none_match": "*"})),
            "if-match and if-none-match exclude each other",
        ),
        (
            json!({"op": "put", "kind": "edge", "src": "a", "dst": "b"}),
            "body is not what this call takes: missing field `type`",
        ),
        (
            json!({"op": "put", "kind": "moment", "id": "m", "timestamp": "now", "content": ""}),
            "timestamp \"now\" is not an RFC 3339 time with an offset",
        ),
        (
            json!({"op": "patch", "kind": "moment", "id": "m"}),
            "a moment cannot be patched, only an entity can",
        ),
        (
            json!({"op": "delete", "kind": "moment", "id": "m", "content": "a"}),
            "body is not what this call takes: unknown field `content`, there are no fields",
        ),
    ] {
        let batch: BatchBody =
            serde_json::from_value(json!({"ops": [operation]})).expect("a batch");
        let error = batch.into_operations().expect_err(message);
        assert_eq!(error.to_string(), format!("operation 0: {message}"));
        let problem = Problem::from(&error);
        assert_eq!(
            (problem.status, problem.code, problem.operation),
            (400, Code::BadRequest, Some(0))
        );
    }
}

#[test]
fn clients_build_batches_from_the_same_bodies() {
    let id = |text: &str| ItemId::new(text).expect("an id");
    let key = ItemKey::Edge {
        src: id("a"),
        edge_type: id("t"),
        dst: id("b"),
    };
    let body = PutEdgeBody {
        properties: BTreeMap::new(),
    };
    let operation = BatchOperation::put(&key, &body).expect("JSON");
    let operation: Operation = operation.into_operation().expect("an operation");
    assert_eq!(operation.key(), key);
    let operation = BatchOperation::delete(&key)
        .into_operation()
        .expect("an operation");
    assert_eq!(operation.action, Action::Delete(key));
}

#[test]
fn codes_have_one_word_everywhere() {
    for code in Code::ALL {
        assert_eq!(
            serde_json::to_value(code).expect("JSON"),
            json!(code.word())
        );
        let problem = Problem::new(code, "because");
        let text = serde_json::to_string(&problem).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Problem>(&text).expect("its own JSON"),
            problem
        );
    }
}
