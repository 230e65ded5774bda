//! Putting a moment: once, and the same again is no change.

use crate::model::limits::MAX_ITEM_BYTES;
use crate::model::{Json, Lww, Moment, MomentContent, Stamp};
use crate::operation::{PutMoment, RefusalCode};

/// The moment after the put, and whether it is new.
pub(super) fn put(
    now: Option<Moment>,
    put: PutMoment,
    stamp: Stamp,
) -> Result<(Moment, bool), RefusalCode> {
    let sizes = put
        .metadata
        .iter()
        .map(|(name, value)| name.as_str().len() + Json::size(value));
    if put.content.len() + sizes.sum::<usize>() > MAX_ITEM_BYTES {
        return Err(RefusalCode::TooLarge);
    }
    let content = MomentContent {
        timestamp_us: put.timestamp_us,
        text: put.content,
        metadata: put.metadata,
    };
    match now {
        None => Ok((
            Moment {
                content: Lww {
                    value: content,
                    stamp,
                },
            },
            true,
        )),
        Some(moment) if moment.content.value == content => Ok((moment, false)),
        Some(_) => Err(RefusalCode::MomentImmutable),
    }
}
