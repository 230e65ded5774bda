//! What each operation does to each state of an item, as a table.

mod late;

use std::collections::BTreeMap;

use super::*;
use crate::clock::Hlc;
use crate::model::arbitrary::{actor, dot, name};
use crate::model::{Body, Entity, ItemId, Json, Moment, Name, Resource, edge_is_visible};
use crate::operation::{
    Effect, PatchEntity, PatchLabels, PutEdge, PutEntity, PutMoment, PutResource,
};

/// A store that remembers what was applied; the dot's sequence is the number of the transaction.
#[derive(Default)]
struct Store {
    items: BTreeMap<ItemKey, Item>,
    index: u64,
}

impl ReadItems for Store {
    type Error = KindMismatch;

    fn read(&self, key: &ItemKey) -> Result<Option<Item>, KindMismatch> {
        Ok(self.items.get(key).cloned())
    }
}

impl Store {
    fn apply(&mut self, operations: Vec<Operation>) -> Outcome {
        // The clock stands still: order must not depend on it.
        self.apply_at(Hlc::from_wall_ms(1000), operations)
    }

    fn apply_at(&mut self, hlc: Hlc, operations: Vec<Operation>) -> Outcome {
        self.index += 1;
        let transaction = Transaction::new(hlc, None, operations).expect("a transaction");
        let applied = apply(transaction, dot(0, self.index), self).expect("items of their kinds");
        self.items.extend(applied.writes);
        applied.outcome
    }

    fn get(&self, key: &ItemKey) -> &Item {
        &self.items[key]
    }
}

fn id(text: &str) -> ItemId {
    ItemId::new(text).expect("an id")
}

/// Fields from `a=1 b="x"`.
fn fields(text: &str) -> BTreeMap<Name, Json> {
    let field = |field: &str| {
        let (key, value) = field.split_once('=').expect("key=value");
        (name(key), Json::parse(value).expect("a value"))
    };
    text.split_whitespace().map(field).collect()
}

fn names(text: &str) -> Vec<Name> {
    text.split_whitespace().map(name).collect()
}

fn resource(content: &str, metadata: Option<&str>) -> Action {
    Action::PutResource(PutResource {
        id: id("r"),
        content: content.as_bytes().to_vec(),
        content_type: None,
        metadata: metadata.map(fields),
    })
}

fn entity(properties: &str, labels: Option<&str>) -> Action {
    Action::PutEntity(PutEntity {
        id: id("e"),
        entity_type: name("person"),
        properties: fields(properties),
        labels: labels.map(names),
    })
}

/// Sets fields, `x=null` removes; then labels.
fn patch(properties: &str, labels: PatchLabels) -> Action {
    let properties = fields(properties).into_iter().map(|(name, value)| {
        let value = Some(value).filter(|value| !value.as_value().is_null());
        (name, value)
    });
    Action::PatchEntity(PatchEntity {
        id: id("e"),
        properties: properties.collect(),
        labels,
    })
}

fn edge(properties: &str) -> Action {
    Action::PutEdge(PutEdge {
        src: id("e"),
        edge_type: id("knows"),
        dst: id("f"),
        properties: fields(properties),
    })
}

fn moment(content: &str) -> Action {
    Action::PutMoment(PutMoment {
        id: id("m"),
        timestamp_us: 5,
        content: content.to_owned(),
        metadata: BTreeMap::new(),
    })
}

fn delete(action: &Action) -> Action {
    Action::Delete(action.key())
}

/// The version after the transaction with this number.
fn version(sequence: u64) -> Precondition {
    Precondition::Version([dot(0, sequence)].into_iter().collect())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Done(Effect),
    Refused(RefusalCode),
}

use Effect::{Created, Deleted, Unchanged, Updated};
use Expected::{Done, Refused};
use RefusalCode::{MomentImmutable, NotFound, ResourceImmutable, VersionMismatch};

