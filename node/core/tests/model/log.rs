//! Logs of a few entries, sent and taken whole.

/// An entry: who proposed it when, and which write it is. Zero is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Entry(pub(super) u8);

/// A log of very few entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Log([Entry; Log::CAPACITY]);

impl Log {
    pub(crate) const CAPACITY: usize = 3;

    pub(crate) fn len(self) -> usize {
        self.0
            .iter()
            .take_while(|entry| **entry != Entry::default())
            .count()
    }

    pub(crate) fn get(self, index: usize) -> Option<Entry> {
        (index < self.len()).then(|| self.0[index])
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.0[self.len()] = entry;
    }

    pub(super) fn common(self, other: Self) -> usize {
        (0..self.len().min(other.len()))
            .take_while(|index| self.0[*index] == other.0[*index])
            .count()
    }

    /// Becomes what `frame` says, keeping what goes beyond it if nothing contradicts.
    pub(super) fn take(&mut self, frame: Self) {
        if self.common(frame) < self.len().min(frame.len()) || frame.len() > self.len() {
            *self = frame;
        }
    }
}
