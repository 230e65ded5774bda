//! What a rescued transaction does to each state of an item: as if it had come before what is newer,
//! or nothing.

use super::*;
use crate::log::Place;
use crate::model::limits::MAX_LABELS;

/// When the items were first written, when the rescued transaction was, and when what is newer.
const BEFORE: u64 = 1_000;
const LATE: u64 = 2_000;
const NEWER: u64 = 3_000;

const OVERTAKEN: Expected = Refused(RefusalCode::Overtaken);

/// Applies `operations` as rescued, accepted first at `LATE`.
fn rescue(store: &mut Store, operations: Vec<Operation>) -> Outcome {
    store.index += 1;
    let hlc = Hlc::from_wall_ms(LATE);
    let place = Place { epoch: 1, index: 9 };
    let transaction = Transaction::new(hlc, None, operations)
        .expect("a transaction")
        .rescued(place, Hlc::from_wall_ms(NEWER + 1));
    let applied = apply(transaction, dot(0, store.index), store).expect("items of their kinds");
    store.items.extend(applied.writes);
    applied.outcome
}

fn written(before: &[Action], newer: &[Action]) -> Store {
    let mut store = Store::default();
    for (time, actions) in [(BEFORE, before), (NEWER, newer)] {
        for action in actions {
            store.apply_at(Hlc::from_wall_ms(time), vec![action.clone().into()]);
        }
    }
    store
}

/// Rescues `late` after `before` and `newer`; if it is refused nothing may have changed.
fn check_late(
    case: &str,
    before: &[Action],
    newer: &[Action],
    late: &[Action],
    expected: Expected,
) {
    let mut store = written(before, newer);
    let items = store.items.clone();
    let late = late.iter().cloned().map(Operation::from);
    let outcome = rescue(&mut store, late.collect());
    let found = match &outcome {
        Outcome::Applied(results) => Done(results.last().expect("a result").effect),
        Outcome::Refused(refusal) => Refused(refusal.code),
    };
    assert_eq!(found, expected, "{case}");
    let unchanged = matches!(expected, Refused(_) | Done(Unchanged));
    assert_eq!(store.items == items, unchanged, "{case}: the items");
}

fn set(properties: &str) -> Action {
    patch(properties, PatchLabels::Keep)
}

fn relabel(add: &str, remove: &str) -> Action {
    let (add, remove) = (names(add), names(remove));
    patch("", PatchLabels::Change { add, remove })
}

type Case<'a> = (&'a str, &'a [Action], &'a [Action], &'a [Action], Expected);

#[test]
fn a_late_write_of_an_entity_yields_to_what_is_newer_and_to_nothing_else() {
    let old = [entity("a=1 b=1", Some("l"))];
    let away = [delete(&old[0])];
    let gone = [old[0].clone(), away[0].clone()];
    let back = [away[0].clone(), entity("c=1", None)];
    let (one, two, other) = ([set("a=2")], [set("a=3")], [set("b=2")]);
    let (cleared, whole, both) = (
        [set("a=null")],
        [entity("a=2", None)],
        [set("a=3"), set("a=2")],
    );
    let (label, added) = ([relabel("m", "l")], [relabel("m", "")]);
    let cases: [Case<'_>; 18] = [
        ("nothing newer", &old, &[], &one, Done(Updated)),
        ("another field", &old, &other, &one, Done(Updated)),
        ("the same field", &old, &one, &two, OVERTAKEN),
        ("removed since", &old, &cleared, &one, OVERTAKEN),
        ("the same value", &old, &one, &one, Done(Unchanged)),
        ("whole, over a newer field", &old, &other, &whole, OVERTAKEN),
        ("whole, nothing newer", &old, &[], &whole, Done(Updated)),
        ("deleted since", &old, &away, &one, Refused(NotFound)),
        ("put, deleted since", &old, &away, &old, OVERTAKEN),
        ("put, deleted before", &gone, &[], &old, Done(Created)),
        ("delete", &old, &[], &away, Done(Deleted)),
        ("delete of what is newer", &old, &other, &away, OVERTAKEN),
        ("new", &[], &[], &old, Done(Created)),
        ("labels", &old, &[], &label, Done(Updated)),
        ("labels of what is newer", &old, &other, &added, OVERTAKEN),
        ("a field, labels newer", &old, &label, &one, Done(Updated)),
        ("one field twice", &old, &other, &both, Done(Updated)),
        (
            "away and back, nothing newer",
            &old,
            &[],
            &back,
            Done(Created),
        ),
    ];
    for (case, before, newer, late, expected) in cases {
        check_late(case, before, newer, late, expected);
    }
}

