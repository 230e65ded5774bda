//! What leaders left unacknowledged: made proposals of again, and judged at the end. Nothing that was
//! synced on a disk that still exists may be missing from the log, in its place or rescued.
//!
//! ```text
//! Effect::Rescue ─▶ payload with its first place ─▶ Input::Rescue ─▶ … applied ─▶ Input::Decided
//! ```

use std::collections::BTreeSet;

use percolate_core::log::{Place, SharedEntry};
use percolate_core::register::Register;
use percolate_core::replica::Input;

use super::{DURATION, Event, World};

/// First byte of a rescued payload; keys are smaller, and the numbers of load begin with zero.
const RESCUED: u8 = 0xff;

/// After the end nothing else is waited for: who came back late with much that was cut needs longer.
const RESCUED_WITHIN: u64 = 30_000;

/// One rule of rescuing broken, to see that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Breakage {
    #[default]
    Nothing,
    /// What is cut from a log is not kept aside.
    CutsLost,
    /// A leader takes an entry for rescued as soon as it has written it down.
    ToldBeforeCommitted,
    /// The state does not remember what was rescued.
    PlacesForgotten,
}

impl Breakage {
    pub(crate) const ALL: [Self; 3] = [
        Self::CutsLost,
        Self::ToldBeforeCommitted,
        Self::PlacesForgotten,
    ];

    /// What the violation says to which it leads.
    pub(crate) fn symptom(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::CutsLost | Self::ToldBeforeCommitted => "which is lost",
            Self::PlacesForgotten => "takes effect twice",
        }
    }
}

/// A payload and where it first stood.
pub(super) struct Rescued {
    pub(super) place: Place,
    pub(super) payload: Vec<u8>,
}

impl Rescued {
    /// Of what was cut; where that was rescued before, its first place stays.
    fn of(entry: &SharedEntry) -> Self {
        Self::decode(&entry.payload).unwrap_or_else(|| Self {
            place: entry.head.place(),
            payload: entry.payload.clone(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![RESCUED];
        bytes.extend(self.place.epoch.to_be_bytes());
        bytes.extend(self.place.index.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[RESCUED])?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (index, payload) = rest.split_first_chunk()?;
        Some(Self {
            place: Place {
                epoch: u64::from_be_bytes(*epoch),
                index: u64::from_be_bytes(*index),
            },
            payload: payload.to_vec(),
        })
    }
}

impl World {
    /// A leader wants proposals made of what others had to cut.
    pub(super) fn rescue(&mut self, node: usize, entries: &[SharedEntry]) {
        let proposals = entries.iter().map(|entry| {
            let rescued = Rescued::of(entry);
            (entry.head.place(), rescued.encode())
        });
        let input = Input::Rescue(proposals.collect());
        self.schedule(node, 0, Event::Input(input));
    }

    /// Broken: what was rescued is taken for done when it is only written down.
    pub(super) fn written_down(&mut self, node: usize, append: &[SharedEntry]) {
        if self.breakage == Breakage::ToldBeforeCommitted {
            for entry in append {
                if Rescued::decode(&entry.payload).is_some() {
                    let (index, merged) = (entry.head.index, true);
                    self.schedule(node, 0, Event::Input(Input::Decided { index, merged }));
                }
            }
        }
    }

    /// A rescued entry was applied.
    pub(super) fn decided(&mut self, node: usize, entry: &SharedEntry, merged: bool) {
        self.merged += u64::from(merged);
        let index = entry.head.index;
        self.schedule(node, 0, Event::Input(Input::Decided { index, merged }));
    }

    /// Go on until nobody keeps anything aside.
    pub(super) fn finish_rescue(&mut self) {
        let keeps_aside = |world: &Self| world.nodes.iter().any(|node| node.disk.kept_aside() > 0);
        while self.violation.is_none() && keeps_aside(self) && self.now < DURATION + RESCUED_WITHIN
        {
            self.advance();
        }
    }

    /// Whether a change of the register says nothing but how many were rescued: that may come late.
    pub(super) fn only_counts_rescued(&self, next: &Register) -> bool {
        let mut known = self.register.register.clone();
        let rescued = next.last_failover.as_ref().map(|failover| failover.rescued);
        if let Some(failover) = known
            .as_mut()
            .and_then(|known| known.last_failover.as_mut())
        {
            failover.rescued = rescued.unwrap_or(failover.rescued);
        }
        if let Some(known) = &mut known {
            // Written along with whatever is written.
            known.held = next.held;
        }
        known.as_ref() == Some(next)
    }

    /// Nothing is lost and nothing left over.
    pub(super) fn judge_rescue(&mut self) {
        let Some(log) = self.nodes.first().map(|node| node.disk.synced_entries()) else {
            return;
        };
        let there: BTreeSet<Vec<u8>> = log.iter().map(|entry| Rescued::of(entry).payload).collect();
        for node in &self.nodes {
            let left = node.disk.kept_aside();
            if left > 0 {
                let text = format!("at the end {} keeps {left} entries aside", node.pod);
                return self.violate(text);
            }
            let mut cut = node.disk.cut.iter();
            if let Some(lost) = cut.find(|entry| !there.contains(&Rescued::of(entry).payload)) {
                let text = format!("{} had to cut {:?}, which is lost", node.pod, lost.head);
                return self.violate(text);
            }
        }
    }

    /// Transactions that took effect although their leader was replaced, counted at every replica.
    pub(crate) fn merged(&self) -> u64 {
        self.merged
    }

    /// What the register says of the last failover.
    pub(crate) fn rescued(&self) -> u64 {
        let register = self.register.register.as_ref();
        let failover = register.and_then(|register| register.last_failover.as_ref());
        failover.map_or(0, |failover| failover.rescued)
    }
}
