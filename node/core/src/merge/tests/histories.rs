//! All short histories of one item on three nodes, compared with what a reader of the whole history
//! would say.
//!
//! Every node applies its own writes with the real `apply`, under a clock that stands still (and
//! differs from the others'), and now and then takes another node's copy. Then all copies are
//! merged in every order. The oracle knows each write's past, and nothing of versions and stamps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{json, merged};
use crate::apply::{ReadItems, apply};
use crate::clock::Hlc;
use crate::model::arbitrary::{actor, name};
use crate::model::{Body, Causal, Entity, Item, ItemId, ItemKey, Kind, KindMismatch, Resource};
use crate::operation::{
    Action, Operation, Outcome, PatchEntity, PatchLabels, Precondition, PutEdge, PutEntity,
    PutMoment, PutResource, Transaction,
};
use crate::version::Dot;

const NODES: u8 = 3;
/// Local writes and copies taken in one history.
const STEPS: usize = 5;

/// What a node may do to the item. The value of a write is the number of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Put,
    Patch,
    RemoveField,
    AddLabel,
    RemoveLabel,
    Delete,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8, Write),
    Take { to: u8, from: u8 },
}

/// One write as the oracle knows it: what was done, and all writes that its node had seen.
#[derive(Clone, Debug)]
struct Event {
    write: Write,
    past: BTreeSet<usize>,
}

#[derive(Clone, Default)]
struct Node {
    item: Option<Item>,
    seen: BTreeSet<usize>,
    sequence: u64,
}

#[derive(Clone)]
struct World {
    kind: Kind,
    nodes: [Node; NODES as usize],
    events: Vec<Event>,
}

struct OneItem<'a>(Option<&'a Item>);

impl ReadItems for OneItem<'_> {
    type Error = KindMismatch;

    fn read(&self, _: &ItemKey) -> Result<Option<Item>, KindMismatch> {
        Ok(self.0.cloned())
    }
}

fn check(kind: Kind, writes: &[Write]) {
    let mut steps = Vec::new();
    for node in 0..NODES {
        steps.extend(writes.iter().map(|&write| Step::Write(node, write)));
        let others = (0..NODES).filter(|&other| other != node);
        steps.extend(others.map(|from| Step::Take { to: node, from }));
    }
    let world = World {
        kind,
        nodes: Default::default(),
        events: Vec::new(),
    };
    let histories = explore(&world, &steps, STEPS);
    assert!(histories > 1000, "only {histories} histories of a {kind}");
}

#[test]
fn histories_of_entities_converge() {
    check(
        Kind::Entity,
        &[Write::Put, Write::Patch, Write::RemoveField, Write::Delete],
    );
}

#[test]
fn histories_of_labels_converge() {
    check(
        Kind::Entity,
        &[Write::Put, Write::AddLabel, Write::RemoveLabel],
    );
}

#[test]
fn histories_of_resources_converge() {
    check(Kind::Resource, &[Write::Put, Write::Patch, Write::Delete]);
}

#[test]
fn histories_of_edges_converge() {
    check(Kind::Edge, &[Write::Put, Write::Delete]);
}

#[test]
fn histories_of_moments_converge() {
    check(Kind::Moment, &[Write::Put, Write::Delete]);
}

fn explore(world: &World, steps: &[Step], left: usize) -> usize {
    world.check();
    if left == 0 {
        return 1;
    }
    let next = steps.iter().filter_map(|&step| world.after(step));
    next.map(|world| explore(&world, steps, left - 1))
        .sum::<usize>()
        + 1
}

impl World {
    /// `None` if the step changes nothing, so that no history is looked at twice.
    fn after(&self, step: Step) -> Option<Self> {
        let mut world = self.clone();
        match step {
            Step::Write(node, write) => world.write(node, write)?,
            Step::Take { to, from } => {
                let from = self.nodes[usize::from(from)].clone();
                let to = &mut world.nodes[usize::from(to)];
                if from.seen.is_subset(&to.seen) {
                    return None;
                }
                let theirs = from.item?;
                to.item = Some(match &to.item {
                    Some(ours) => merged(ours, &theirs),
                    None => theirs,
                });
                to.seen.extend(from.seen);
            }
        }
        Some(world)
    }

