//! Putting an edge: its properties are one value.

use crate::model::limits::MAX_ITEM_BYTES;
use crate::model::{Edge, Json, Lww, Stamp};
use crate::operation::{PutEdge, RefusalCode};

/// The edge after the put, and whether it differs.
pub(super) fn put(
    now: Option<Edge>,
    put: PutEdge,
    stamp: Stamp,
) -> Result<(Edge, bool), RefusalCode> {
    let sizes = put
        .properties
        .iter()
        .map(|(name, value)| name.as_str().len() + Json::size(value));
    if sizes.sum::<usize>() > MAX_ITEM_BYTES {
        return Err(RefusalCode::TooLarge);
    }
    match now {
        None => {
            let properties = Lww {
                value: put.properties,
                stamp,
            };
            Ok((Edge { properties }, true))
        }
        Some(mut edge) => {
            let is_changed = edge.properties.set(put.properties, stamp);
            Ok((edge, is_changed))
        }
    }
}
