//! Keys of items, and their bytes in the store.
//!
//! ```text
//! resource  01 id            entity  02 id
//! edge      03 src 00 type 00 dst    moment  04 id
//! ```
//!
//! Ids hold no control characters, so the zero byte ends an id and sorts before every longer one:
//! the bytes of keys sort as (kind, src, type, dst), and all edges of a source share a prefix.

use std::fmt;

use thiserror::Error;

use super::id::{InvalidId, ItemId};

/// Ends an id inside an edge's key.
const END_OF_ID: u8 = 0;

/// The four kinds of items. The numbers are persisted and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A document: immutable content with metadata.
    Resource = 1,
    /// A thing with properties and labels.
    Entity = 2,
    /// A typed relation from one item to another.
    Edge = 3,
    /// Something that happened.
    Moment = 4,
}

/// What names one item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKey {
    /// A resource by its id.
    Resource(ItemId),
    /// An entity by its id.
    Entity(ItemId),
    /// An edge, which is its three names.
    Edge {
        /// Where it starts.
        src: ItemId,
        /// What it says.
        edge_type: ItemId,
        /// Where it ends.
        dst: ItemId,
    },
    /// A moment by its id.
    Moment(ItemId),
}

/// Why bytes are not a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidKey {
    /// There are no bytes.
    #[error("key is empty")]
    Empty,
    /// The first byte is no kind.
    #[error("key has the unknown kind {0}")]
    Kind(u8),
    /// An id is not UTF-8.
    #[error("key has an id that is not UTF-8")]
    Encoding,
    /// An id breaks its rules.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// An edge has three ids.
    #[error("edge key has {0} ids, not 3")]
    EdgeParts(usize),
}

impl Kind {
    /// All kinds, in the order of their keys.
    pub const ALL: [Self; 4] = [Self::Resource, Self::Entity, Self::Edge, Self::Moment];

    /// The first byte of the kind's keys, which is also the prefix of all of them.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// The kind with this byte.
    pub fn from_byte(byte: u8) -> Result<Self, InvalidKey> {
        let known = Self::ALL.into_iter().find(|kind| kind.byte() == byte);
        known.ok_or(InvalidKey::Kind(byte))
    }

    /// The singular word, as in a batch: `resource`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Entity => "entity",
            Self::Edge => "edge",
            Self::Moment => "moment",
        }
    }

    /// The plural word, as in a path: `resources`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Resource => "resources",
            Self::Entity => "entities",
            Self::Edge => "edges",
            Self::Moment => "moments",
        }
    }
}

impl ItemKey {
    /// The key of an item that is named by one id; `None` for edges, which have three.
    pub fn of(kind: Kind, id: ItemId) -> Option<Self> {
        match kind {
            Kind::Resource => Some(Self::Resource(id)),
            Kind::Entity => Some(Self::Entity(id)),
            Kind::Moment => Some(Self::Moment(id)),
            Kind::Edge => None,
        }
    }

    /// The item's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Resource(_) => Kind::Resource,
            Self::Entity(_) => Kind::Entity,
            Self::Edge { .. } => Kind::Edge,
            Self::Moment(_) => Kind::Moment,
        }
    }

    /// The ids in the key: one, or an edge's three.
    pub fn ids(&self) -> impl Iterator<Item = &ItemId> {
        let (first, rest) = match self {
            Self::Resource(id) | Self::Entity(id) | Self::Moment(id) => (id, None),
            Self::Edge {
                src,
                edge_type,
                dst,
            } => (src, Some([edge_type, dst])),
        };
        std::iter::once(first).chain(rest.into_iter().flatten())
    }

    /// The bytes under which the item is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind().byte()];
        for (n, id) in self.ids().enumerate() {
            if n > 0 {
                bytes.push(END_OF_ID);
            }
            bytes.extend_from_slice(id.as_str().as_bytes());
        }
        bytes
    }

    /// Reads the bytes of [`ItemKey::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let (&kind, ids) = bytes.split_first().ok_or(InvalidKey::Empty)?;
        match Kind::from_byte(kind)? {
            Kind::Resource => Ok(Self::Resource(read_id(ids)?)),
            Kind::Entity => Ok(Self::Entity(read_id(ids)?)),
            Kind::Moment => Ok(Self::Moment(read_id(ids)?)),
            Kind::Edge => read_edge(ids),
        }
    }

    /// The prefix of the bytes of every edge that starts at `src`.
    pub fn edges_from(src: &ItemId) -> Vec<u8> {
        let mut prefix = vec![Kind::Edge.byte()];
        prefix.extend_from_slice(src.as_str().as_bytes());
        prefix.push(END_OF_ID);
        prefix
    }
}

fn read_edge(bytes: &[u8]) -> Result<ItemKey, InvalidKey> {
    let parts: Vec<&[u8]> = bytes.split(|&byte| byte == END_OF_ID).collect();
    let &[src, edge_type, dst] = parts.as_slice() else {
        return Err(InvalidKey::EdgeParts(parts.len()));
    };
    Ok(ItemKey::Edge {
        src: read_id(src)?,
        edge_type: read_id(edge_type)?,
        dst: read_id(dst)?,
    })
}

fn read_id(bytes: &[u8]) -> Result<ItemId, InvalidKey> {
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidKey::Encoding)?;
    Ok(ItemId::new(text)?)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for ItemKey {
    /// For messages: `edge ada/knows/grace`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.ids().map(ItemId::as_str).collect();
        write!(f, "{} {}", self.kind(), ids.join("/"))
    }
}

#[cfg(test)]
mod tests;
