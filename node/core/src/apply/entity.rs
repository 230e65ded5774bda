//! Putting and patching an entity: field by field, label by label.

use std::collections::BTreeSet;

use crate::model::limits::{MAX_ITEM_BYTES, MAX_LABELS};
use crate::model::{Entity, Fields, Labels, Lww, Name, Stamp};
use crate::operation::{PatchEntity, PatchLabels, PutEntity, RefusalCode};
use crate::version::Dot;

/// The entity after the put, and whether it differs.
pub(super) fn put(
    now: Option<Entity>,
    put: PutEntity,
    stamp: Stamp,
) -> Result<(Entity, bool), RefusalCode> {
    let is_new = now.is_none();
    let mut entity = now.unwrap_or_else(|| Entity {
        entity_type: Lww {
            value: put.entity_type.clone(),
            stamp,
        },
        properties: Fields::default(),
        labels: Labels::default(),
    });
    let mut is_changed = entity.entity_type.set(put.entity_type, stamp);
    is_changed |= entity.properties.replace(put.properties, stamp);
    if let Some(labels) = put.labels {
        is_changed |= replace_labels(&mut entity.labels, labels, stamp.dot);
    }
    within_limits(entity, is_new || is_changed)
}

/// The entity after the patch, and whether it differs.
pub(super) fn patch(
    now: Option<Entity>,
    patch: PatchEntity,
    stamp: Stamp,
) -> Result<(Entity, bool), RefusalCode> {
    let mut entity = now.ok_or(RefusalCode::NotFound)?;
    let mut is_changed = entity.properties.patch(patch.properties, stamp);
    is_changed |= match patch.labels {
        PatchLabels::Keep => false,
        PatchLabels::Replace(labels) => replace_labels(&mut entity.labels, labels, stamp.dot),
        PatchLabels::Change { add, remove } => {
            change_labels(&mut entity.labels, add, &remove, stamp.dot)
        }
    };
    within_limits(entity, is_changed)
}

fn replace_labels(labels: &mut Labels, wanted: Vec<Name>, dot: Dot) -> bool {
    let kept: BTreeSet<&Name> = wanted.iter().collect();
    let remove: Vec<Name> = labels
        .live()
        .filter(|name| !kept.contains(name))
        .cloned()
        .collect();
    change_labels(labels, wanted, &remove, dot)
}

fn change_labels(labels: &mut Labels, add: Vec<Name>, remove: &[Name], dot: Dot) -> bool {
    let mut is_changed = false;
    for name in remove.iter().filter(|name| !add.contains(name)) {
        is_changed |= labels.remove(name);
    }
    for name in add {
        is_changed |= labels.add(name, dot);
    }
    is_changed
}

fn within_limits(entity: Entity, is_changed: bool) -> Result<(Entity, bool), RefusalCode> {
    if is_changed && (entity.size() > MAX_ITEM_BYTES || entity.labels.len() > MAX_LABELS) {
        return Err(RefusalCode::TooLarge);
    }
    Ok((entity, is_changed))
}