/// Applies each of `before` in a transaction of its own, then `action`.
fn check(
    case: &str,
    before: &[Action],
    action: Action,
    only_if: Option<Precondition>,
    expected: Expected,
) {
    let mut store = Store::default();
    for action in before {
        let outcome = store.apply(vec![action.clone().into()]);
        assert!(
            matches!(outcome, Outcome::Applied(_)),
            "{case}: {outcome:?}"
        );
    }
    let (items, key) = (store.items.clone(), action.key());
    let outcome = store.apply(vec![Operation {
        action,
        precondition: only_if,
    }]);
    let found = match outcome {
        Outcome::Applied(written) => {
            let item = store.get(&key);
            assert_eq!(
                (&written[0].version, written[0].updated_at),
                (item.version(), item.updated_at()),
                "{case}"
            );
            Done(written[0].effect)
        }
        Outcome::Refused(refusal) => Refused(refusal.code),
    };
    assert_eq!(found, expected, "{case}");
    let is_unwritten = !matches!(found, Done(Created | Updated | Deleted));
    assert_eq!(store.items == items, is_unwritten, "{case}");
}

#[test]
fn resources_keep_their_content() {
    let put = || resource("a", Some("x=1"));
    check("new", &[], put(), None, Done(Created));
    check("the same again", &[put()], put(), None, Done(Unchanged));
    check(
        "without metadata",
        &[put()],
        resource("a", None),
        None,
        Done(Unchanged),
    );
    check(
        "other metadata",
        &[put()],
        resource("a", Some("x=2")),
        None,
        Done(Updated),
    );
    check(
        "no metadata left",
        &[put()],
        resource("a", Some("")),
        None,
        Done(Updated),
    );
    check(
        "other content",
        &[put()],
        resource("b", None),
        None,
        Refused(ResourceImmutable),
    );
    check(
        "superseded",
        &[put()],
        resource("b", None),
        Some(version(1)),
        Done(Updated),
    );
    check(
        "superseded at an old version",
        &[put(), resource("a", Some("x=2"))],
        resource("b", None),
        Some(version(1)),
        Refused(VersionMismatch),
    );
    check(
        "superseded by a star",
        &[put()],
        resource("b", None),
        Some(Precondition::Exists),
        Refused(ResourceImmutable),
    );
    check(
        "named version of nothing",
        &[],
        put(),
        Some(version(1)),
        Refused(VersionMismatch),
    );
    check(
        "created only",
        &[put()],
        put(),
        Some(Precondition::Absent),
        Refused(VersionMismatch),
    );
}

#[test]
fn resources_come_and_go() {
    let put = || resource("a", Some("x=1"));
    check("deleted", &[put()], delete(&put()), None, Done(Deleted));
    check(
        "deleted at an old version",
        &[put(), resource("a", Some(""))],
        delete(&put()),
        Some(version(1)),
        Refused(VersionMismatch),
    );
    check(
        "deleted twice",
        &[put(), delete(&put())],
        delete(&put()),
        None,
        Refused(NotFound),
    );
    check(
        "never there, deleted",
        &[],
        delete(&put()),
        Some(version(1)),
        Refused(NotFound),
    );
    check(
        "back with other content",
        &[put(), delete(&put())],
        resource("b", None),
        None,
        Done(Created),
    );
    check(
        "back if absent",
        &[put(), delete(&put())],
        put(),
        Some(Precondition::Absent),
        Done(Created),
    );
}

#[test]
fn entities_merge_field_by_field() {
    let put = || entity("a=1 b=2", Some("x"));
    let labels = |text: &str| PatchLabels::Replace(names(text));
    check("new", &[], put(), None, Done(Created));
    check("the same again", &[put()], put(), None, Done(Unchanged));
    check(
        "labels unmentioned",
        &[put()],
        entity("a=1 b=2", None),
        None,
        Done(Unchanged),
    );
    check(
        "one field fewer",
        &[put()],
        entity("a=1", None),
        None,
        Done(Updated),
    );
    check(
        "patched",
        &[put()],
        patch("a=2", PatchLabels::Keep),
        None,
        Done(Updated),
    );
    check(
        "patched to the same",
        &[put()],
        patch("a=1 c=null", labels("x")),
        None,
        Done(Unchanged),
    );
    check(
        "other labels",
        &[put()],
        patch("", labels("x y")),
        None,
        Done(Updated),
    );
    check(
        "patched, never there",
        &[],
        patch("a=1", PatchLabels::Keep),
        None,
        Refused(NotFound),
    );
    check(
        "patched, deleted",
        &[put(), delete(&put())],
        patch("a=1", PatchLabels::Keep),
        None,
        Refused(NotFound),
    );
    check(
        "patched at its version",
        &[put()],
        patch("a=2", PatchLabels::Keep),
        Some(version(1)),
        Done(Updated),
    );
    check(
        "patched at another",
        &[put()],
        patch("a=2", PatchLabels::Keep),
        Some(version(2)),
        Refused(VersionMismatch),
    );
    check(
        "back after a delete",
        &[put(), delete(&put())],
        put(),
        None,
        Done(Created),
    );
}

