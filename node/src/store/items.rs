//! Items in the `items` family, each with the position of its latest change.
//!
//! Keys are [`ItemKey::to_bytes`]: `kind`, then the id; an edge's three names with `00` between.

use percolate_core::model::{Item, ItemKey};

use super::error::StoreError;
use super::keys::{Family, Fields, Position};
use super::pending::Pending;
use super::{changes, codec};

const FORMAT: u8 = 1;

/// An item as stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    /// Its line in the `changes` family.
    pub(super) position: Position,
    pub(super) item: Item,
}

pub(super) fn encode(stored: &Stored) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&changes::key(stored.position));
    bytes.extend_from_slice(&codec::encode_item(&stored.item));
    bytes
}

pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Stored, StoreError> {
    let mut fields = Fields(bytes);
    let position = take_position(key, &mut fields)?;
    Ok(Stored {
        position,
        item: codec::decode_item(key, fields.rest())?,
    })
}

/// Where the item in `bytes` last changed.
pub(super) fn decode_position(key: &[u8], bytes: &[u8]) -> Result<Position, StoreError> {
    take_position(key, &mut Fields(bytes))
}

fn take_position(key: &[u8], fields: &mut Fields) -> Result<Position, StoreError> {
    let refused = |reason| StoreError::undecodable(Family::Items, key, reason);
    if fields.u8() != Some(FORMAT) {
        return Err(refused("it has another format"));
    }
    changes::take(fields).ok_or_else(|| refused("it is cut short"))
}

/// The key in `bytes`.
pub(super) fn key(bytes: &[u8]) -> Result<ItemKey, StoreError> {
    ItemKey::from_bytes(bytes)
        .map_err(|error| StoreError::undecodable(Family::Items, bytes, error.to_string()))
}

/// The item as it will be once `pending` is written, and as it is stored.
pub(super) fn find(pending: &Pending, key: &[u8]) -> Result<Option<(Stored, Vec<u8>)>, StoreError> {
    let Some(bytes) = pending.get(Family::Items, key)? else {
        return Ok(None);
    };
    Ok(Some((decode(key, &bytes)?, bytes)))
}

/// Store `item`, changed at `position`, and move its line in the feed there from its `previous`
/// position, if it was there before; that comes with what was stored then.
pub(super) fn write(
    pending: &mut Pending,
    key: &ItemKey,
    item: Item,
    position: Position,
    previous: Option<&(Position, Vec<u8>)>,
) {
    let key = key.to_bytes();
    if let Some((previous, _)) = previous {
        let line = changes::key(*previous);
        pending.delete(Family::Changes, line.to_vec(), &key);
    }
    let line = changes::key(position).to_vec();
    pending.put(Family::Changes, line, None, key.clone());
    let old = previous.map(|(_, bytes)| bytes.as_slice());
    let value = encode(&Stored { position, item });
    pending.put(Family::Items, key, old, value);
}
