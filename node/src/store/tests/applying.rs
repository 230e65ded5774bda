//! What becomes visible of committed entries, and that replicas cannot differ in it.

use percolate_core::log::Chain;
use percolate_core::operation::{Effect, IDEMPOTENCY_TTL_MS, Refusal, RefusalCode};
use proptest::prelude::*;
use rocksdb::IteratorMode;

use super::*;

fn effects(outcome: &Outcome) -> Vec<Effect> {
    match outcome {
        Outcome::Applied(written) => written.iter().map(|written| written.effect).collect(),
        Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn refusal(outcome: &Outcome) -> RefusalCode {
    match outcome {
        Outcome::Refused(Refusal { code, .. }) => *code,
        Outcome::Applied(written) => panic!("applied: {written:?}"),
    }
}

#[test]
fn later_entries_of_a_batch_see_what_earlier_ones_did() {
    let mut fixture = Fixture::new();
    let entries = [
        fixture.payload(Vec::new()),
        fixture.entry(None, vec![put_entity("ada", "1", &[])]),
        fixture.entry(None, vec![put_entity("ada", "2", &[])]),
        fixture.entry(None, vec![delete(entity_key("ada"))]),
        fixture.entry(None, vec![delete(entity_key("ada"))]),
    ];
    append(&fixture.store, &entries);
    let outcomes = fixture.store.apply(&entries).unwrap();
    assert_eq!(
        effects(&outcomes[0]),
        [],
        "a leader's first entry does nothing"
    );
    assert_eq!(effects(&outcomes[1]), [Effect::Created]);
    assert_eq!(effects(&outcomes[2]), [Effect::Updated]);
    assert_eq!(effects(&outcomes[3]), [Effect::Deleted]);
    assert_eq!(refusal(&outcomes[4]), RefusalCode::NotFound);
    assert_eq!(fixture.store.applied(), entries[4].head);
    assert_eq!(fixture.store.get(&entity_key("ada")).unwrap(), None);
}

#[test]
fn only_the_next_entries_of_the_log_are_applied() {
    let mut fixture = Fixture::new();
    let entries: Vec<_> = (0..3).map(|_| fixture.payload(Vec::new())).collect();
    append(&fixture.store, &entries[..2]);
    let fixture = {
        let skipped = fixture.store.apply(&entries[1..]);
        assert!(
            matches!(skipped, Err(StoreError::NotNext { index: 2, last: 0 })),
            "{skipped:?}"
        );
        fixture.reopen()
    };
    let ahead = fixture.store.apply(&entries);
    assert!(
        matches!(ahead, Err(StoreError::NotInLog { index: 3, last: 2 })),
        "{ahead:?}"
    );
    let fixture = fixture.reopen();
    assert_eq!(
        fixture.store.applied(),
        Head::default(),
        "a refused batch leaves nothing"
    );
    let gap = [Arc::clone(&entries[0]), Arc::clone(&entries[2])];
    let skipped = fixture.store.apply(&gap);
    assert!(
        matches!(skipped, Err(StoreError::NotNext { index: 3, last: 1 })),
        "{skipped:?}"
    );
    let fixture = fixture.reopen();
    fixture.store.apply(&entries[..1]).unwrap();
    let elsewhere = Head {
        chain: Chain([7; 16]),
        ..entries[0].head
    };
    let foreign = Entry::after(elsewhere, elsewhere.epoch, Vec::new());
    let foreign = fixture.store.apply(&[Arc::new(foreign)]);
    assert!(
        matches!(foreign, Err(StoreError::NotNext { index: 2, last: 1 })),
        "{foreign:?}"
    );
    fixture.reopen().store.apply(&entries[1..2]).unwrap();
}

/// Whose write the item's version names.
fn writer(fixture: &Fixture, key: &str) -> (u32, u64) {
    let item = fixture.store.get(&entity_key(key)).unwrap().unwrap();
    let (actor, sequence) = item.version().iter().next().unwrap();
    assert_eq!(actor.device, HISTORY.0.to_be_bytes());
    (actor.epoch, sequence)
}

#[test]
fn after_a_loss_another_actor_writes_as_the_indices_are_given_anew() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put_entity("before", "1", &[])]);
    assert_eq!(writer(&fixture, "before"), (0, 1));
    let opening = Entry::after(fixture.last, 5, codec::OPENING_AFTER_LOSS.to_vec());
    fixture.last = opening.head;
    let entries = [
        Arc::new(opening),
        fixture.entry(None, vec![put_entity("after", "1", &[])]),
    ];
    append(&fixture.store, &entries);
    let outcomes = fixture.store.apply(&entries).unwrap();
    assert_eq!(effects(&outcomes[0]), []);
    assert_eq!(writer(&fixture, "before"), (0, 1), "it is not rewritten");
    assert_eq!(writer(&fixture, "after"), (5, 3));
    let mut fixture = fixture.reopen();
    let opening = Entry::after(fixture.last, 6, Vec::new());
    fixture.last = opening.head;
    append(&fixture.store, &[Arc::new(opening.clone())]);
    fixture.store.apply(&[opening.into()]).unwrap();
    fixture.write(vec![put_entity("later", "1", &[])]);
    assert_eq!(writer(&fixture, "later"), (5, 5), "whoever leads since");
}

