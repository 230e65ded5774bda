//! Named JSON fields that merge one by one: an entity's properties, a resource's metadata.
//!
//! A removed field stays as a field tombstone (no value, but a stamp), so that a node which still
//! has the old value cannot bring it back.

use std::collections::BTreeMap;

use super::id::Name;
use super::json::Json;
use super::lww::{Lww, Stamp, ValueHash};

/// Fields by name; `None` is a field tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    by_name: BTreeMap<Name, Lww<Option<Json>>>,
}

impl Fields {
    /// All fields set by one write.
    pub fn new(values: BTreeMap<Name, Json>, stamp: Stamp) -> Self {
        let fields = values.into_iter().map(|(name, value)| {
            (
                name,
                Lww {
                    value: Some(value),
                    stamp,
                },
            )
        });
        fields.collect()
    }

    /// The fields that have a value, by name.
    pub fn live(&self) -> impl Iterator<Item = (&Name, &Json)> {
        self.by_name
            .iter()
            .filter_map(|(name, field)| Some((name, field.value.as_ref()?)))
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.by_name.get(name)?.value.as_ref()
    }

    /// All fields with their stamps, field tombstones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, &Lww<Option<Json>>)> {
        self.by_name.iter()
    }

    /// Sets (`Some`) or removes (`None`) the named fields and leaves the others. Tells whether
    /// anything changed.
    pub fn patch(&mut self, changes: BTreeMap<Name, Option<Json>>, stamp: Stamp) -> bool {
        let mut is_changed = false;
        for (name, value) in changes {
            is_changed |= self.set(name, value, stamp);
        }
        is_changed
    }

    /// Sets exactly these fields: the others are removed. Tells whether anything changed.
    pub fn replace(&mut self, values: BTreeMap<Name, Json>, stamp: Stamp) -> bool {
        let removed: Vec<Name> = self
            .live()
            .map(|(name, _)| name)
            .filter(|name| !values.contains_key(*name))
            .cloned()
            .collect();
        let removed = removed.into_iter().map(|name| (name, None));
        let set = values.into_iter().map(|(name, value)| (name, Some(value)));
        self.patch(removed.chain(set).collect(), stamp)
    }

    /// The later value of each field.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        for (name, theirs) in other.by_name {
            let joined = match self.by_name.remove(&name) {
                Some(ours) => ours.join(theirs),
                None => theirs,
            };
            self.by_name.insert(name, joined);
        }
        self
    }

    /// About how many bytes the fields take, for limits.
    pub fn size(&self) -> usize {
        let sizes = self
            .by_name
            .iter()
            .map(|(name, field)| name.as_str().len() + field.value.as_ref().map_or(0, Json::size));
        sizes.sum()
    }

    fn set(&mut self, name: Name, value: Option<Json>, stamp: Stamp) -> bool {
        if let Some(field) = self.by_name.get_mut(&name) {
            return field.set(value, stamp);
        }
        // There is nothing to remove, and so nothing to remember.
        if value.is_none() {
            return false;
        }
        self.by_name.insert(name, Lww { value, stamp });
        true
    }
}

impl FromIterator<(Name, Lww<Option<Json>>)> for Fields {
    fn from_iter<I: IntoIterator<Item = (Name, Lww<Option<Json>>)>>(fields: I) -> Self {
        let by_name = fields.into_iter().collect();
        Self { by_name }
    }
}

impl ValueHash for Option<Json> {
    fn value_hash(&self) -> [u8; 32] {
        let text = self.as_ref().map(Json::to_text).unwrap_or_default();
        blake3::hash(text.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests;
