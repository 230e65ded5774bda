//! A resource: a document whose content does not change, with metadata that may.

use super::causal::{Body, Causal};
use super::fields::Fields;
use super::id::Name;
use super::item::Item;
use super::key::Kind;
use super::lww::{Lww, ValueHash};

/// What a resource holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The document. It is replaced only by a writer that names the version it supersedes; two who
    /// do so at the same time are told apart by the stamp.
    pub content: Lww<Content>,
    /// Fields about the document, merged one by one.
    pub metadata: Fields,
}

/// A document and what kind of document it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Content {
    /// The media type, such as `text/markdown`.
    pub content_type: Name,
    /// The bytes; often, but not always, UTF-8 text.
    pub bytes: Vec<u8>,
}

impl Body for Resource {
    const KIND: Kind = Kind::Resource;

    fn into_item(state: Causal<Self>) -> Item {
        Item::Resource(state)
    }

    fn of_item(item: &Item) -> Option<&Causal<Self>> {
        match item {
            Item::Resource(state) => Some(state),
            _ => None,
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            content: self.content.join(other.content),
            metadata: self.metadata.join(other.metadata),
        }
    }
}

impl Content {
    /// The content as text, if it is UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

impl ValueHash for Content {
    fn value_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        // The type has no control characters, so the zero byte ends it.
        hasher
            .update(self.content_type.as_str().as_bytes())
            .update(&[0]);
        hasher.update(&self.bytes).finalize().into()
    }
}

impl std::fmt::Debug for Content {
    /// Without the bytes: they may be large, and private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.content_type, self.bytes.len())
    }
}
