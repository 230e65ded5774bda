//! The laws of merging, on any states; and what they are for, on all short histories (`histories`).

mod histories;

use proptest::prelude::*;

use super::*;
use crate::clock::Hlc;
use crate::model::arbitrary::{self, dot, name, stamp};
use crate::model::{
    Body, Causal, Content, Entity, Fields, Json, Kind, Labels, Lww, Name, Resource, Stamp,
};
use crate::version::VectorClock;

fn merged(a: &Item, b: &Item) -> Item {
    merge(a.clone(), b.clone())
        .expect("states of one kind")
        .item
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn states<const N: usize>() -> impl Strategy<Value = [Item; N]> {
    any_kind().prop_flat_map(|kind| {
        let states = prop::collection::vec(arbitrary::item(kind), N);
        states.prop_map(|states| states.try_into().expect("N states"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn merge_does_not_depend_on_the_order([a, b] in states()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
    }

    #[test]
    fn merge_does_not_depend_on_the_grouping([a, b, c] in states()) {
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn merge_does_not_depend_on_the_repetition([a, b] in states()) {
        prop_assert_eq!(&merged(&a, &a), &a);
        let ab = merged(&a, &b);
        prop_assert_eq!(&merged(&ab, &b), &ab);
        prop_assert_eq!(&merged(&a, &ab), &ab);
    }

    #[test]
    fn merge_has_seen_what_both_have_seen([a, b] in states()) {
        let ab = merged(&a, &b);
        prop_assert!(a.version() <= ab.version() && b.version() <= ab.version());
        prop_assert!(ab.updated_at() >= a.updated_at().max(b.updated_at()));
    }

    #[test]
    fn a_conflict_is_reported_once([a, b] in states()) {
        let first = merge(a, b.clone()).expect("states of one kind");
        let again = merge(first.item, b).expect("states of one kind");
        prop_assert_eq!(again.conflicts, vec![]);
    }

    #[test]
    fn both_sides_report_the_same_conflicts([a, b] in states()) {
        let ours = merge(a.clone(), b.clone()).expect("states of one kind").conflicts;
        let theirs = merge(b, a).expect("states of one kind").conflicts;
        prop_assert_eq!(ours, theirs);
    }
}

#[test]
fn states_of_different_kinds_are_not_merged() {
    let resource = document("a", 1, 0, 1);
    let entity = thing("1", 1, 1, 1);
    let refusal = merge(resource, entity).err();
    let (expected, found) = (Kind::Resource, Kind::Entity);
    assert_eq!(refusal, Some(KindMismatch { expected, found }));
}

#[test]
fn conflicts_name_what_was_put_aside() {
    let base = thing("0", 1, 0, 1);
    let ours = write(&base, "1", 5, 0, 2);
    let theirs = write(&base, "2", 4, 1, 1);
    let deleted = base.deleted(stamp(9, 1, 1));
    let other_field = write_field(&base, "g", "9", stamp(4, 1, 1));
    let field = || Subject::Field(name("f"));
    for (case, a, b, expected) in [
        ("known to the other side", &base, &ours, vec![]),
        ("left alone by the other side", &ours, &other_field, vec![]),
        (
            "the later stays",
            &ours,
            &theirs,
            vec![(field(), stamp(4, 1, 1), stamp(5, 0, 2))],
        ),
        (
            "the same value twice",
            &ours,
            &write(&base, "1", 4, 1, 1),
            vec![],
        ),
        (
            "edit and delete",
            &ours,
            &deleted,
            vec![(Subject::Existence, stamp(9, 1, 1), stamp(5, 0, 2))],
        ),
        ("delete of what was seen", &base, &deleted, vec![]),
        (
            "two deletes",
            &base.deleted(stamp(3, 0, 2)),
            &deleted,
            vec![],
        ),
        (
            "two contents",
            &document("a", 3, 0, 1),
            &document("b", 3, 1, 1),
            vec![(Subject::Content, stamp(3, 0, 1), stamp(3, 1, 1))],
        ),
    ] {
        let conflicts = merge(a.clone(), b.clone()).expect("one kind").conflicts;
        let found: Vec<_> = conflicts
            .iter()
            .map(|conflict| (conflict.subject.clone(), conflict.losing, conflict.winning))
            .collect();
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn a_conflict_keeps_the_value_and_both_versions() {
    let base = thing("0", 1, 0, 1);
    let (ours, theirs) = (write(&base, "1", 5, 0, 2), write(&base, "2", 4, 1, 1));
    let conflicts = merge(ours.clone(), theirs.clone())
        .expect("one kind")
        .conflicts;
    assert_eq!(
        conflicts,
        [Conflict {
            subject: Subject::Field(name("f")),
            losing_value: ConflictValue::Field(Some(json("2"))),
            losing: stamp(4, 1, 1),
            losing_version: theirs.version().clone(),
            winning: stamp(5, 0, 2),
            winning_version: ours.version().clone(),
        }]
    );
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("a value")
}

fn document(text: &str, hlc: u64, n: u8, sequence: u64) -> Item {
    let stamp = stamp(hlc, n, sequence);
    let value = Content {
        content_type: Name::default_content_type(),
        bytes: text.as_bytes().to_vec(),
    };
    let body = Resource {
        content: Lww { value, stamp },
        metadata: Fields::default(),
    };
    Resource::into_item(Causal::written(None, stamp, body))
}

/// An entity whose property `f` has this value.
fn thing(value: &str, hlc: u64, n: u8, sequence: u64) -> Item {
    let stamp = stamp(hlc, n, sequence);
    let body = Entity {
        entity_type: Lww {
            value: name("t"),
            stamp,
        },
        properties: [(
            name("f"),
            Lww {
                value: Some(json(value)),
                stamp,
            },
        )]
        .into_iter()
        .collect(),
        labels: Labels::default(),
    };
    Entity::into_item(Causal::written(None, stamp, body))
}

/// The entity after a write of `f` by somebody who had seen it.
fn write(previous: &Item, value: &str, hlc: u64, n: u8, sequence: u64) -> Item {
    write_field(previous, "f", value, stamp(hlc, n, sequence))
}

fn write_field(previous: &Item, field: &str, value: &str, stamp: Stamp) -> Item {
    let state = Entity::of_item(previous).expect("an entity");
    let mut body = state.view().expect("a live entity").into_owned();
    body.properties
        .patch([(name(field), Some(json(value)))].into(), stamp);
    Entity::into_item(Causal::written(Some(state), stamp, body))
}

#[test]
fn a_blank_state_merges_as_any_other() {
    let version: VectorClock = [dot(0, 9)].into_iter().collect();
    let blank = Causal::<Entity>::from_parts(version, Hlc::ZERO, None, [].into());
    let blank = Entity::into_item(blank.expect("a valid state"));
    assert!(merged(&thing("1", 1, 0, 1), &blank).is_deleted());
    assert!(!merged(&thing("1", 1, 1, 1), &blank).is_deleted());
}

#[test]
fn of_two_values_with_one_stamp_all_nodes_keep_the_same() {
    let at = stamp(1, 0, 1);
    let (a, b) = (
        Lww {
            value: name("a"),
            stamp: at,
        },
        Lww {
            value: name("b"),
            stamp: at,
        },
    );
    assert_eq!(a.clone().join(b.clone()), b.join(a));
}
