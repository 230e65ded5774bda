//! What followers had to cut from their logs is proposed anew by the leader, each entry once, and they
//! are told when it is committed and decided.
//!
//! ```text
//! Offer ─▶ in this log? ─▶ yes: nothing to do
//!              └─ no ─▶ Effect::Rescue ─▶ Input::Rescue ─▶ an entry ─▶ Input::Decided ─▶ Rescued
//! ```
//! This is courtesy, not safety: a new leader knows nothing of what was proposed under earlier ones,
//! and several may propose the same. That it takes effect once is decided when it is applied.

use std::collections::BTreeMap;

use super::message::Offer;
use super::{Effect, Message, Replica, Role};
use crate::identity::{Epoch, Index, ReplicaId};
use crate::log::{Place, ReadLog, SharedEntry};

/// What has become of an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is being made a proposal.
    Asked,
    /// It stands in the log, to be committed and applied.
    Proposed,
    /// It is committed, and took effect or never will.
    Decided,
}

/// A piece that a replica has offered and not been answered to.
#[derive(Debug)]
struct Offered {
    places: Vec<Place>,
    is_last: bool,
}

/// What a leader keeps of the entries offered to it. Bounded by what leaders before it left
/// unacknowledged, and emptied whenever nobody has more to offer.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    fates: BTreeMap<Place, Fate>,
    /// Where the proposed ones stand now.
    proposed: BTreeMap<Index, Place>,
    offers: BTreeMap<ReplicaId, Offered>,
    /// How many took effect.
    merged: u64,
    /// Of these, those of finished offers: what the register shows. It is not changed for each.
    reported: u64,
}

impl Rescue {
    pub(super) fn reported(&self) -> u64 {
        self.reported
    }

    /// Note an offer; returns which of its entries are to be proposed. `in_log` tells of a place
    /// whether that very entry stands in the log, and if so whether it is committed.
    fn take_in(
        &mut self,
        from: ReplicaId,
        offer: Offer,
        in_log: impl Fn(Place) -> Option<bool>,
    ) -> Vec<SharedEntry> {
        let places = offer.entries.iter().map(|entry| entry.head.place());
        let offered = Offered {
            places: places.collect(),
            is_last: offer.is_last,
        };
        self.offers.insert(from, offered);
        let mut fresh = Vec::new();
        for entry in offer.entries {
            let place = entry.head.place();
            if self.fates.contains_key(&place) {
                continue;
            }
            match in_log(place) {
                Some(false) => {} // it may still be cut: decided when it is offered again
                Some(true) => {
                    self.fates.insert(place, Fate::Decided);
                }
                None => {
                    self.fates.insert(place, Fate::Asked);
                    fresh.push(entry);
                }
            }
        }
        fresh
    }

    /// Offers all of whose entries are decided, with who is to be told.
    fn settle(&mut self) -> Vec<(ReplicaId, Vec<Place>)> {
        let fates = &self.fates;
        let decided = |place: &Place| fates.get(place) == Some(&Fate::Decided);
        let settled = self
            .offers
            .extract_if(.., |_, offer| offer.places.iter().all(decided));
        let settled: Vec<(ReplicaId, Offered)> = settled.collect();
        if settled.iter().any(|(_, offer)| offer.is_last) {
            self.reported = self.merged;
            if self.offers.is_empty() {
                self.fates.clear();
            }
        }
        let told = settled.into_iter().map(|(to, offer)| (to, offer.places));
        told.collect()
    }
}

impl Replica {
    /// A replica offers what it had to cut from its log: an earlier leader's entries, never
    /// acknowledged.
    pub(super) fn receive_offer(&mut self, from: ReplicaId, offer: Offer, log: &impl ReadLog) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if offer.epoch != leader.epoch || commit < leader.start || leader.handover.is_some() {
            return;
        }
        let epoch = leader.epoch;
        let fresh = leader.rescue.take_in(from, offer, |place| {
            stands(place, epoch, log).then_some(place.index <= commit)
        });
        if !fresh.is_empty() {
            self.effects.push(Effect::Rescue(fresh));
        }
        self.settle_rescue(log);
    }

    /// Proposals made of entries that were offered. Those that were not made, or cannot be taken
    /// now, are asked for anew when they are offered again.
    pub(super) fn propose_rescued(&mut self, proposals: Vec<(Place, Vec<u8>)>) {
        let may_propose = self.may_propose().is_ok();
        for (place, payload) in proposals {
            let Role::Leader(leader) = &self.role else {
                return;
            };
            let asked = leader.rescue.fates.get(&place) == Some(&Fate::Asked);
            if !may_propose || leader.handover.is_some() || !asked {
                break; // in order or not at all
            }
            let Some(index) = self.append_entry(payload) else {
                break;
            };
            if let Role::Leader(leader) = &mut self.role {
                leader.rescue.fates.insert(place, Fate::Proposed);
                leader.rescue.proposed.insert(index, place);
            }
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.rescue.fates.retain(|_, fate| *fate != Fate::Asked);
        }
    }

    /// A rescued entry was committed and applied.
    pub(super) fn decided(&mut self, index: Index, merged: bool, log: &impl ReadLog) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(place) = leader.rescue.proposed.remove(&index) else {
            return;
        };
        leader.rescue.fates.insert(place, Fate::Decided);
        leader.rescue.merged += u64::from(merged);
        self.settle_rescue(log);
    }

    fn settle_rescue(&mut self, log: &impl ReadLog) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        for (to, places) in leader.rescue.settle() {
            if to == self.config.replica {
                self.forget(places, log);
            } else {
                self.send(to, Message::Rescued { places });
            }
        }
    }
}

/// Whether the entry of this name is in the log of the leader of `epoch`, as far as that reaches
/// back: a leader has all that it has made itself.
fn stands(place: Place, epoch: Epoch, log: &impl ReadLog) -> bool {
    let here = log.head(place.index);
    place.epoch >= epoch || here.is_some_and(|head| head.place() == place)
}
