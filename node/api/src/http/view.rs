//! Items as readers see them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percolate_core::model::{
    Causal, Edge, Entity, Fields, Item, ItemKey, Json, Kind, Moment, Name, Resource,
};
use percolate_core::version::VectorClock;
use serde::{Deserialize, Serialize};

use super::precondition::etag;
use super::time::{format_hlc, format_us};

/// An item in a response. Its `kind` is one of `resource`, `entity`, `edge` and `moment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ItemView {
    /// A document.
    Resource(ResourceView),
    /// A thing.
    Entity(EntityView),
    /// A relation.
    Edge(EdgeView),
    /// An event.
    Moment(MomentView),
}

/// A version as JSON: `{"<actor>": sequence}`.
pub type VersionView = BTreeMap<String, u64>;

/// What every item comes with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// All writes that the item has seen.
    pub version: VersionView,
    /// The version as an entity tag, to be sent in `If-Match`.
    pub etag: String,
    /// The time of the latest change, in RFC 3339.
    pub updated_at: String,
}

/// A document as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceView {
    /// Its id.
    pub id: String,
    /// The document, if it is UTF-8 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The document in Base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Its media type.
    pub content_type: String,
    /// Fields about it.
    pub metadata: BTreeMap<String, Json>,
    /// Version and time.
    #[serde(flatten)]
    pub meta: Meta,
}

/// A thing as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityView {
    /// Its id.
    pub id: String,
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// What is known about it.
    pub properties: BTreeMap<String, Json>,
    /// What it is filed under.
    pub labels: Vec<String>,
    /// Version and time.
    #[serde(flatten)]
    pub meta: Meta,
}

/// A relation as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeView {
    /// Where it starts.
    pub src: String,
    /// What it says.
    #[serde(rename = "type")]
    pub edge_type: String,
    /// Where it ends.
    pub dst: String,
    /// About the relation.
    pub properties: BTreeMap<String, Json>,
    /// Version and time.
    #[serde(flatten)]
    pub meta: Meta,
}

/// An event as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentView {
    /// Its id.
    pub id: String,
    /// When it happened, in RFC 3339.
    pub timestamp: String,
    /// What happened.
    pub content: String,
    /// Fields about it.
    pub metadata: BTreeMap<String, Json>,
    /// Version and time.
    #[serde(flatten)]
    pub meta: Meta,
}

impl ItemView {
    /// What readers see of the item under a key; `None` if it is deleted.
    pub fn new(key: &ItemKey, item: &Item) -> Option<Self> {
        let ids: Vec<String> = key.ids().map(ToString::to_string).collect();
        let meta = Meta::of(item);
        match item {
            Item::Resource(state) => resource(ids, state, meta).map(Self::Resource),
            Item::Entity(state) => entity(ids, state, meta).map(Self::Entity),
            Item::Edge(state) => edge(ids, state, meta).map(Self::Edge),
            Item::Moment(state) => moment(ids, state, meta).map(Self::Moment),
        }
    }

    /// The kind of item it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Resource(_) => Kind::Resource,
            Self::Entity(_) => Kind::Entity,
            Self::Edge(_) => Kind::Edge,
            Self::Moment(_) => Kind::Moment,
        }
    }

    /// Version and time.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Resource(view) => &view.meta,
            Self::Entity(view) => &view.meta,
            Self::Edge(view) => &view.meta,
            Self::Moment(view) => &view.meta,
        }
    }
}

impl Meta {
    pub(super) fn of(item: &Item) -> Self {
        Self {
            version: version_view(item.version()),
            etag: etag(item.version()),
            updated_at: format_hlc(item.updated_at()),
        }
    }
}

pub(super) fn version_view(version: &VectorClock) -> VersionView {
    version
        .iter()
        .map(|(actor, sequence)| (actor.to_string(), sequence))
        .collect()
}

fn resource(ids: Vec<String>, state: &Causal<Resource>, meta: Meta) -> Option<ResourceView> {
    let view = state.view()?;
    let content = &view.content.value;
    let text = content.as_text();
    Some(ResourceView {
        id: ids.into_iter().next()?,
        content: text.map(str::to_owned),
        content_base64: text.is_none().then(|| STANDARD.encode(&content.bytes)),
        content_type: content.content_type.to_string(),
        metadata: live_fields(&view.metadata),
        meta,
    })
}

fn entity(ids: Vec<String>, state: &Causal<Entity>, meta: Meta) -> Option<EntityView> {
    let view = state.view()?;
    Some(EntityView {
        id: ids.into_iter().next()?,
        entity_type: view.entity_type.value.to_string(),
        properties: live_fields(&view.properties),
        labels: view.labels.live().map(Name::to_string).collect(),
        meta,
    })
}

fn edge(ids: Vec<String>, state: &Causal<Edge>, meta: Meta) -> Option<EdgeView> {
    let view = state.view()?;
    let [src, edge_type, dst] = <[String; 3]>::try_from(ids).ok()?;
    let properties = members(&view.properties.value);
    Some(EdgeView {
        src,
        edge_type,
        dst,
        properties,
        meta,
    })
}

fn moment(ids: Vec<String>, state: &Causal<Moment>, meta: Meta) -> Option<MomentView> {
    let view = state.view()?;
    let content = &view.content.value;
    Some(MomentView {
        id: ids.into_iter().next()?,
        timestamp: format_us(content.timestamp_us),
        content: content.text.clone(),
        metadata: members(&content.metadata),
        meta,
    })
}

fn live_fields(fields: &Fields) -> BTreeMap<String, Json> {
    fields
        .live()
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

fn members(members: &BTreeMap<Name, Json>) -> BTreeMap<String, Json> {
    members
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}
