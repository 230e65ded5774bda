//! Labels as an observed-remove set: a removal takes away the additions its writer knew of, so a
//! label that somebody adds at the same time stays.

use std::collections::BTreeMap;

use super::id::Name;
use crate::version::{ActorId, Dot};

/// One actor's latest addition of a label. The actor's earlier ones need no memory: whoever adds
/// again has seen them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelDot {
    /// Which of the actor's writes added the label.
    pub sequence: u64,
    /// Whether a later write took that addition away.
    pub is_removed: bool,
}

/// Labels with the additions that keep them, by actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    by_name: BTreeMap<Name, BTreeMap<ActorId, LabelDot>>,
}

impl Labels {
    /// The labels that are on, by name.
    pub fn live(&self) -> impl Iterator<Item = &Name> {
        let live = |dots: &BTreeMap<ActorId, LabelDot>| dots.values().any(|dot| !dot.is_removed);
        self.by_name
            .iter()
            .filter(move |(_, dots)| live(dots))
            .map(|(name, _)| name)
    }

    /// Whether the label is on.
    pub fn contains(&self, name: &str) -> bool {
        let dots = self.by_name.get(name);
        dots.is_some_and(|dots| dots.values().any(|dot| !dot.is_removed))
    }

    /// All additions of all labels, removed ones included.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, ActorId, LabelDot)> {
        self.by_name
            .iter()
            .flat_map(|(name, dots)| dots.iter().map(move |(&actor, &dot)| (name, actor, dot)))
    }

    /// How many labels are remembered, removed ones included.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether no label was ever added.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds a label unless it is on. Tells whether it was added.
    pub fn add(&mut self, name: Name, dot: Dot) -> bool {
        if self.contains(name.as_str()) {
            return false;
        }
        let added = LabelDot {
            sequence: dot.sequence,
            is_removed: false,
        };
        self.by_name
            .entry(name)
            .or_default()
            .insert(dot.actor, added);
        true
    }

    /// Takes a label off. Tells whether it was on.
    pub fn remove(&mut self, name: &Name) -> bool {
        if !self.contains(name.as_str()) {
            return false;
        }
        for dot in self
            .by_name
            .get_mut(name)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            dot.is_removed = true;
        }
        true
    }

    /// What both know: of each actor the latest addition, removed if either saw it removed.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        for (name, theirs) in other.by_name {
            let ours = self.by_name.entry(name).or_default();
            for (actor, their_dot) in theirs {
                let joined = match ours.get(&actor) {
                    Some(&our_dot) => our_dot.join(their_dot),
                    None => their_dot,
                };
                ours.insert(actor, joined);
            }
        }
        self
    }

    /// About how many bytes the labels take, for limits.
    pub fn size(&self) -> usize {
        self.by_name.keys().map(|name| name.as_str().len()).sum()
    }
}

impl LabelDot {
    fn join(self, other: Self) -> Self {
        let rank = |dot: Self| (dot.sequence, dot.is_removed);
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl FromIterator<(Name, ActorId, LabelDot)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Name, ActorId, LabelDot)>>(dots: I) -> Self {
        let mut labels = Self::default();
        for (name, actor, dot) in dots {
            labels.by_name.entry(name).or_default().insert(actor, dot);
        }
        labels
    }
}

#[cfg(test)]
mod tests;
