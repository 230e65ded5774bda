//! What concurrent writes put aside: found by comparing the two sides before they are merged.
//!
//! A value loses in a conflict if the other side's is later, neither writer had seen the other's
//! write, and the values differ. What a writer had seen is its side's version. Labels never conflict:
//! an addition that somebody did not know of simply stays.

use std::collections::BTreeMap;

use crate::model::{
    Body, Causal, Content, Edge, Entity, Fields, Item, Json, Lww, Moment, MomentContent, Name,
    Resource, Stamp, ValueHash,
};
use crate::version::VectorClock;

/// One value that lost to a concurrent one.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// What of the item it was the value of.
    pub subject: Subject,
    /// The value that lost.
    pub losing_value: ConflictValue,
    /// Who wrote it, and when.
    pub losing: Stamp,
    /// All that its side had seen.
    pub losing_version: VectorClock,
    /// Who wrote the value that stays, and when.
    pub winning: Stamp,
    /// All that its side had seen.
    pub winning_version: VectorClock,
}

/// What of an item two writers disagreed on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A resource's or a moment's content.
    Content,
    /// An entity's type.
    EntityType,
    /// A property, or a field of metadata.
    Field(Name),
    /// An edge's properties.
    Properties,
    /// Whether the item is there: one deleted what the other went on to change. The change stays.
    Existence,
}

/// A value that lost.
#[derive(Clone, Debug, PartialEq)]
pub enum ConflictValue {
    /// A document.
    Content(Content),
    /// A type.
    EntityType(Name),
    /// A field; `None` if the loser had removed it.
    Field(Option<Json>),
    /// An edge's properties.
    Properties(BTreeMap<Name, Json>),
    /// A moment.
    Moment(MomentContent),
    /// The item was deleted.
    Deleted,
}

/// The conflicts between two states, one for each value that loses.
pub(super) fn between(a: &Item, b: &Item) -> Vec<Conflict> {
    if !a.version().is_concurrent(b.version()) {
        return Vec::new();
    }
    let mut contest = Contest {
        a: a.version(),
        b: b.version(),
        conflicts: Vec::new(),
    };
    match (a, b) {
        (Item::Resource(a), Item::Resource(b)) => contest.compare(a, b, Contest::resource),
        (Item::Entity(a), Item::Entity(b)) => contest.compare(a, b, Contest::entity),
        (Item::Edge(a), Item::Edge(b)) => contest.compare(a, b, Contest::edge),
        (Item::Moment(a), Item::Moment(b)) => contest.compare(a, b, Contest::moment),
        // Not two states of one item; `merge` refuses them.
        _ => {}
    }
    contest.conflicts
}

struct Contest<'a> {
    a: &'a VectorClock,
    b: &'a VectorClock,
    conflicts: Vec<Conflict>,
}

impl Contest<'_> {
    fn compare<T: Body>(
        &mut self,
        a: &Causal<T>,
        b: &Causal<T>,
        contend: impl FnOnce(&mut Self, &T, &T),
    ) {
        match (a.view(), b.view()) {
            (Some(ours), Some(theirs)) => contend(self, &ours, &theirs),
            (Some(_), None) => self.survival(a, b),
            (None, Some(_)) => self.survival(b, a),
            (None, None) => {}
        }
    }

    fn resource(&mut self, a: &Resource, b: &Resource) {
        self.values(
            &Subject::Content,
            &a.content,
            &b.content,
            ConflictValue::Content,
        );
        self.fields(&a.metadata, &b.metadata);
    }

    fn entity(&mut self, a: &Entity, b: &Entity) {
        let (ours, theirs) = (&a.entity_type, &b.entity_type);
        self.values(
            &Subject::EntityType,
            ours,
            theirs,
            ConflictValue::EntityType,
        );
        self.fields(&a.properties, &b.properties);
    }

    fn edge(&mut self, a: &Edge, b: &Edge) {
        let (ours, theirs) = (&a.properties, &b.properties);
        self.values(
            &Subject::Properties,
            ours,
            theirs,
            ConflictValue::Properties,
        );
    }

    fn moment(&mut self, a: &Moment, b: &Moment) {
        self.values(
            &Subject::Content,
            &a.content,
            &b.content,
            ConflictValue::Moment,
        );
    }

    fn fields(&mut self, a: &Fields, b: &Fields) {
        let theirs: BTreeMap<_, _> = b.iter().collect();
        for (name, ours) in a.iter() {
            if let Some(theirs) = theirs.get(name) {
                let subject = Subject::Field(name.clone());
                self.values(&subject, ours, theirs, ConflictValue::Field);
            }
        }
    }

    fn values<V: ValueHash + PartialEq + Clone>(
        &mut self,
        subject: &Subject,
        a: &Lww<V>,
        b: &Lww<V>,
        to_value: fn(V) -> ConflictValue,
    ) {
        let is_known = self.b.covers(&a.stamp.dot) || self.a.covers(&b.stamp.dot);
        if is_known || a.value == b.value {
            return;
        }
        let (losing, winning, losing_version, winning_version) = if a.is_later_than(b) {
            (b, a, self.b, self.a)
        } else {
            (a, b, self.a, self.b)
        };
        self.conflicts.push(Conflict {
            subject: subject.clone(),
            losing_value: to_value(losing.value.clone()),
            losing: losing.stamp,
            losing_version: losing_version.clone(),
            winning: winning.stamp,
            winning_version: winning_version.clone(),
        });
    }

    /// One side has the item, the other a tombstone: a conflict if the deleter had not seen all of
    /// the item, and the other's writer not the delete. What the delete's writer had not seen stays.
    fn survival<T: Body>(&mut self, live: &Causal<T>, deleted: &Causal<T>) {
        let Some(delete) = deleted.last_delete() else {
            return;
        };
        let unseen = live
            .siblings()
            .keys()
            .rfind(|dot| !deleted.version().covers(dot));
        if T::DELETE_IS_FINAL || live.version().covers(&delete.dot) {
            return;
        }
        let Some(&dot) = unseen else { return };
        self.conflicts.push(Conflict {
            subject: Subject::Existence,
            losing_value: ConflictValue::Deleted,
            losing: delete,
            losing_version: deleted.version().clone(),
            winning: Stamp {
                hlc: live.updated_at(),
                dot,
            },
            winning_version: live.version().clone(),
        });
    }
}
