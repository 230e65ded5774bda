//! Values for tests: transactions as clients may send them, and items as they come of them.

use std::collections::BTreeMap;

use percolate_core::apply::{ReadItems, apply};
use percolate_core::clock::Hlc;
use percolate_core::log::Place;
use percolate_core::merge::merge;
use percolate_core::model::{Item, ItemId, ItemKey, Json, KindMismatch, Name};
use percolate_core::operation::{
    Action, Effect, IdempotencyKey, Operation, Outcome, PatchEntity, PatchLabels, Precondition,
    PutEdge, PutEntity, PutMoment, PutResource, Refusal, RefusalCode, Transaction, Written,
};
use percolate_core::version::{ActorId, Dot, VectorClock};
use proptest::prelude::*;
use serde_json::Value;

pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    let key = prop::option::of("[!-~]{1,8}");
    let operations = prop::collection::vec(operation(), 1..6);
    let rescued = prop::option::of((any::<u64>(), any::<u64>(), any::<u64>()));
    (any::<u64>(), key, operations, rescued).prop_map(|(hlc, key, operations, rescued)| {
        let key = key.map(|key| IdempotencyKey::new(key).expect("a key"));
        let hlc = Hlc::from_packed(hlc);
        let transaction = Transaction::new(hlc, key, operations).expect("a transaction");
        match rescued {
            Some((epoch, index, now)) => {
                transaction.rescued(Place { epoch, index }, Hlc::from_packed(now))
            }
            None => transaction,
        }
    })
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let precondition = prop::option::of(prop_oneof![
        version().prop_map(Precondition::Version),
        Just(Precondition::Exists),
        Just(Precondition::Absent),
    ]);
    (action(), precondition).prop_map(|(action, precondition)| Operation {
        action,
        precondition,
    })
}

/// Items as two nodes make them that write without knowing of each other and then meet.
pub(crate) fn items() -> impl Strategy<Value = Vec<(ItemKey, Item)>> {
    let history = || prop::collection::vec(action(), 1..12);
    (history(), history(), 0_u32..2).prop_map(|(ours, theirs, epoch)| {
        let mut items = Store::written_by(
            ActorId {
                device: [1; 16],
                epoch: 0,
            },
            ours,
        )
        .0;
        let theirs = Store::written_by(
            ActorId {
                device: [2; 16],
                epoch,
            },
            theirs,
        )
        .0;
        for (key, item) in theirs {
            let item = match items.remove(&key) {
                Some(ours) => merge(ours, item).expect("states of one item").item,
                None => item,
            };
            items.insert(key, item);
        }
        items.into_iter().collect()
    })
}

pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    let effect = prop::sample::select(Effect::ALL.to_vec());
    let written = (effect, version(), any::<u64>()).prop_map(|(effect, version, hlc)| Written {
        effect,
        version,
        updated_at: Hlc::from_packed(hlc),
    });
    let code = prop::sample::select(RefusalCode::ALL.to_vec());
    let refusal = (any::<u32>(), code, prop::option::of(version()));
    prop_oneof![
        prop::collection::vec(written, 0..4).prop_map(Outcome::Applied),
        refusal.prop_map(|(operation, code, current)| {
            Outcome::Refused(Refusal {
                operation,
                code,
                current,
            })
        }),
    ]
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

fn version() -> impl Strategy<Value = VectorClock> {
    let dot = (0_u8..3, 0_u32..3, 1..=u64::MAX).prop_map(|(n, epoch, sequence)| Dot {
        actor: ActorId {
            device: [n; 16],
            epoch,
        },
        sequence,
    });
    prop::collection::vec(dot, 1..4).prop_map(|dots| dots.into_iter().collect())
}

/// Few ids, so that histories meet.
fn id() -> impl Strategy<Value = ItemId> {
    let ids = vec!["a", "é/ü", "a b%"];
    prop::sample::select(ids).prop_map(|id| ItemId::new(id).expect("an id"))
}

fn name() -> impl Strategy<Value = Name> {
    "[a-cé]{1,2}".prop_map(|name| Name::new(name).expect("a name"))
}

fn json() -> impl Strategy<Value = Json> {
    let value = prop_oneof![
        any::<f64>().prop_map(Value::from),
        ".{0,3}".prop_map(Value::from),
        any::<i64>().prop_map(|number| Value::from(vec![number])),
    ];
    value.prop_map(|value| Json::try_from(value).expect("a shallow value"))
}

fn members() -> impl Strategy<Value = BTreeMap<Name, Json>> {
    prop::collection::btree_map(name(), json(), 0..3)
}

fn action() -> impl Strategy<Value = Action> {
    let bytes = prop::collection::vec(any::<u8>(), 0..4);
    let put_resource = (
        id(),
        bytes,
        prop::option::of(name()),
        prop::option::of(members()),
    );
    let labels = || prop::collection::vec(name(), 0..3);
    let put_entity = (id(), name(), members(), prop::option::of(labels()));
    let changes = prop::collection::btree_map(name(), prop::option::of(json()), 0..3);
    let patch_labels = prop_oneof![
        Just(PatchLabels::Keep),
        labels().prop_map(PatchLabels::Replace),
        (labels(), labels()).prop_map(|(add, remove)| PatchLabels::Change { add, remove }),
    ];
    let put_moment = (id(), any::<i64>(), ".{0,3}", members());
    prop_oneof![
        put_resource.prop_map(|(id, content, content_type, metadata)| {
            Action::PutResource(PutResource {
                id,
                content,
                content_type,
                metadata,
            })
        }),
        put_entity.prop_map(|(id, entity_type, properties, labels)| {
            Action::PutEntity(PutEntity {
                id,
                entity_type,
                properties,
                labels,
            })
        }),
        (id(), changes, patch_labels).prop_map(|(id, properties, labels)| {
            Action::PatchEntity(PatchEntity {
                id,
                properties,
                labels,
            })
        }),
        (id(), id(), id(), members()).prop_map(|(src, edge_type, dst, properties)| {
            Action::PutEdge(PutEdge {
                src,
                edge_type,
                dst,
                properties,
            })
        }),
        put_moment.prop_map(|(id, timestamp_us, content, metadata)| {
            Action::PutMoment(PutMoment {
                id,
                timestamp_us,
                content,
                metadata,
            })
        }),
        key().prop_map(Action::Delete),
    ]
}

struct Store(BTreeMap<ItemKey, Item>);

impl ReadItems for Store {
    type Error = KindMismatch;

    fn read(&self, key: &ItemKey) -> Result<Option<Item>, KindMismatch> {
        Ok(self.0.get(key).cloned())
    }
}

impl Store {
    fn written_by(actor: ActorId, actions: Vec<Action>) -> Self {
        let mut store = Self(BTreeMap::new());
        for (sequence, action) in (1..).zip(actions) {
            let hlc = Hlc::from_wall_ms(sequence);
            let transaction = Transaction::new(hlc, None, vec![action.into()]);
            let transaction = transaction.expect("a transaction");
            let applied = apply(transaction, Dot { actor, sequence }, &store);
            store
                .0
                .extend(applied.expect("items of their kinds").writes);
        }
        store
    }
}