    fn write(&mut self, n: u8, write: Write) -> Option<()> {
        let number = self.events.len();
        let node = &mut self.nodes[usize::from(n)];
        let operation = operation(self.kind, write, number, node.item.as_ref())?;
        // The clocks stand still, each behind the one before.
        let hlc = Hlc::from_packed(100 - u64::from(n));
        let transaction = Transaction::new(hlc, None, vec![operation]).expect("one operation");
        let dot = Dot {
            actor: actor(n),
            sequence: node.sequence + 1,
        };
        let applied = apply(transaction, dot, &OneItem(node.item.as_ref())).expect("one kind");
        assert!(
            matches!(applied.outcome, Outcome::Applied(_)),
            "{:?}",
            applied.outcome
        );
        let (_, item) = applied.writes.into_iter().next()?;
        node.item = Some(item);
        node.sequence += 1;
        self.events.push(Event {
            write,
            past: node.seen.clone(),
        });
        node.seen.insert(number);
        Some(())
    }

    fn check(&self) {
        for node in &self.nodes {
            if let Some(item) = &node.item {
                self.check_item(item, &node.seen);
            }
        }
        let copies: Vec<&Item> = self
            .nodes
            .iter()
            .filter_map(|node| node.item.as_ref())
            .collect();
        let results: Vec<Item> = orders(&copies).into_iter().filter_map(merge_all).collect();
        for result in &results {
            assert_eq!(Some(result), results.first(), "{:?}", self.events);
        }
        if let Some(item) = results.first() {
            self.check_item(item, &(0..self.events.len()).collect());
        }
    }

    fn check_item(&self, item: &Item, seen: &BTreeSet<usize>) {
        let is_last = |n: &usize| {
            !seen
                .iter()
                .any(|&later| self.events[later].past.contains(n))
        };
        let is_delete = |n: &usize| self.events[*n].write == Write::Delete;
        let kept = seen.iter().filter(|n| is_last(n) && !is_delete(n));
        let kept: BTreeSet<usize> = kept.copied().collect();
        if self.kind == Kind::Moment {
            let is_erased = seen.iter().any(is_delete);
            assert_eq!(item.is_deleted(), is_erased, "{:?}", self.events);
            return;
        }
        // A delete takes away what its writer saw, and nothing else.
        assert_eq!(item.siblings(), kept.len(), "{:?}", self.events);
        if let Some(shown) = shown(item) {
            self.check_value(shown, &kept);
        }
        if self.kind == Kind::Entity {
            self.check_labels(item, &kept);
        }
    }

    /// Nobody who knew of the shown value has written another.
    fn check_value(&self, shown: Option<usize>, kept: &BTreeSet<usize>) {
        let sets_value = |n: &usize| {
            matches!(
                self.events[*n].write,
                Write::Put | Write::Patch | Write::RemoveField
            )
        };
        let writers: Vec<usize> = self.alive(kept).into_iter().filter(sets_value).collect();
        let is_last = |n: &usize| {
            !writers
                .iter()
                .any(|&later| self.events[later].past.contains(n))
        };
        let mut candidates = writers.iter().filter(|n| is_last(n)).map(|&n| {
            let has_value = self.events[n].write != Write::RemoveField;
            has_value.then_some(n)
        });
        let events = &self.events;
        assert!(
            candidates.any(|candidate| candidate == shown),
            "{shown:?} in {events:?}"
        );
    }

    /// A label is on if somebody added it whose addition no remover knew of.
    fn check_labels(&self, item: &Item, kept: &BTreeSet<usize>) {
        let alive = self.alive(kept);
        let of = |write: Write| {
            alive
                .iter()
                .filter(move |&&n| self.events[n].write == write)
        };
        let is_on = of(Write::AddLabel).any(|added| {
            !of(Write::RemoveLabel).any(|&removed| self.events[removed].past.contains(added))
        });
        let view = Entity::of_item(item).and_then(Causal::view);
        let shown = view.is_some_and(|entity| entity.labels.contains("l"));
        assert_eq!(shown, is_on, "{:?}", self.events);
    }

    /// The kept writes and what they build on, without what was deleted before they were made.
    fn alive(&self, kept: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut alive = kept.clone();
        for &n in kept {
            let past = &self.events[n].past;
            let deletes = past
                .iter()
                .filter(|&&n| self.events[n].write == Write::Delete);
            let gone: BTreeSet<usize> =
                deletes.flat_map(|&n| self.events[n].past.clone()).collect();
            alive.extend(past.difference(&gone));
        }
        alive
    }
}

