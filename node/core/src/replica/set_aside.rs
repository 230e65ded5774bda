//! What was cut from this replica's log is not lost: it is kept on the disk and offered to whoever
//! leads, a piece at a time, until that has it.
//!
//! ```text
//! cut ─▶ set aside in the same write ─▶ the log is the leader's again ─▶ Offer ─▶ Rescued ─▶ forgotten
//!                                                  ▲──────── repeated, to whoever leads ────┘
//! ```
//! Following never waits for it: the log is cut at once. The order of offers is that of the places,
//! and nothing is offered before the log agrees with the leader's up to the leader's own epoch. So of
//! one epoch's entries each holder offers an unbroken run, which begins where the log of the leader
//! left that epoch's, and whoever applies them needs to remember only how far they have come.

use super::message::Offer;
use super::{Effect, Message, Millis, Replica, Role, Ticket};
use crate::identity::Epoch;
use crate::log::{Place, ReadLog};

/// Payload bytes of one offer, unless a single entry has more: what a frame of the log has.
const PIECE_BYTES: usize = 1 << 20;

/// Entries that were cut from this replica's log, and whether to offer them now.
#[derive(Debug)]
pub(super) struct SetAside {
    /// The latest write that changes what is kept: before it is on disk the log shows an older state.
    after: Ticket,
    /// The epoch at which a piece was offered last.
    offered_at: Epoch,
    /// When to offer it again, for it or its answer may be lost.
    again_at: Millis,
}

impl SetAside {
    /// Something is kept aside since the write `after`.
    pub(super) fn new(after: Ticket, now: Millis) -> Self {
        Self {
            after,
            offered_at: 0,
            again_at: now,
        }
    }
}

impl Replica {
    /// Offer the first piece of what is kept aside to whoever leads, when it is time to.
    pub(super) fn offer_set_aside(&mut self, log: &impl ReadLog) {
        let Some(set_aside) = &self.set_aside else {
            return;
        };
        let Some(epoch) = self.epoch_to_offer_at(log) else {
            return;
        };
        let due = self.now >= set_aside.again_at || epoch != set_aside.offered_at;
        if !due || !self.writes.is_durable(set_aside.after) {
            return;
        }
        let piece = log.set_aside(PIECE_BYTES);
        if piece.entries.is_empty() {
            self.set_aside = None; // only openings of epochs were cut, or all of it is forgotten
            return;
        }
        if let Some(set_aside) = &mut self.set_aside {
            set_aside.offered_at = epoch;
            set_aside.again_at = self.now + self.config.timing.takeover_after;
        }
        let offer = Offer {
            epoch,
            entries: piece.entries,
            is_last: piece.is_last,
        };
        match &self.role {
            Role::Follower(follower) => {
                if let Some(leader) = follower.leader {
                    self.send(leader, Message::Offer(offer));
                }
            }
            Role::Leader(_) => self.receive_offer(self.config.replica, offer, log),
            Role::Stranded(_) => {}
        }
    }

    /// The epoch of the leader to whom something could be offered now: a follower's log agrees with
    /// its log up to an entry of that leader's own, so that all that was to be cut is cut.
    fn epoch_to_offer_at(&self, log: &impl ReadLog) -> Option<Epoch> {
        match &self.role {
            Role::Follower(follower) => {
                let matched = log.head(follower.matched_index()?)?;
                (matched.epoch == follower.epoch).then_some(follower.epoch)
            }
            Role::Leader(leader) => (self.commit >= leader.start).then_some(leader.epoch),
            Role::Stranded(_) => None,
        }
    }

    /// These are committed in the leader's log, whatever became of them: keep them no longer.
    pub(super) fn forget(&mut self, places: Vec<Place>, log: &impl ReadLog) {
        let last = match &self.role {
            Role::Leader(leader) => leader.last.index,
            Role::Follower(_) | Role::Stranded(_) => log.last().index,
        };
        let Some(set_aside) = &mut self.set_aside else {
            return;
        };
        let mut write = self
            .writes
            .issue(None, self.promised, None, Vec::new(), last);
        write.forget = places;
        set_aside.after = write.ticket;
        set_aside.again_at = self.now;
        self.effects.push(Effect::Persist(write));
    }
}