#[test]
fn edges_are_replaced_as_a_whole() {
    check("new", &[], edge("a=1"), None, Done(Created));
    check(
        "the same again",
        &[edge("a=1")],
        edge("a=1"),
        None,
        Done(Unchanged),
    );
    check(
        "other properties",
        &[edge("a=1")],
        edge("b=1"),
        None,
        Done(Updated),
    );
    check(
        "deleted",
        &[edge("a=1")],
        delete(&edge("")),
        None,
        Done(Deleted),
    );
    check(
        "back",
        &[edge("a=1"), delete(&edge(""))],
        edge("a=1"),
        None,
        Done(Created),
    );
}

#[test]
fn moments_do_not_change_and_are_erased_for_good() {
    check("new", &[], moment("a"), None, Done(Created));
    check(
        "the same again",
        &[moment("a")],
        moment("a"),
        None,
        Done(Unchanged),
    );
    check(
        "other content",
        &[moment("a")],
        moment("b"),
        None,
        Refused(MomentImmutable),
    );
    check(
        "other content at its version",
        &[moment("a")],
        moment("b"),
        Some(version(1)),
        Refused(MomentImmutable),
    );
    check(
        "erased",
        &[moment("a")],
        delete(&moment("")),
        None,
        Done(Deleted),
    );
    check(
        "back after it was erased",
        &[moment("a"), delete(&moment(""))],
        moment("a"),
        None,
        Refused(MomentImmutable),
    );
    check(
        "erased twice",
        &[moment("a"), delete(&moment(""))],
        delete(&moment("")),
        None,
        Refused(NotFound),
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let mib = |n: usize| format!("\"{}\"", "x".repeat(n * 1024 * 1024));
    let large = format!("a={}", mib(9));
    let too_large = || Refused(RefusalCode::TooLarge);
    check("resource", &[], resource(&mib(16), None), None, too_large());
    check(
        "metadata",
        &[],
        resource(&mib(8), Some(&large)),
        None,
        too_large(),
    );
    check(
        "edge",
        &[],
        edge(&format!("a={}", mib(16))),
        None,
        too_large(),
    );
    check("moment", &[], moment(&mib(16)), None, too_large());
    check("entity", &[], entity(&large, None), None, Done(Created));
    check(
        "grown entity",
        &[entity(&large, None)],
        patch(&format!("b={}", mib(9)), PatchLabels::Keep),
        None,
        too_large(),
    );
    let labels: Vec<String> = (0..=crate::model::limits::MAX_LABELS)
        .map(|n| n.to_string())
        .collect();
    check(
        "labels",
        &[],
        entity("", Some(&labels.join(" "))),
        None,
        too_large(),
    );
}

/// Properties and labels as `a=1 b=2 | x y`.
fn shown(store: &Store) -> String {
    let state = Entity::of_item(store.get(&entity("", None).key())).expect("an entity");
    let view = state.view().expect("a live entity");
    let properties = view
        .properties
        .live()
        .map(|(name, value)| format!("{name}={value} "));
    let labels: Vec<String> = view.labels.live().map(|name| format!(" {name}")).collect();
    format!("{}|{}", properties.collect::<String>(), labels.concat())
}

#[test]
fn writes_show() {
    let change = |add: &str, remove: &str| PatchLabels::Change {
        add: names(add),
        remove: names(remove),
    };
    let mut store = Store::default();
    for (action, expected) in [
        (entity("a=1 b=2", Some("x y")), "a=1 b=2 | x y"),
        (patch("a=9 c=3 b=null", PatchLabels::Keep), "a=9 c=3 | x y"),
        (patch("b=5", change("z", "x")), "a=9 b=5 c=3 | y z"),
        (patch("", change("x y", "y z")), "a=9 b=5 c=3 | x y"),
        (
            patch("", PatchLabels::Replace(names("z"))),
            "a=9 b=5 c=3 | z",
        ),
        (entity("b=1", None), "b=1 | z"),
        (entity("b=1", Some("")), "b=1 |"),
        (entity("", Some("x")), "| x"),
    ] {
        store.apply(vec![action.into()]);
        assert_eq!(shown(&store), expected);
    }
    // What comes back after a delete has nothing of what was there.
    store.apply(vec![delete(&entity("", None)).into()]);
    store.apply(vec![entity("a=1", None).into()]);
    assert_eq!(shown(&store), "a=1 |");
}

#[test]
fn a_later_write_wins_although_the_clock_stepped_back() {
    let mut store = Store::default();
    for (wall_ms, value) in [(1000, "a=1"), (500, "a=2"), (1, "a=3")] {
        store.apply_at(Hlc::from_wall_ms(wall_ms), vec![entity(value, None).into()]);
        assert_eq!(shown(&store), format!("{value} |"));
    }
    let updated_at = store.get(&entity("", None).key()).updated_at();
    assert_eq!(updated_at, Hlc::from_wall_ms(1000).tick().tick());
}

#[test]
fn a_transaction_happens_as_a_whole_or_not_at_all() {
    let mut store = Store::default();
    store.apply(vec![moment("a").into()]);
    let before = store.items.clone();
    let operations = vec![
        entity("a=1", None).into(),
        resource("r", None).into(),
        moment("b").into(),
    ];
    let outcome = store.apply(operations);
    let current = Some(before[&moment("").key()].version().clone());
    assert_eq!(
        outcome,
        Outcome::Refused(Refusal {
            operation: 2,
            code: MomentImmutable,
            current
        })
    );
    assert_eq!(store.items, before);
}

#[test]
fn operations_of_one_transaction_build_on_each_other() {
    let change = |add: &str, remove: &str| PatchLabels::Change {
        add: names(add),
        remove: names(remove),
    };
    let mut store = Store::default();
    let outcome = store.apply(vec![
        entity("a=1", Some("x")).into(),
        patch("a=2 b=1", change("y", "x")).into(),
        patch("a=3", change("x", "")).into(),
        edge("").into(),
        delete(&edge("")).into(),
        resource("a", None).into(),
        delete(&resource("", None)).into(),
        resource("b", None).into(),
    ]);
    let Outcome::Applied(written) = outcome else {
        panic!("{outcome:?}")
    };
    let effects: Vec<Effect> = written.iter().map(|written| written.effect).collect();
    assert_eq!(
        effects,
        [
            Created, Updated, Updated, Created, Deleted, Created, Deleted, Created
        ]
    );
    assert_eq!(shown(&store), "a=3 b=1 | x y");
    assert!(store.get(&edge("").key()).is_deleted());
    let state = Resource::of_item(store.get(&resource("", None).key())).expect("a resource");
    assert_eq!(
        state.view().expect("live").content.value.as_text(),
        Some("b")
    );
    // One write each, under the transaction's dot.
    assert!(
        store
            .items
            .values()
            .all(|item| item.version().get(&actor(0)) == 1)
    );
}

#[test]
fn an_erased_moment_keeps_no_content() {
    let mut store = Store::default();
    store.apply(vec![moment("secret").into()]);
    store.apply(vec![delete(&moment("")).into()]);
    let item = store.get(&moment("").key());
    assert!(!format!("{item:?}").contains("secret"));
    let state = Moment::of_item(item).expect("a moment");
    assert_eq!(
        state.last_delete().map(|delete| delete.dot),
        Some(dot(0, 2))
    );
}

#[test]
fn an_edge_is_hidden_while_an_endpoint_is_deleted() {
    let mut store = Store::default();
    store.apply(vec![entity("a=1", None).into(), edge("").into()]);
    let visible = |store: &Store| {
        let src = store.get(&entity("", None).key());
        // Nothing is known about the other end.
        edge_is_visible(store.get(&edge("").key()), &[src], &[])
    };
    assert!(visible(&store));
    store.apply(vec![delete(&entity("", None)).into()]);
    assert!(!visible(&store));
    store.apply(vec![entity("a=1", None).into()]);
    assert!(visible(&store));
    store.apply(vec![delete(&edge("")).into()]);
    assert!(!visible(&store));
}

#[test]
fn an_item_of_another_kind_under_the_key_is_an_error() {
    let mut store = Store::default();
    store.apply(vec![entity("a=1", None).into()]);
    let item = store.get(&entity("", None).key()).clone();
    store.items.insert(resource("", None).key(), item);
    let transaction = Transaction::new(Hlc::ZERO, None, vec![resource("a", None).into()]);
    let applied = apply(transaction.expect("a transaction"), dot(0, 9), &store);
    assert_eq!(
        applied,
        Err(KindMismatch {
            expected: Kind::Resource,
            found: Kind::Entity
        })
    );
}
