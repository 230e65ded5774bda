//! A log for unit tests: entries in memory, none of them trimmed.

use std::sync::Arc;

use super::{Entry, Head, Piece, ReadLog, SharedEntry};
use crate::identity::Index;

/// In order, from index 1.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog(Vec<SharedEntry>);

impl MemoryLog {
    /// Entries of epoch 1 with these payloads.
    pub(crate) fn of(payloads: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut log = Self::default();
        for payload in payloads {
            let entry = Entry::after(log.last(), 1, payload);
            log.0.push(Arc::new(entry));
        }
        log
    }

    fn from(&self, index: Index) -> &[SharedEntry] {
        let position = usize::try_from(index).unwrap_or(usize::MAX).wrapping_sub(1);
        self.0.get(position..).unwrap_or_default()
    }
}

impl ReadLog for MemoryLog {
    fn base(&self) -> Head {
        Head::default()
    }

    fn last(&self) -> Head {
        self.0.last().map(|entry| entry.head).unwrap_or_default()
    }

    fn head(&self, index: Index) -> Option<Head> {
        match index {
            0 => Some(self.base()),
            _ => self.from(index).first().map(|entry| entry.head),
        }
    }

    fn read(&self, from: Index, max_bytes: usize) -> Vec<SharedEntry> {
        let mut bytes = 0;
        let fits = |entry: &&SharedEntry| {
            let first = bytes == 0;
            bytes += entry.payload.len();
            first || bytes <= max_bytes
        };
        self.from(from).iter().take_while(fits).cloned().collect()
    }

    fn set_aside(&self, _max_bytes: usize) -> Piece {
        Piece::default()
    }
}
