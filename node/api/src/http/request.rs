//! Bodies of writes to one item.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percolate_core::model::{InvalidId, InvalidName, ItemId, Json, Name};
use percolate_core::operation::{
    Action, InvalidIdempotencyKey, InvalidTransaction, PatchEntity, PatchLabels, PutEdge,
    PutEntity, PutMoment, PutResource,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::time::parse_timestamp;

/// Why a request is not one that could be done.
#[derive(Debug, Error)]
pub enum BadRequest {
    /// The body is not the JSON that the call takes.
    #[error("body is not what this call takes: {0}")]
    Body(serde_json::Error),
    /// An id breaks its rules.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A name breaks its rules.
    #[error("{what} name {source}")]
    Name {
        /// What it is the name of.
        what: &'static str,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// A resource has one content.
    #[error("a resource takes either content or content_base64")]
    Content,
    /// Not Base64.
    #[error("content_base64 is not standard Base64 with padding")]
    Base64,
    /// Not a time.
    #[error("timestamp {text:?} is not an RFC 3339 time with an offset")]
    Timestamp {
        /// What was sent.
        text: String,
    },
    /// Not a version.
    #[error("if-match {text:?} is neither * nor one version as given in an etag")]
    IfMatch {
        /// What was sent.
        text: String,
    },
    /// Only the star is known.
    #[error("if-none-match {text:?} is not *")]
    IfNoneMatch {
        /// What was sent.
        text: String,
    },
    /// The two contradict each other.
    #[error("if-match and if-none-match exclude each other")]
    TwoPreconditions,
    /// Not where a list can go on.
    #[error("after {text:?} is not the next of a list of this kind")]
    Cursor {
        /// What was sent.
        text: String,
    },
    /// Only entities have parts to patch.
    #[error("a {kind} cannot be patched, only an entity can")]
    NotPatchable {
        /// What was to be patched.
        kind: &'static str,
    },
    /// One operation of a batch is wrong.
    #[error("operation {operation}: {source}")]
    Operation {
        /// Which operation, from 0.
        operation: usize,
        /// What is wrong with it.
        source: Box<BadRequest>,
    },
    /// The operations do not make a transaction.
    #[error(transparent)]
    Transaction(#[from] InvalidTransaction),
    /// The header is not an idempotency key.
    #[error(transparent)]
    IdempotencyKey(#[from] InvalidIdempotencyKey),
}

/// Body of `PUT /resources/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutResourceBody {
    /// The document, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The document in Base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Its media type; `text/plain` for a new resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its metadata, all of it; what is there stays if there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Option<Json>>>,
}

/// Body of `PUT /entities/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutEntityBody {
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its properties, all of them. Null is as good as absent.
    #[serde(default)]
    pub properties: BTreeMap<String, Option<Json>>,
    /// Its labels, all of them; those that are there stay if there are none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

/// Body of `PATCH /entities/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchEntityBody {
    /// Properties to set, or with null to remove.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Option<Json>>,
    /// What to do with the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelsPatch>,
}

/// A change to labels: all of them as an array, or `{add, remove}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelsPatch {
    /// These and no others.
    Replace(Vec<String>),
    /// Some more, some fewer.
    Change(LabelsChange),
}

/// Labels to add and to take off; others stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsChange {
    /// Labels to add.
    #[serde(default)]
    pub add: Vec<String>,
    /// Labels to take off.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Body of `PUT /edges/{src}/{type}/{dst}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutEdgeBody {
    /// About the relation; replaced as a whole.
    #[serde(default)]
    pub properties: BTreeMap<String, Option<Json>>,
}

/// Body of `PUT /moments/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutMomentBody {
    /// When it happened, in RFC 3339.
    pub timestamp: String,
    /// What happened.
    pub content: String,
    /// Fields about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, Option<Json>>,
}

impl PutResourceBody {
    /// What is asked for.
    pub fn into_action(self, id: ItemId) -> Result<Action, BadRequest> {
        let content = match (self.content, self.content_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| BadRequest::Base64)?,
            _ => return Err(BadRequest::Content),
        };
        let content_type = self.content_type.map(|text| name("content type", text));
        Ok(Action::PutResource(PutResource {
            id,
            content,
            content_type: content_type.transpose()?,
            metadata: self
                .metadata
                .map(|metadata| members("metadata", metadata))
                .transpose()?,
        }))
    }
}

impl PutEntityBody {
    /// What is asked for.
    pub fn into_action(self, id: ItemId) -> Result<Action, BadRequest> {
        Ok(Action::PutEntity(PutEntity {
            id,
            entity_type: name("type", self.entity_type)?,
            properties: members("property", self.properties)?,
            labels: self.labels.map(labels).transpose()?,
        }))
    }
}

impl PatchEntityBody {
    /// What is asked for.
    pub fn into_action(self, id: ItemId) -> Result<Action, BadRequest> {
        let properties = self.properties.into_iter();
        let properties = properties.map(|(key, value)| Ok((name("property", key)?, value)));
        Ok(Action::PatchEntity(PatchEntity {
            id,
            properties: properties.collect::<Result<_, BadRequest>>()?,
            labels: match self.labels {
                None => PatchLabels::Keep,
                Some(LabelsPatch::Replace(names)) => PatchLabels::Replace(labels(names)?),
                Some(LabelsPatch::Change(change)) => PatchLabels::Change {
                    add: labels(change.add)?,
                    remove: labels(change.remove)?,
                },
            },
        }))
    }
}

impl PutEdgeBody {
    /// What is asked for.
    pub fn into_action(
        self,
        src: ItemId,
        edge_type: ItemId,
        dst: ItemId,
    ) -> Result<Action, BadRequest> {
        let properties = members("property", self.properties)?;
        Ok(Action::PutEdge(PutEdge {
            src,
            edge_type,
            dst,
            properties,
        }))
    }
}

impl PutMomentBody {
    /// What is asked for.
    pub fn into_action(self, id: ItemId) -> Result<Action, BadRequest> {
        Ok(Action::PutMoment(PutMoment {
            id,
            timestamp_us: parse_timestamp(&self.timestamp)?,
            content: self.content,
            metadata: members("metadata", self.metadata)?,
        }))
    }
}

fn name(what: &'static str, text: String) -> Result<Name, BadRequest> {
    Name::new(text).map_err(|source| BadRequest::Name { what, source })
}

fn labels(texts: Vec<String>) -> Result<Vec<Name>, BadRequest> {
    texts.into_iter().map(|text| name("label", text)).collect()
}

/// Null means absent everywhere, as it does in a patch: what was read can be sent back.
fn members(
    what: &'static str,
    members: BTreeMap<String, Option<Json>>,
) -> Result<BTreeMap<Name, Json>, BadRequest> {
    let present = members
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    present
        .map(|(key, value)| Ok((name(what, key)?, value)))
        .collect()
}
