//! Values for tests: short ways to write them, and strategies that draw them.
//!
//! Everything is drawn from few values, so that what is drawn twice often meets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::clock::Hlc;
use crate::version::{ActorId, Dot, VectorClock};

pub(crate) fn actor(n: u8) -> ActorId {
    ActorId {
        device: [n; 16],
        epoch: 0,
    }
}

pub(crate) fn dot(n: u8, sequence: u64) -> Dot {
    Dot {
        actor: actor(n),
        sequence,
    }
}

pub(crate) fn stamp(hlc: u64, n: u8, sequence: u64) -> Stamp {
    Stamp {
        hlc: Hlc::from_packed(hlc),
        dot: dot(n, sequence),
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn id() -> impl Strategy<Value = ItemId> {
    // A space sorts right after the control characters, where a separator could go wrong.
    "[a-b é/~]{1,3}".prop_filter_map("an id", |text| ItemId::new(text).ok())
}

pub(crate) fn key() -> impl Strategy<Value = ItemKey> {
    prop_oneof![
        id().prop_map(ItemKey::Resource),
        id().prop_map(ItemKey::Entity),
        id().prop_map(ItemKey::Moment),
        (id(), id(), id()).prop_map(|(src, edge_type, dst)| ItemKey::Edge {
            src,
            edge_type,
            dst
        }),
    ]
}

pub(crate) fn json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,5}".prop_map(Value::from),
    ];
    let value = scalar.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    value.prop_map(|value| Json::try_from(value).expect("a shallow value"))
}

/// Any states of one item of each kind, also such as no history leads to: the laws of merging do not
/// depend on well-behaved writers.
pub(crate) fn item(kind: Kind) -> BoxedStrategy<Item> {
    match kind {
        Kind::Resource => state(resource()).prop_map(Item::Resource).boxed(),
        Kind::Entity => state(entity()).prop_map(Item::Entity).boxed(),
        Kind::Edge => state(edge()).prop_map(Item::Edge).boxed(),
        Kind::Moment => state(moment()).prop_map(Item::Moment).boxed(),
    }
}

fn state<T: Body + std::fmt::Debug>(
    body: impl Strategy<Value = T>,
) -> impl Strategy<Value = Causal<T>> {
    let siblings = prop::collection::btree_map(any_dot(), body, 0..4);
    let version = prop::array::uniform3(0_u64..4);
    let delete = prop::option::of(any_stamp());
    (siblings, version, delete, 0_u64..4).prop_map(|(mut siblings, version, delete, updated_at)| {
        let dots = (0..).zip(version).map(|(n, sequence)| dot(n, sequence));
        let version: VectorClock = dots.collect();
        let delete = delete.filter(|delete| version.covers(&delete.dot));
        let is_erased = T::DELETE_IS_FINAL && delete.is_some();
        siblings.retain(|dot, _| !is_erased && version.covers(dot));
        let updated_at = Hlc::from_packed(updated_at);
        Causal::from_parts(version, updated_at, delete, siblings).expect("a valid state")
    })
}

fn any_dot() -> impl Strategy<Value = Dot> {
    (0_u8..3, 1_u64..4).prop_map(|(n, sequence)| dot(n, sequence))
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (0_u64..4, any_dot()).prop_map(|(hlc, dot)| Stamp {
        hlc: Hlc::from_packed(hlc),
        dot,
    })
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["f", "g"]).prop_map(name)
}

fn small_json() -> impl Strategy<Value = Json> {
    (0_u8..3).prop_map(|n| Json::try_from(Value::from(n)).expect("a number"))
}

fn lww<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Lww<T>> {
    (value, any_stamp()).prop_map(|(value, stamp)| Lww { value, stamp })
}

fn fields() -> impl Strategy<Value = Fields> {
    let field = lww(prop::option::of(small_json()));
    let fields = prop::collection::btree_map(any_name(), field, 0..3);
    fields.prop_map(|fields| fields.into_iter().collect())
}

fn members() -> impl Strategy<Value = BTreeMap<Name, Json>> {
    prop::collection::btree_map(any_name(), small_json(), 0..3)
}

fn resource() -> impl Strategy<Value = Resource> {
    let content = prop::collection::vec(0_u8..2, 0..2).prop_map(|bytes| Content {
        content_type: Name::default_content_type(),
        bytes,
    });
    (lww(content), fields()).prop_map(|(content, metadata)| Resource { content, metadata })
}

fn entity() -> impl Strategy<Value = Entity> {
    let label = (any_name(), 0_u8..3, 1_u64..3, any::<bool>());
    let labels = prop::collection::vec(label, 0..4).prop_map(|labels| {
        let labels = labels.into_iter().map(|(name, n, sequence, is_removed)| {
            (
                name,
                actor(n),
                LabelDot {
                    sequence,
                    is_removed,
                },
            )
        });
        labels.collect::<Labels>()
    });
    (lww(any_name()), fields(), labels).prop_map(|(entity_type, properties, labels)| Entity {
        entity_type,
        properties,
        labels,
    })
}

fn edge() -> impl Strategy<Value = Edge> {
    lww(members()).prop_map(|properties| Edge { properties })
}

fn moment() -> impl Strategy<Value = Moment> {
    let content = (0_i64..2, "[ab]?", members());
    let content = content.prop_map(|(timestamp_us, text, metadata)| MomentContent {
        timestamp_us,
        text,
        metadata,
    });
    lww(content).prop_map(|content| Moment { content })
}
