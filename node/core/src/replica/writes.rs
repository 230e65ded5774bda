//! Which of the writes sent to disk are durable. Writes are carried out in the order of their
//! tickets, so one number tells all.

use std::collections::VecDeque;

use super::{Persist, Ticket};
use crate::identity::{Epoch, Incarnation, Index};
use crate::log::SharedEntry;

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    promised_epoch: Epoch,
    /// Last index of the log once this write is done, as far as later writes leave it standing.
    last: Index,
}

/// Writes under way, and what is durable without them.
#[derive(Debug)]
pub(super) struct Writes {
    next_ticket: Ticket,
    pending: VecDeque<Pending>,
    durable_promise: Epoch,
    durable_last: Index,
}

impl Writes {
    pub(super) fn new(promised_epoch: Epoch, last: Index) -> Self {
        Self {
            next_ticket: 1,
            pending: VecDeque::new(),
            durable_promise: promised_epoch,
            durable_last: last,
        }
    }

    /// Last index known to be on disk.
    pub(super) fn durable_last(&self) -> Index {
        self.durable_last
    }

    /// Highest epoch whose promise is known to be on disk.
    pub(super) fn durable_promise(&self) -> Epoch {
        self.durable_promise
    }

    /// Highest epoch whose promise was sent to disk.
    pub(super) fn issued_promise(&self) -> Epoch {
        self.pending
            .back()
            .map_or(self.durable_promise, |pending| pending.promised_epoch)
    }

    /// Number a write that ends the log at `last`.
    pub(super) fn issue(
        &mut self,
        incarnation: Option<Incarnation>,
        promised_epoch: Epoch,
        truncate_after: Option<Index>,
        append: Vec<SharedEntry>,
        last: Index,
    ) -> Persist {
        if let Some(kept) = truncate_after {
            self.durable_last = self.durable_last.min(kept);
            for pending in &mut self.pending {
                pending.last = pending.last.min(kept);
            }
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.pending.push_back(Pending {
            ticket,
            promised_epoch,
            last,
        });
        Persist {
            ticket,
            incarnation,
            promised_epoch,
            truncate_after,
            append,
            forget: Vec::new(),
        }
    }

    /// Whether this write is on disk.
    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        self.pending
            .front()
            .is_none_or(|first| first.ticket > ticket)
    }

    pub(super) fn persisted(&mut self, ticket: Ticket) {
        while self
            .pending
            .front()
            .is_some_and(|pending| pending.ticket <= ticket)
        {
            let Some(done) = self.pending.pop_front() else {
                break;
            };
            self.durable_promise = done.promised_epoch;
            self.durable_last = done.last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncation_takes_durability_back_at_once() {
        let mut writes = Writes::new(1, 10);
        let append = writes.issue(None, 1, None, Vec::new(), 12);
        let cut = writes.issue(None, 2, Some(5), Vec::new(), 7);
        assert_eq!(writes.durable_last(), 5);
        writes.persisted(append.ticket);
        assert_eq!(
            (writes.durable_last(), writes.durable_promise()),
            (5, 1),
            "entries 6 to 12 are being replaced"
        );
        writes.persisted(cut.ticket);
        assert_eq!((writes.durable_last(), writes.durable_promise()), (7, 2));
    }
}
