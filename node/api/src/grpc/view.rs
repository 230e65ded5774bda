//! Items and events as messages for readers.

use std::collections::BTreeMap;

use percolate_core::model::{Fields, Item, ItemKey, Json, Name};

use crate::codec::{members_to_proto, version_to_proto};
use crate::http::{EventId, etag};
use crate::proto::data::v1 as proto;
use proto::item_view::Item as View;

/// What readers see of the item under a key; `None` if it is deleted.
pub fn item_of(key: &ItemKey, item: &Item) -> Option<proto::ItemView> {
    let mut ids = key.ids().map(ToString::to_string);
    let mut id = || ids.next().unwrap_or_default();
    let view = match item {
        Item::Resource(state) => {
            let resource = state.view()?;
            let content = &resource.content.value;
            View::Resource(proto::ResourceView {
                id: id(),
                content: content.bytes.clone(),
                content_type: content.content_type.to_string(),
                metadata: live_fields(&resource.metadata),
            })
        }
        Item::Entity(state) => {
            let entity = state.view()?;
            View::Entity(proto::EntityView {
                id: id(),
                entity_type: entity.entity_type.value.to_string(),
                properties: live_fields(&entity.properties),
                labels: entity.labels.live().map(Name::to_string).collect(),
            })
        }
        Item::Edge(state) => View::Edge(proto::EdgeView {
            properties: members_to_proto(&state.view()?.properties.value),
            src: id(),
            edge_type: id(),
            dst: id(),
        }),
        Item::Moment(state) => {
            let moment = state.view()?;
            let content = &moment.content.value;
            View::Moment(proto::MomentView {
                id: id(),
                timestamp_us: content.timestamp_us,
                content: content.text.clone(),
                metadata: members_to_proto(&content.metadata),
            })
        }
    };
    Some(proto::ItemView {
        item: Some(view),
        meta: Some(meta(item)),
    })
}

/// The event at `id`: the item under a key, as its latest change left it.
pub fn event_of(id: EventId, key: &ItemKey, item: &Item) -> proto::WatchEvent {
    use proto::watch_event::Event;
    let event = match item_of(key, item) {
        Some(view) => Event::Put(view),
        None => Event::Deleted(proto::Deleted {
            key: key.to_bytes(),
            meta: Some(meta(item)),
        }),
    };
    proto::WatchEvent {
        id: id.to_string(),
        event: Some(event),
    }
}

fn meta(item: &Item) -> proto::Meta {
    proto::Meta {
        version: Some(version_to_proto(item.version())),
        etag: etag(item.version()),
        updated_at: item.updated_at().packed(),
    }
}

fn live_fields(fields: &Fields) -> Vec<proto::Member> {
    let live: BTreeMap<Name, Json> = fields
        .live()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    members_to_proto(&live)
}