#[test]
fn a_transaction_that_cannot_be_read_stops_the_replica() {
    let mut fixture = Fixture::new();
    let entries = [fixture.payload(b"\xff\xff".to_vec())];
    append(&fixture.store, &entries);
    let applied = fixture.store.apply(&entries);
    assert!(
        matches!(
            applied,
            Err(StoreError::UnknownTransaction { index: 1, .. })
        ),
        "{applied:?}"
    );
    assert!(matches!(fixture.store.apply(&[]), Err(StoreError::Stopped)));
}

#[test]
fn a_retry_gets_the_first_answer_and_writes_nothing() {
    let mut fixture = Fixture::new();
    let first = fixture.write_as(Some("key"), vec![put_entity("ada", "1", &[])]);
    fixture.write(vec![put_entity("ada", "2", &[])]);
    let (_, before) = fixture.store.state_hash().unwrap();
    assert_eq!(
        fixture.write_as(Some("key"), vec![put_entity("ada", "1", &[])]),
        first
    );
    assert_eq!(
        fixture.store.state_hash().unwrap().1,
        before,
        "a retry wrote"
    );
    let mut fixture = fixture.reopen();
    assert_eq!(
        fixture.write_as(Some("key"), vec![put_entity("ada", "1", &[])]),
        first,
        "forgotten by a restart"
    );
    let other = fixture.write_as(Some("key"), vec![put_entity("ada", "3", &[])]);
    assert_eq!(refusal(&other), RefusalCode::KeyReused);
    assert_eq!(
        fixture.store.state_hash().unwrap().1,
        before,
        "a reused key wrote"
    );
}

#[test]
fn a_refusal_is_remembered_too() {
    let mut fixture = Fixture::new();
    let gone = || vec![delete(entity_key("ada"))];
    assert_eq!(
        refusal(&fixture.write_as(Some("key"), gone())),
        RefusalCode::NotFound
    );
    fixture.write(vec![put_entity("ada", "1", &[])]);
    assert_eq!(
        refusal(&fixture.write_as(Some("key"), gone())),
        RefusalCode::NotFound
    );
    assert!(fixture.store.get(&entity_key("ada")).unwrap().is_some());
}

