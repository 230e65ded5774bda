//! The list of actors in an item's bytes, so that each is written once and not with every field.

use std::collections::BTreeMap;

use percolate_core::clock::Hlc;
use percolate_core::model::Stamp;
use percolate_core::version::{ActorId, Dot, VectorClock};

use super::DecodeError;
use crate::proto::data::v1 as proto;

/// Actors as they come up while an item is encoded.
#[derive(Default)]
pub(super) struct ListedActors {
    listed: Vec<ActorId>,
    positions: BTreeMap<ActorId, u32>,
}

/// The actors of an item that is decoded, and the bounds of what they may have written.
pub(super) struct KnownActors {
    listed: Vec<ActorId>,
    version: VectorClock,
    updated_at: Hlc,
}

impl ListedActors {
    pub(super) fn position(&mut self, actor: ActorId) -> u32 {
        *self.positions.entry(actor).or_insert_with(|| {
            self.listed.push(actor);
            // An item has as many actors as writers; four billion do not fit into memory.
            u32::try_from(self.listed.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn version(&mut self, version: &VectorClock) -> Vec<proto::VersionEntry> {
        let entry = |(actor, sequence)| proto::VersionEntry {
            actor: self.position(actor),
            sequence,
        };
        version.iter().map(entry).collect()
    }

    pub(super) fn dot(&mut self, dot: Dot) -> proto::Dot {
        proto::Dot {
            actor: self.position(dot.actor),
            sequence: dot.sequence,
        }
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) -> proto::Stamp {
        proto::Stamp {
            hlc: stamp.hlc.packed(),
            actor: self.position(stamp.dot.actor),
            sequence: stamp.dot.sequence,
        }
    }

    pub(super) fn into_proto(self) -> Vec<Vec<u8>> {
        self.listed.into_iter().map(actor_to_bytes).collect()
    }
}

impl KnownActors {
    pub(super) fn new(
        actors: &[Vec<u8>],
        version: &[proto::VersionEntry],
        updated_at: Hlc,
    ) -> Result<Self, DecodeError> {
        let listed = actors.iter().map(|bytes| actor_from_bytes(bytes));
        let mut known = Self {
            listed: listed.collect::<Result<_, _>>()?,
            version: VectorClock::new(),
            updated_at,
        };
        for entry in version {
            let dot = known.resolve(entry.actor, entry.sequence)?;
            if known.version.get(&dot.actor) != 0 {
                return Err(DecodeError::Repeated { field: "actor" });
            }
            known.version.record(dot);
        }
        Ok(known)
    }

    pub(super) fn dot(&self, dot: Option<proto::Dot>) -> Result<Dot, DecodeError> {
        let dot = dot.ok_or(DecodeError::Missing { field: "dot" })?;
        let dot = self.resolve(dot.actor, dot.sequence)?;
        self.check(dot, self.updated_at)
    }

    pub(super) fn stamp(&self, stamp: Option<proto::Stamp>) -> Result<Stamp, DecodeError> {
        let stamp = stamp.ok_or(DecodeError::Missing { field: "stamp" })?;
        let hlc = Hlc::from_packed(stamp.hlc);
        let dot = self.check(self.resolve(stamp.actor, stamp.sequence)?, hlc)?;
        Ok(Stamp { hlc, dot })
    }

    pub(super) fn into_version(self) -> VectorClock {
        self.version
    }

    fn resolve(&self, position: u32, sequence: u64) -> Result<Dot, DecodeError> {
        if sequence == 0 {
            return Err(DecodeError::ZeroSequence);
        }
        let actors = self.listed.len();
        let actor = usize::try_from(position)
            .ok()
            .and_then(|at| self.listed.get(at));
        let &actor = actor.ok_or(DecodeError::ActorPosition { position, actors })?;
        Ok(Dot { actor, sequence })
    }

    /// A part that is later than its item would win over every later write of others.
    fn check(&self, dot: Dot, hlc: Hlc) -> Result<Dot, DecodeError> {
        if !self.version.covers(&dot) || hlc > self.updated_at {
            return Err(DecodeError::BeyondItem { dot });
        }
        Ok(dot)
    }
}

pub(super) fn version_to_proto(version: &VectorClock) -> proto::Version {
    let entry = |(actor, sequence)| proto::ActorEntry {
        actor: actor_to_bytes(actor),
        sequence,
    };
    proto::Version {
        entries: version.iter().map(entry).collect(),
    }
}

pub(super) fn version_from_proto(version: &proto::Version) -> Result<VectorClock, DecodeError> {
    let mut read = VectorClock::new();
    for entry in &version.entries {
        let (actor, sequence) = (actor_from_bytes(&entry.actor)?, entry.sequence);
        if sequence == 0 {
            return Err(DecodeError::ZeroSequence);
        }
        if read.get(&actor) != 0 {
            return Err(DecodeError::Repeated { field: "actor" });
        }
        read.record(Dot { actor, sequence });
    }
    Ok(read)
}

fn actor_to_bytes(actor: ActorId) -> Vec<u8> {
    let mut bytes = actor.device.to_vec();
    if actor.epoch != 0 {
        bytes.extend_from_slice(&actor.epoch.to_be_bytes());
    }
    bytes
}

fn actor_from_bytes(bytes: &[u8]) -> Result<ActorId, DecodeError> {
    let refused = DecodeError::Actor { bytes: bytes.len() };
    let Some((&device, epoch)) = bytes.split_first_chunk::<16>() else {
        return Err(refused);
    };
    if epoch.is_empty() {
        return Ok(ActorId { device, epoch: 0 });
    }
    match <[u8; 4]>::try_from(epoch).map(u32::from_be_bytes) {
        Ok(epoch) if epoch != 0 => Ok(ActorId { device, epoch }),
        _ => Err(refused),
    }
}