#[test]
fn what_does_not_change_is_not_changed_late_either() {
    let (first, second) = ([resource("one", None)], [resource("two", None)]);
    let described = ["k=1", "k=2"].map(|metadata| [resource("one", Some(metadata))]);
    let (x, y) = ([moment("x")], [moment("y")]);
    let erased = [delete(&x[0])];
    let edges = ["a=1", "a=2", "a=3"].map(|properties| [edge(properties)]);
    let cases: [Case<'_>; 9] = [
        ("resource", &[], &[], &first, Done(Created)),
        (
            "other content",
            &[],
            &second,
            &first,
            Refused(ResourceImmutable),
        ),
        ("metadata", &first, &described[0], &described[1], OVERTAKEN),
        ("moment", &[], &[], &x, Done(Created)),
        ("the same moment", &[], &x, &x, Done(Unchanged)),
        ("another moment", &[], &y, &x, Refused(MomentImmutable)),
        (
            "an erased moment",
            &x,
            &erased,
            &x,
            Refused(MomentImmutable),
        ),
        ("edge", &edges[0], &[], &edges[1], Done(Updated)),
        ("newer edge", &edges[0], &edges[2], &edges[1], OVERTAKEN),
    ];
    for (case, before, newer, late, expected) in cases {
        check_late(case, before, newer, late, expected);
    }
}

#[test]
fn what_is_overtaken_in_part_has_no_effect_at_all() {
    let (old, newer) = ([entity("a=1", None)], [set("a=2")]);
    let late = [moment("x"), set("a=3"), edge("a=1")];
    check_late("three items, one newer", &old, &newer, &late, OVERTAKEN);
}

#[test]
fn a_late_write_keeps_its_time_and_the_item_the_latest() {
    let mut store = written(&[entity("a=1", None)], &[set("b=2")]);
    let key = entity("", None).key();
    let fields = |store: &Store| {
        let state = Entity::of_item(store.get(&key)).expect("an entity");
        let view = state.view().expect("live").into_owned();
        let fields = view.properties.iter().map(|(name, field)| {
            let value = field.value.as_ref().map(Json::to_text);
            (name.to_string(), value, field.stamp.hlc.wall_ms())
        });
        fields.collect::<Vec<_>>()
    };
    rescue(&mut store, vec![set("a=3").into()]);
    assert_eq!(store.get(&key).updated_at(), Hlc::from_wall_ms(NEWER));
    let field = |name: &str, value: &str, time| (name.to_owned(), Some(value.to_owned()), time);
    assert_eq!(
        fields(&store),
        [field("a", "3", LATE), field("b", "2", NEWER)]
    );
    // Whatever comes next has seen both, whatever its clock says.
    store.apply_at(Hlc::from_wall_ms(BEFORE), vec![set("a=4").into()]);
    assert_eq!(fields(&store)[0], field("a", "4", NEWER));
}

/// Clocks of two leaders may differ: who names the version that it replaces has seen it.
#[test]
fn a_late_write_that_names_the_version_it_saw_is_not_overtaken_by_it() {
    let naming = |sequence| Operation {
        action: set("a=3"),
        precondition: Some(version(sequence)),
    };
    let mut store = written(&[entity("a=1", None)], &[set("a=2")]);
    let stale = rescue(&mut store, vec![naming(1)]);
    assert!(matches!(stale, Outcome::Refused(refusal) if refusal.code == VersionMismatch));
    let seen = rescue(&mut store, vec![naming(2)]);
    assert!(matches!(seen, Outcome::Applied(_)), "{seen:?}");
}

#[test]
fn limits_hold_for_late_writes() {
    let labels: Vec<String> = (0..=MAX_LABELS).map(|n| format!("l{n}")).collect();
    let late = [entity("a=1", Some(&labels.join(" ")))];
    let too_large = Refused(RefusalCode::TooLarge);
    check_late("too many labels", &[], &[], &late, too_large);
}