#[test]
fn a_batch_knows_the_keys_of_its_own_entries() {
    let mut fixture = Fixture::new();
    let put = || vec![put_entity("ada", "1", &[])];
    let entries = [
        fixture.entry(Some("key"), put()),
        fixture.entry(Some("key"), put()),
    ];
    append(&fixture.store, &entries);
    let outcomes = fixture.store.apply(&entries).unwrap();
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn old_answers_are_forgotten_as_newer_ones_come() {
    let mut fixture = Fixture::new();
    for key in ["a", "b"] {
        fixture.write_as(Some(key), vec![put_entity("ada", key, &[])]);
    }
    fixture.now_ms += IDEMPOTENCY_TTL_MS + 10;
    fixture.write_as(Some("c"), vec![put_entity("ada", "c", &[])]);
    let rows = fixture.store.db.iterator_cf(
        engine::family(&fixture.store.db, Family::Idempotency),
        IteratorMode::Start,
    );
    assert_eq!(rows.count(), 2, "one record and its place are left");
    assert_eq!(
        effects(&fixture.write_as(Some("a"), vec![put_entity("ada", "a", &[])])),
        [Effect::Updated]
    );
}

/// An operation on one of a few items, so that they meet.
fn operation() -> impl Strategy<Value = Operation> {
    let name = || (0..4_u8).prop_map(|n| format!("item-{n}"));
    prop_oneof![
        (name(), "[a-c]").prop_map(|(name, value)| put_entity(&name, &value, &[])),
        (name(), "[a-c]").prop_map(|(name, value)| put_resource(&name, value.as_bytes())),
        (name(), name()).prop_map(|(src, dst)| put_edge(&src, &dst)),
        name().prop_map(|name| delete(entity_key(&name))),
        name().prop_map(|name| delete(ItemKey::Resource(id(&name)))),
    ]
}

fn transactions() -> impl Strategy<Value = Vec<(Option<String>, Vec<Operation>)>> {
    let key = proptest::option::of("[k-n]");
    proptest::collection::vec((key, proptest::collection::vec(operation(), 1..4)), 1..30)
}

/// Each live or deleted item stands in the feed once, at the position its record names.
fn check_feed(store: &Store) {
    let rows = |family| {
        store
            .db
            .iterator_cf(engine::family(&store.db, family), IteratorMode::Start)
            .map(Result::unwrap)
    };
    let mut feed: Vec<_> = rows(Family::Changes)
        .map(|(position, key)| (key, position))
        .collect();
    feed.sort();
    let items: Vec<_> = rows(Family::Items)
        .map(|(key, value)| {
            let position = items::decode(&key, &value).unwrap().position;
            (key, changes::key(position).to_vec().into_boxed_slice())
        })
        .collect();
    assert_eq!(feed, items);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the log is cut into batches, and wherever a restart falls, replicas end up equal.
    #[test]
    fn replicas_are_equal_at_an_equal_index(transactions in transactions(), cuts in proptest::collection::vec(1..5_usize, 1..30)) {
        let mut leader = Fixture::new();
        let entries: Vec<_> =
            transactions.into_iter().map(|(key, operations)| leader.entry(key.as_deref(), operations)).collect();
        append(&leader.store, &entries);
        let outcomes = leader.store.apply(&entries).unwrap();
        let mut follower = Fixture::new();
        let (mut rest, mut cuts) = (entries.as_slice(), cuts.into_iter().cycle());
        let mut followed = Vec::new();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            append(&follower.store, batch);
            followed.extend(follower.store.apply(batch).unwrap());
            if later.len() == entries.len() / 2 {
                follower = follower.reopen();
            }
            rest = later;
        }
        prop_assert_eq!(outcomes, followed);
        prop_assert_eq!(leader.store.state_hash().unwrap(), follower.store.state_hash().unwrap());
        check_feed(&leader.store);
    }
}

#[test]
fn different_states_have_different_hashes() {
    let mut one = Fixture::new();
    let mut other = Fixture::new();
    assert_eq!(
        one.store.state_hash().unwrap(),
        other.store.state_hash().unwrap()
    );
    one.write(vec![put_entity("ada", "1", &[])]);
    other.write(vec![put_entity("ada", "2", &[])]);
    assert_ne!(
        one.store.state_hash().unwrap().1,
        other.store.state_hash().unwrap().1
    );
}
