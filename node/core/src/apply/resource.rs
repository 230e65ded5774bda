//! Putting a resource: its content stays, unless the writer names the version it supersedes.

use crate::model::limits::MAX_ITEM_BYTES;
use crate::model::{Content, Fields, Lww, Name, Resource, Stamp};
use crate::operation::{PutResource, RefusalCode};

/// The resource after the put, and whether it differs.
pub(super) fn put(
    now: Option<Resource>,
    put: PutResource,
    may_supersede: bool,
    stamp: Stamp,
) -> Result<(Resource, bool), RefusalCode> {
    let content_bytes = put.content.len();
    let (resource, is_changed) = match now {
        None => (create(put, stamp), true),
        Some(now) => change(now, put, may_supersede, stamp)?,
    };
    if content_bytes + resource.metadata.size() > MAX_ITEM_BYTES {
        return Err(RefusalCode::TooLarge);
    }
    Ok((resource, is_changed))
}

fn create(put: PutResource, stamp: Stamp) -> Resource {
    let content = Content {
        content_type: put.content_type.unwrap_or_else(Name::default_content_type),
        bytes: put.content,
    };
    Resource {
        content: Lww {
            value: content,
            stamp,
        },
        metadata: Fields::new(put.metadata.unwrap_or_default(), stamp),
    }
}

fn change(
    mut now: Resource,
    put: PutResource,
    may_supersede: bool,
    stamp: Stamp,
) -> Result<(Resource, bool), RefusalCode> {
    let content = Content {
        content_type: put
            .content_type
            .unwrap_or_else(|| now.content.value.content_type.clone()),
        bytes: put.content,
    };
    let mut is_changed = now.content.set(content, stamp);
    if is_changed && !may_supersede {
        return Err(RefusalCode::ResourceImmutable);
    }
    if let Some(metadata) = put.metadata {
        is_changed |= now.metadata.replace(metadata, stamp);
    }
    Ok((now, is_changed))
}
