//! The items that a transaction touches, as it goes along: what is stored, and what its operations
//! have made of it so far.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{ReadItems, late};
use crate::merge::merge;
use crate::model::{Body, Causal, Item, ItemKey, KindMismatch, Stamp};
use crate::operation::{Effect, RefusalCode, Written};
use crate::version::VectorClock;

/// All items that the transaction touched.
pub(super) struct Draft<'a, R> {
    items: &'a R,
    stamp: Stamp,
    /// The transaction's time is older than its place: what has come between stands.
    is_late: bool,
    touched: BTreeMap<ItemKey, Touched>,
}

/// One of them.
pub(super) struct Touched {
    stamp: Stamp,
    is_late: bool,
    stored: Option<Item>,
    /// The state after the latest operation that changed the item.
    next: Option<Item>,
}

impl<'a, R: ReadItems> Draft<'a, R> {
    pub(super) fn new(items: &'a R, stamp: Stamp, is_late: bool) -> Self {
        Self {
            items,
            stamp,
            is_late,
            touched: BTreeMap::new(),
        }
    }

    /// The item under a key, read once.
    pub(super) fn open(&mut self, key: &ItemKey) -> Result<&mut Touched, R::Error> {
        match self.touched.entry(key.clone()) {
            Entry::Occupied(touched) => Ok(touched.into_mut()),
            Entry::Vacant(untouched) => {
                let stored = self.items.read(key)?;
                if let Some(found) = stored.as_ref().filter(|item| item.kind() != key.kind()) {
                    let (expected, found) = (key.kind(), found.kind());
                    return Err(KindMismatch { expected, found }.into());
                }
                Ok(untouched.insert(Touched {
                    stamp: self.stamp,
                    is_late: self.is_late,
                    stored,
                    next: None,
                }))
            }
        }
    }

    /// The version of an item that is newer than what this late transaction would make of it.
    pub(super) fn overtaken_by(&self) -> Option<VectorClock> {
        self.touched.values().find_map(Touched::overtaken_by)
    }

    /// The changed items, each merged into what is stored: the same path that a device's copy takes.
    pub(super) fn into_writes(self) -> Result<Vec<(ItemKey, Item)>, R::Error> {
        let mut writes = Vec::new();
        for (key, touched) in self.touched {
            let Some(next) = touched.next else { continue };
            let item = match touched.stored {
                Some(stored) => merge(stored, next)?.item,
                None => next,
            };
            writes.push((key, item));
        }
        Ok(writes)
    }
}

impl Touched {
    /// The item as the next operation meets it, live or deleted.
    pub(super) fn current(&self) -> Option<&Item> {
        self.next.as_ref().or(self.stored.as_ref())
    }

    /// The item as the next operation meets it, unless it is deleted.
    pub(super) fn live(&self) -> Option<&Item> {
        self.current().filter(|item| !item.is_deleted())
    }

    /// Lets `decide` make the item's new content from the present one and tell whether it differs.
    pub(super) fn write<T: Body>(
        &mut self,
        decide: impl FnOnce(Option<T>, Stamp) -> Result<(T, bool), RefusalCode>,
    ) -> Result<Result<Written, RefusalCode>, KindMismatch> {
        let stamp = self.stamp();
        let state = self.state::<T>()?;
        let view = state.and_then(Causal::view).map(Cow::into_owned);
        let effect = if view.is_some() {
            Effect::Updated
        } else {
            Effect::Created
        };
        let (body, is_changed) = match decide(view, stamp) {
            Ok(decided) => decided,
            Err(code) => return Ok(Err(code)),
        };
        if let Some(same) = self
            .current()
            .filter(|item| !is_changed && item.siblings() == 1)
        {
            return Ok(Ok(written(Effect::Unchanged, same)));
        }
        let next = T::into_item(Causal::written(state, stamp, body));
        Ok(Ok(written(effect, self.next.insert(next))))
    }

    /// Deletes the item, which must be live; the result describes the tombstone.
    pub(super) fn delete(&mut self) -> Result<Written, RefusalCode> {
        let live = self.live().ok_or(RefusalCode::NotFound)?;
        let next = live.deleted(self.stamp());
        Ok(written(Effect::Deleted, self.next.insert(next)))
    }

    /// The writer has named the item's version: it has seen what it writes over.
    pub(super) fn is_known_to_its_writer(&mut self) {
        self.is_late = false;
    }

    fn overtaken_by(&self) -> Option<VectorClock> {
        let (stored, next) = (self.stored.as_ref()?, self.next.as_ref()?);
        let in_its_way = self.is_late
            && stored.updated_at() > self.stamp.hlc
            && !late::leaves_standing(next, stored);
        in_its_way.then(|| stored.version().clone())
    }

    /// Later than everything the item has seen, whatever the leader's clock said: so that the order
    /// of stamps extends happens-before. Not so if late: then it has not seen everything.
    fn stamp(&self) -> Stamp {
        if self.is_late {
            return self.stamp;
        }
        let seen = self.current().map(|item| item.updated_at().tick());
        Stamp {
            hlc: seen.map_or(self.stamp.hlc, |seen| seen.max(self.stamp.hlc)),
            dot: self.stamp.dot,
        }
    }

    fn state<T: Body>(&self) -> Result<Option<&Causal<T>>, KindMismatch> {
        let Some(item) = self.current() else {
            return Ok(None);
        };
        let mismatch = KindMismatch {
            expected: T::KIND,
            found: item.kind(),
        };
        T::of_item(item).ok_or(mismatch).map(Some)
    }
}

fn written(effect: Effect, item: &Item) -> Written {
    Written {
        effect,
        version: item.version().clone(),
        updated_at: item.updated_at(),
    }
}
