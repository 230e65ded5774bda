//! What leaders before this one left unacknowledged becomes proposals of this one, which say where they
//! come from.
//!
//! ```text
//! Effect::Rescue ─▶ decoded, with its first place and time ─▶ Input::Rescue ─▶ log ─▶ applied ─▶ Input::Decided
//! ```

use std::collections::BTreeSet;

use percolate_api::codec;
use percolate_core::identity::Index;
use percolate_core::log::{Place, SharedEntry};
use percolate_core::operation::{Outcome, RefusalCode};
use percolate_core::replica::{Effect, Input};

use super::{Driver, wall_ms};
use crate::metrics::{Metrics, RescueOutcome};

/// Where rescued entries stand that are not applied yet.
#[derive(Debug, Default)]
pub(super) struct Rescuing(BTreeSet<Index>);

impl Rescuing {
    /// What became of those among `entries`, by index: whether they took effect.
    pub(super) fn applied(
        &mut self,
        entries: &[SharedEntry],
        outcomes: &[Outcome],
        metrics: &Metrics,
    ) -> Vec<(Index, bool)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut decided = Vec::new();
        for (entry, outcome) in entries.iter().zip(outcomes) {
            if self.0.remove(&entry.head.index) {
                metrics.count_rescued(rescue_outcome(outcome));
                decided.push((entry.head.index, matches!(outcome, Outcome::Applied(_))));
            }
        }
        if !decided.is_empty() {
            let merged = decided.iter().filter(|(_, merged)| *merged).count();
            tracing::info!(
                decided = decided.len(),
                merged,
                "transactions that a former leader did not acknowledge are decided"
            );
        }
        decided
    }

    /// This replica leads no longer: whoever does is offered them anew.
    pub(super) fn give_up(&mut self) {
        self.0.clear();
    }
}

impl Driver {
    /// Propose what other replicas had to cut from their logs.
    pub(super) fn rescue(&mut self, entries: &[SharedEntry]) {
        let proposals = self.proposals(entries);
        tracing::info!(
            offered = entries.len(),
            proposed = proposals.len(),
            "transactions that a former leader did not acknowledge are merged"
        );
        let now = self.now();
        let effects = self.replica.step(now, Input::Rescue(proposals), &self.tail);
        let written = effects.iter().flat_map(|effect| match effect {
            Effect::Persist(write) => write.append.as_slice(),
            _ => &[],
        });
        self.rescuing
            .0
            .extend(written.map(|entry| entry.head.index));
        self.carry_out(effects);
    }

    /// As far as they can be read: one that cannot, of a newer version, waits where it is until
    /// somebody leads who can, and those after it with it.
    fn proposals(&mut self, entries: &[SharedEntry]) -> Vec<(Place, Vec<u8>)> {
        let mut proposals = Vec::with_capacity(entries.len());
        for entry in entries {
            let place = entry.head.place();
            let transaction = match codec::decode_transaction(&entry.payload) {
                Ok(transaction) => transaction,
                Err(error) => {
                    tracing::warn!(epoch = place.epoch, index = place.index, %error, "a transaction of a former leader cannot be read, and is left where it is");
                    break;
                }
            };
            self.clock = self.clock.next(wall_ms());
            let rescued = transaction.rescued(place, self.clock);
            proposals.push((place, codec::encode_transaction(&rescued)));
        }
        proposals
    }
}

fn rescue_outcome(outcome: &Outcome) -> RescueOutcome {
    match outcome {
        Outcome::Applied(_) => RescueOutcome::Merged,
        Outcome::Refused(refusal) => match refusal.code {
            RefusalCode::Overtaken => RescueOutcome::Overtaken,
            RefusalCode::Known => RescueOutcome::Known,
            _ => RescueOutcome::Refused,
        },
    }
}
