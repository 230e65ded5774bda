use percolate_core::model::limits::MAX_OPERATIONS;
use percolate_core::operation::{Effect, Outcome};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::codec::arbitrary::{items, transaction};
use crate::codec::{decode_outcome, encode_transaction};
use crate::http::{EventId, ItemView};

fn put(id: &str) -> proto::Operation {
    proto::Operation {
        action: Some(proto::operation::Action::PutResource(proto::PutResource {
            id: id.to_owned(),
            content: b"text".to_vec(),
            content_type: None,
            metadata: None,
        })),
        precondition: None,
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let nothing = proto::Operation::default();
    let many = vec![put("a"); MAX_OPERATIONS + 1];
    for (name, operations, key, code, word, operation) in [
        (
            "empty",
            vec![],
            None,
            Code::BadRequest,
            "no operations",
            None,
        ),
        ("too many", many, None, Code::TooLarge, "1000", None),
        (
            "unknown",
            vec![put("a"), nothing],
            None,
            Code::BadRequest,
            "unknown kind",
            Some(1),
        ),
        (
            "no id",
            vec![put("")],
            None,
            Code::BadRequest,
            "operation 0: id",
            Some(0),
        ),
        (
            "control",
            vec![put("a\n")],
            None,
            Code::BadRequest,
            "operation 0: id",
            Some(0),
        ),
        (
            "key",
            vec![put("a")],
            Some("ä"),
            Code::BadRequest,
            "idempotency key",
            None,
        ),
    ] {
        let refused = operations_of(operations, key.map(str::to_owned)).expect_err(name);
        assert_eq!(
            (refused.code, refused.operation),
            (code, operation),
            "{name}"
        );
        assert!(refused.detail.contains(word), "{name}: {}", refused.detail);
    }
}

proptest! {
    #[test]
    fn operations_arrive_as_the_log_has_them(transaction in transaction()) {
        // Of a rescued transaction the log alone knows.
        prop_assume!(transaction.origin().is_none());
        let bytes = encode_transaction(&transaction);
        let message = proto::Transaction::decode(bytes.as_slice()).expect("its own bytes");
        let (operations, key) =
            operations_of(message.operations, message.idempotency_key).expect("valid");
        prop_assert_eq!(operations.as_slice(), transaction.operations());
        prop_assert_eq!(key.as_ref(), transaction.idempotency_key());
    }

    #[test]
    fn any_bytes_are_operations_or_are_refused(bytes: Vec<u8>) {
        if let Ok(message) = proto::WriteRequest::decode(bytes.as_slice()) {
            let _ = operations_of(message.operations, message.idempotency_key);
        }
    }

    #[test]
    fn readers_see_an_item_exactly_when_http_shows_it(items in items()) {
        for (key, item) in items {
            let view = item_of(&key, &item);
            let over_http = ItemView::new(&key, &item);
            prop_assert_eq!(view.is_some(), over_http.is_some());
            let meta = view.as_ref().and_then(|view| view.meta.as_ref()).map(|meta| &meta.etag);
            prop_assert_eq!(meta, over_http.as_ref().map(|view| &view.meta().etag));
            let id = EventId { index: 1, ordinal: Some(0), incarnation: None };
            let event = event_of(id, &key, &item).event.expect("an event");
            let is_put = matches!(event, proto::watch_event::Event::Put(_));
            prop_assert_eq!(is_put, view.is_some());
        }
    }
}

#[test]
fn what_was_done_reads_as_the_stored_outcome() {
    let written = Written {
        effect: Effect::Created,
        version: "00000000000000000000000000000007:3"
            .parse()
            .expect("a version"),
        updated_at: percolate_core::clock::Hlc::from_wall_ms(5),
    };
    let reply = done(9, std::slice::from_ref(&written), "s".to_owned());
    let Some(proto::write_reply::Result::Applied(applied)) = reply.result else {
        panic!("{reply:?}");
    };
    let outcome = proto::Outcome {
        outcome: Some(proto::outcome::Outcome::Applied(applied)),
    };
    let read = decode_outcome(&outcome.encode_to_vec()).expect("readable");
    assert_eq!((reply.id, read), (9, Outcome::Applied(vec![written])));
}

#[test]
fn problems_are_the_same_as_over_http() {
    let current = [("00000000000000000000000000000007".to_owned(), 3)].into();
    let over_http = Problem {
        operation: Some(2),
        current: Some(current),
        ..Problem::too_large("too much", 7)
    };
    let body = serde_json::to_vec(&over_http).expect("JSON");
    assert_eq!(problem_of(&body), over_http);
    let message = problem(&over_http);
    assert_eq!(
        (message.code.as_str(), message.limit),
        ("too_large", Some(7))
    );
    let entries = message.current.expect("a version").entries;
    assert_eq!((entries.len(), entries[0].sequence), (1, 3));
    assert_eq!(problem_of(b"<html>").code, Code::NoLeader);
    for code in Code::ALL {
        assert_eq!(
            problem(&Problem::new(code, "")).is_retryable,
            code.is_retryable()
        );
    }
}
