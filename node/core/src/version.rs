//! Who wrote what: actors, dots and version vectors.
//!
//! A dot names one write (its actor and the actor's sequence number). A version vector names every
//! write up to a sequence number per actor: the causal past of a state. Sequence numbers start at 1
//! and are counted per actor over all items, so an item's vector has an entry only for the actors
//! that wrote that item.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The most entries a version vector is read with; more than any tenant has devices, and it keeps
/// a forged vector from filling memory.
pub const MAX_VERSION_ENTRIES: usize = 4096;

/// One writer's identity. A restored or copied database keeps its device id and takes a new epoch,
/// so two writers never share one counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId {
    /// 128 random bits. For writes in the cloud this is the tenant's incarnation.
    pub device: [u8; 16],
    /// How often the device's database was restored or copied. In the cloud: the latest epoch that began
    /// with an accepted loss, for the indices since were given to other entries before; 0 without any.
    pub epoch: u32,
}

/// One write: the actor, and which of its writes (from 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub actor: ActorId,
    /// Which of the actor's writes; for a tenant's own writes the log index of the entry.
    pub sequence: u64,
}

/// A set of writes, as the highest sequence number seen of each actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VectorClock {
    entries: BTreeMap<ActorId, u64>,
}

/// A text that is not an actor or a version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseVersionError {
    /// An actor is 32 hexadecimal digits, and `-epoch` when the epoch is not 0.
    #[error("actor {text:?} is not 32 lowercase hexadecimal digits with an optional -epoch")]
    Actor {
        /// What was read.
        text: String,
    },
    /// An entry is `actor:sequence`.
    #[error("version entry {text:?} is not actor:sequence with a sequence from 1")]
    Entry {
        /// What was read.
        text: String,
    },
    /// The same actor came twice.
    #[error("actor {actor} is named twice in a version")]
    Repeated {
        /// The actor.
        actor: ActorId,
    },
    /// More actors than [`MAX_VERSION_ENTRIES`].
    #[error("version has more than {MAX_VERSION_ENTRIES} entries")]
    TooLong,
}

impl ActorId {
    /// The actor of a tenant's own writes in the cloud.
    pub fn from_incarnation(incarnation: [u8; 16]) -> Self {
        Self {
            device: incarnation,
            epoch: 0,
        }
    }
}

impl VectorClock {
    /// The version that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest sequence number seen of an actor; 0 for none.
    pub fn get(&self, actor: &ActorId) -> u64 {
        self.entries.get(actor).copied().unwrap_or(0)
    }

    /// Whether the write is among those seen.
    pub fn covers(&self, dot: &Dot) -> bool {
        dot.sequence <= self.get(&dot.actor)
    }

    /// Adds a write, and with it all earlier writes of its actor. Sequence 0 is no write.
    pub fn record(&mut self, dot: Dot) {
        if dot.sequence > self.get(&dot.actor) {
            self.entries.insert(dot.actor, dot.sequence);
        }
    }

    /// Adds everything the other has seen: the maximum of each entry.
    pub fn merge(&mut self, other: &Self) {
        for (&actor, &sequence) in &other.entries {
            self.record(Dot { actor, sequence });
        }
    }

    /// Whether everything seen here was also seen there, and something more.
    pub fn happens_before(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Less)
    }

    /// Whether each has seen something that the other has not.
    pub fn is_concurrent(&self, other: &Self) -> bool {
        self.partial_cmp(other).is_none()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Actors and their highest sequence numbers, in the order of actors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ActorId, u64)> + '_ {
        self.entries
            .iter()
            .map(|(&actor, &sequence)| (actor, sequence))
    }

    fn is_within(&self, other: &Self) -> bool {
        self.entries
            .iter()
            .all(|(actor, &sequence)| sequence <= other.get(actor))
    }
}

impl PartialOrd for VectorClock {
    /// Lamport's happens-before; `None` for concurrent versions.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

impl FromIterator<Dot> for VectorClock {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut version = Self::new();
        for dot in dots {
            version.record(dot);
        }
        version
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.device {
            write!(f, "{byte:02x}")?;
        }
        if self.epoch != 0 {
            write!(f, "-{}", self.epoch)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.sequence)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VectorClock {
    /// The one text form of a version: `actor:sequence` in the order of actors, with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (actor, sequence)) in self.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{actor}:{sequence}")?;
        }
        Ok(())
    }
}

impl FromStr for ActorId {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_actor(text).ok_or_else(|| ParseVersionError::Actor {
            text: text.to_owned(),
        })
    }
}

impl FromStr for VectorClock {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut version = Self::new();
        for entry in text.split(',').filter(|_| !text.is_empty()) {
            if version.entries.len() == MAX_VERSION_ENTRIES {
                return Err(ParseVersionError::TooLong);
            }
            let dot = parse_dot(entry)?;
            if version.entries.insert(dot.actor, dot.sequence).is_some() {
                return Err(ParseVersionError::Repeated { actor: dot.actor });
            }
        }
        Ok(version)
    }
}

fn parse_dot(entry: &str) -> Result<Dot, ParseVersionError> {
    let refused = || ParseVersionError::Entry {
        text: entry.to_owned(),
    };
    let (actor, sequence) = entry.split_once(':').ok_or_else(refused)?;
    let sequence = parse_positive(sequence).ok_or_else(refused)?;
    Ok(Dot {
        actor: actor.parse()?,
        sequence,
    })
}

fn parse_actor(text: &str) -> Option<ActorId> {
    let (digits, epoch) = match text.split_once('-') {
        Some((digits, epoch)) => (digits, u32::try_from(parse_positive(epoch)?).ok()?),
        None => (text, 0),
    };
    let lowercase_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 32 || !digits.bytes().all(lowercase_hex) {
        return None;
    }
    let device = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(ActorId { device, epoch })
}

/// Only the canonical spelling, so that equal versions have equal texts: no sign, no leading zero.
fn parse_positive(text: &str) -> Option<u64> {
    if !text.starts_with(|first: char| first.is_ascii_digit() && first != '0') {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests;
