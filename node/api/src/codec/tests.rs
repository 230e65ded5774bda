use proptest::prelude::*;

use percolate_core::clock::Hlc;

use super::arbitrary::{items, operation, outcome, transaction};
use super::*;

proptest! {
    #[test]
    fn items_read_back(items in items()) {
        for (_, item) in items {
            let bytes = encode_item(&item);
            let read = decode_item(&bytes).expect("encoded bytes");
            prop_assert_eq!(encode_item(&read), bytes, "equal items have equal bytes");
            prop_assert_eq!(read, item);
        }
    }

    #[test]
    fn transactions_read_back(transaction in transaction()) {
        let bytes = encode_transaction(&transaction);
        let read = decode_transaction(&bytes).expect("encoded bytes");
        prop_assert_eq!(&encode_transaction(&read), &bytes);
        let sent = proto::Transaction::decode(&bytes[..]).expect("encoded bytes");
        let is_rescued = transaction.origin().is_some();
        prop_assert_eq!(sent.operations.is_empty(), is_rescued, "an older version must not apply it");
        prop_assert_eq!(read, transaction);
    }

    #[test]
    fn outcomes_and_records_read_back(outcome in outcome(), index: u64, hlc: u64, fingerprint: [u8; 32]) {
        let read = decode_outcome(&encode_outcome(&outcome)).expect("encoded bytes");
        prop_assert_eq!(&read, &outcome);
        let record = IdempotencyRecord { index, hlc: Hlc::from_packed(hlc), fingerprint, outcome };
        let read = decode_record(&encode_record(&record)).expect("encoded bytes");
        prop_assert_eq!(read, record);
    }

    #[test]
    fn damaged_items_are_refused_or_valid(items in items(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        for (_, item) in items {
            let mut bytes = encode_item(&item);
            *at.get_mut(&mut bytes) = byte;
            check_item_bytes(&bytes);
            check_item_bytes(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn damaged_transactions_are_refused_or_valid(transaction in transaction(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode_transaction(&transaction);
        *at.get_mut(&mut bytes) = byte;
        if let Ok(read) = decode_transaction(&bytes) {
            let again = decode_transaction(&encode_transaction(&read)).expect("encoded bytes");
            prop_assert_eq!(again, read);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_valid(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check_item_bytes(&bytes);
        let _ = decode_transaction(&bytes);
        let _ = decode_outcome(&bytes);
        let _ = decode_record(&bytes);
    }

    #[test]
    fn a_fingerprint_tells_requests_apart(a in prop::collection::vec(operation(), 1..3), b in prop::collection::vec(operation(), 1..3)) {
        prop_assert_eq!(fingerprint(&a) == fingerprint(&b), a == b);
    }
}

/// What is read of an item can be written and read again, and merges with itself.
fn check_item_bytes(bytes: &[u8]) {
    if let Ok(item) = decode_item(bytes) {
        let again = decode_item(&encode_item(&item)).expect("encoded bytes");
        assert_eq!(again, item);
        let merged = percolate_core::merge::merge(item.clone(), item.clone());
        assert_eq!(merged.expect("one kind").item, item);
    }
}

const DEVICE: [u8; 16] = [7; 16];

/// A resource as its bytes say it was written by the first write of a device at time 5.
fn resource() -> proto::Item {
    let dot = proto::Dot {
        actor: 0,
        sequence: 1,
    };
    let stamp = proto::Stamp {
        hlc: 5,
        actor: 0,
        sequence: 1,
    };
    let sibling = proto::Resource {
        dot: Some(dot),
        content_stamp: Some(stamp),
        content_type: "text/plain".to_owned(),
        content: b"a".to_vec(),
        metadata: Vec::new(),
    };
    proto::Item {
        actors: vec![DEVICE.to_vec()],
        version: vec![proto::VersionEntry {
            actor: 0,
            sequence: 1,
        }],
        updated_at: 5,
        last_delete: None,
        siblings: Some(proto::item::Siblings::Resources(proto::Resources {
            siblings: vec![sibling],
        })),
    }
}

fn sibling(item: &mut proto::Item) -> &mut proto::Resource {
    match &mut item.siblings {
        Some(proto::item::Siblings::Resources(list)) => &mut list.siblings[0],
        other => panic!("{other:?}"),
    }
}

type Damage = fn(&mut proto::Item);

#[test]
fn items_that_break_the_model_are_refused() {
    assert!(decode_item(&resource().encode_to_vec()).is_ok());
    let cases: [(&str, Damage); 11] = [
        ("message has no kind", |item| item.siblings = None),
        ("message has no dot", |item| sibling(item).dot = None),
        ("message has no stamp", |item| {
            sibling(item).content_stamp = None;
        }),
        ("name is empty", |item| sibling(item).content_type.clear()),
        ("item refers to actor 0 of 0", |item| item.actors.clear()),
        ("actor has 15 bytes or a zero epoch", |item| {
            item.actors[0].truncate(15);
        }),
        ("actor has 20 bytes or a zero epoch", |item| {
            item.actors[0].extend([0; 4]);
        }),
        ("message has a write with sequence 0", |item| {
            item.version[0].sequence = 0;
        }),
        ("message has the same actor twice", |item| {
            item.version.push(item.version[0]);
        }),
        (
            "item has a part by 07070707070707070707070707070707:1 that is beyond its version or its time",
            |item| item.updated_at = 4,
        ),
        (
            "item has a part by 07070707070707070707070707070707:2 that is beyond its version or its time",
            |item| {
                sibling(item).dot = Some(proto::Dot {
                    actor: 0,
                    sequence: 2,
                });
            },
        ),
    ];
    for (message, damage) in cases {
        let mut item = resource();
        damage(&mut item);
        let refusal = decode_item(&item.encode_to_vec())
            .err()
            .map(|error| error.to_string());
        assert_eq!(refusal.as_deref(), Some(message));
    }
}

#[test]
fn transactions_of_nothing_or_of_unknown_operations_are_refused() {
    let operation = proto::Operation {
        action: None,
        precondition: None,
    };
    let unknown = proto::Transaction {
        operations: vec![operation],
        ..Default::default()
    };
    assert!(matches!(
        decode_transaction(&unknown.encode_to_vec()),
        Err(DecodeError::UnknownOperation { operation: 0 })
    ));
    let nothing = InvalidTransaction::Empty;
    assert!(
        matches!(decode_transaction(&[]), Err(DecodeError::Transaction(error)) if error == nothing)
    );
}

#[test]
fn an_item_costs_few_bytes_beyond_its_content() {
    let content = "text/plain".len() + "a".len();
    let bytes = resource().encode_to_vec().len();
    assert!(bytes - content <= 70, "{bytes} bytes for {content}");
}

/// Stored bytes stay readable: if this fails, the format changed and old databases need a way in.
#[test]
fn the_format_of_an_item_is_what_it_was() {
    let expected = concat!(
        "0a1007070707070707070707070707070707", // actors
        "12021001",                             // version
        "190500000000000000",                   // updated at
        "2a220a20",                             // resources, of which one
        "0a021001",                             // dot
        "120b090500000000000000",               // content stamp: time,
        "1801",                                 // and sequence
        "1a0a746578742f706c61696e",             // content type
        "220161",                               // content
    );
    let parsed: Vec<u8> = (0..expected.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&expected[at..at + 2], 16).expect("two digits"))
        .collect();
    assert_eq!(resource().encode_to_vec(), parsed);
}

#[test]
fn an_opening_after_a_loss_is_no_transaction_to_whom_does_not_know_it() {
    let opening = proto::Transaction {
        opens_after_loss: true,
        ..proto::Transaction::default()
    };
    assert_eq!(opening.encode_to_vec(), OPENING_AFTER_LOSS);
    assert!(is_opening(&OPENING_AFTER_LOSS) && is_opening(&[]));
    assert!(decode_transaction(&OPENING_AFTER_LOSS).is_err());
}