/// The number of the write whose value is shown, if one is; outside `None` for a deleted item.
#[allow(clippy::option_option)] // No value and no item are two things.
fn shown(item: &Item) -> Option<Option<usize>> {
    let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
    match item {
        Item::Entity(state) => {
            let view = state.view()?;
            Some(
                view.properties
                    .get("f")
                    .and_then(|value| number(value.as_value())),
            )
        }
        Item::Resource(state) => {
            let view = state.view()?;
            Some(
                view.metadata
                    .get("f")
                    .and_then(|value| number(value.as_value())),
            )
        }
        Item::Edge(state) => {
            let view = state.view()?;
            let value = view.properties.value.get("f");
            Some(value.and_then(|value| number(value.as_value())))
        }
        Item::Moment(_) => None,
    }
}

fn operation(kind: Kind, write: Write, number: usize, now: Option<&Item>) -> Option<Operation> {
    let live = now.filter(|item| !item.is_deleted());
    if write != Write::Put && live.is_none() {
        return None;
    }
    let id = || ItemId::new("x").expect("an id");
    let fields = || BTreeMap::from([(name("f"), json(&number.to_string()))]);
    let action = match (kind, write) {
        (Kind::Edge, Write::Delete) => Action::Delete(ItemKey::Edge {
            src: id(),
            edge_type: id(),
            dst: id(),
        }),
        (_, Write::Delete) => Action::Delete(ItemKey::of(kind, id())?),
        (Kind::Entity, Write::Put) => Action::PutEntity(PutEntity {
            id: id(),
            entity_type: name("t"),
            properties: fields(),
            labels: None,
        }),
        (Kind::Entity, _) => Action::PatchEntity(patch(id(), write, fields())),
        // A put supersedes the content, a patch leaves it; both set the metadata.
        (Kind::Resource, Write::Put | Write::Patch) => Action::PutResource(PutResource {
            id: id(),
            content: content(write, number, live),
            content_type: None,
            metadata: Some(fields()),
        }),
        (Kind::Edge, Write::Put) => Action::PutEdge(PutEdge {
            src: id(),
            edge_type: id(),
            dst: id(),
            properties: fields(),
        }),
        // A second put would be refused: it has other content.
        (Kind::Moment, Write::Put) if now.is_none() => Action::PutMoment(PutMoment {
            id: id(),
            timestamp_us: 0,
            content: number.to_string(),
            metadata: BTreeMap::new(),
        }),
        _ => return None,
    };
    let precondition = live.map(|item| Precondition::Version(item.version().clone()));
    Some(Operation {
        action,
        precondition,
    })
}

fn patch(
    id: ItemId,
    write: Write,
    fields: BTreeMap<crate::model::Name, crate::model::Json>,
) -> PatchEntity {
    let keep = |add, remove| PatchLabels::Change { add, remove };
    let (properties, labels) = match write {
        Write::RemoveField => (BTreeMap::from([(name("f"), None)]), PatchLabels::Keep),
        Write::AddLabel => (BTreeMap::new(), keep(vec![name("l")], vec![])),
        Write::RemoveLabel => (BTreeMap::new(), keep(vec![], vec![name("l")])),
        Write::Put | Write::Patch | Write::Delete => {
            let set = fields.into_iter().map(|(name, value)| (name, Some(value)));
            (set.collect(), PatchLabels::Keep)
        }
    };
    PatchEntity {
        id,
        properties,
        labels,
    }
}

fn content(write: Write, number: usize, live: Option<&Item>) -> Vec<u8> {
    let view = live.and_then(Resource::of_item).and_then(Causal::view);
    match view {
        Some(resource) if write == Write::Patch => resource.content.value.bytes.clone(),
        _ => number.to_string().into_bytes(),
    }
}

fn orders<'a>(copies: &[&'a Item]) -> Vec<Vec<&'a Item>> {
    if copies.is_empty() {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for n in 0..copies.len() {
        let mut rest = copies.to_vec();
        let first = rest.remove(n);
        orders.extend(self::orders(&rest).into_iter().map(|mut order| {
            order.push(first);
            order
        }));
    }
    orders
}

fn merge_all(copies: Vec<&Item>) -> Option<Item> {
    let mut copies = copies.into_iter();
    let first = copies.next()?.clone();
    Some(copies.fold(first, |so_far, copy| merged(&so_far, copy)))
}
