//! Body of `POST /batch`: operations that happen as a whole or not at all.

use percolate_core::model::{ItemId, ItemKey, Kind};
use percolate_core::operation::{Action, Operation, Precondition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::precondition::{parse_if_match, parse_if_none_match};
use super::request::{
    BadRequest, PatchEntityBody, PutEdgeBody, PutEntityBody, PutMomentBody, PutResourceBody,
};

/// Body of `POST /batch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    /// What to do, in order.
    pub ops: Vec<BatchOperation>,
}

/// One operation: `{op, kind, id, …}`, an edge with `src`, `type` and `dst` instead of `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchOperation {
    /// What to do.
    pub op: Verb,
    /// To what kind of item.
    pub kind: KindWord,
    /// As the header `If-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// As the header `If-None-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_none_match: Option<String>,
    /// The ids, and the members of the body that the call for one item takes.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What an operation of a batch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// As `PUT`.
    Put,
    /// As `PATCH`.
    Patch,
    /// As `DELETE`.
    Delete,
}

/// A kind of item as it is written in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindWord {
    /// A document.
    Resource,
    /// A thing.
    Entity,
    /// A relation.
    Edge,
    /// An event.
    Moment,
}

impl BatchBody {
    /// What is asked for.
    pub fn into_operations(self) -> Result<Vec<Operation>, BadRequest> {
        let operations = self.ops.into_iter().enumerate().map(|(n, operation)| {
            let refused = |source| BadRequest::Operation {
                operation: n,
                source: Box::new(source),
            };
            operation.into_operation().map_err(refused)
        });
        operations.collect()
    }
}

impl BatchOperation {
    /// The operation that puts `body` (one of the `Put…Body`) at `key`.
    pub fn put(key: &ItemKey, body: &impl Serialize) -> Result<Self, serde_json::Error> {
        Self::with_body(Verb::Put, key, body)
    }

    /// The operation that patches the entity at `key`.
    pub fn patch(key: &ItemKey, body: &PatchEntityBody) -> Result<Self, serde_json::Error> {
        Self::with_body(Verb::Patch, key, body)
    }

    /// The operation that deletes the item at `key`.
    pub fn delete(key: &ItemKey) -> Self {
        Self {
            op: Verb::Delete,
            kind: key.kind().into(),
            if_match: None,
            if_none_match: None,
            rest: ids_of(key),
        }
    }

    /// What is asked for.
    pub fn into_operation(mut self) -> Result<Operation, BadRequest> {
        let precondition = self.precondition()?;
        let action = match (self.op, self.kind) {
            (Verb::Put, KindWord::Resource) => {
                let id = self.id("id")?;
                self.body::<PutResourceBody>()?.into_action(id)?
            }
            // An edge's body has no type of its own: `type` is one of its names, and an entity's is
            // in its body.
            (Verb::Put, KindWord::Entity) => {
                let id = self.id("id")?;
                self.body::<PutEntityBody>()?.into_action(id)?
            }
            (Verb::Put, KindWord::Edge) => {
                let (src, edge_type, dst) = (self.id("src")?, self.id("type")?, self.id("dst")?);
                self.body::<PutEdgeBody>()?
                    .into_action(src, edge_type, dst)?
            }
            (Verb::Put, KindWord::Moment) => {
                let id = self.id("id")?;
                self.body::<PutMomentBody>()?.into_action(id)?
            }
            (Verb::Patch, KindWord::Entity) => {
                let id = self.id("id")?;
                self.body::<PatchEntityBody>()?.into_action(id)?
            }
            (Verb::Patch, kind) => {
                let kind = Kind::from(kind).word();
                return Err(BadRequest::NotPatchable { kind });
            }
            (Verb::Delete, _) => {
                let key = self.key()?;
                self.body::<Nothing>()?;
                Action::Delete(key)
            }
        };
        Ok(Operation {
            action,
            precondition,
        })
    }

    fn with_body(
        op: Verb,
        key: &ItemKey,
        body: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        let mut rest = ids_of(key);
        if let Value::Object(members) = serde_json::to_value(body)? {
            rest.extend(members);
        }
        Ok(Self {
            op,
            rest,
            ..Self::delete(key)
        })
    }

    fn precondition(&self) -> Result<Option<Precondition>, BadRequest> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Ok(None),
            (Some(text), None) => parse_if_match(text).map(Some),
            (None, Some(text)) => parse_if_none_match(text).map(Some),
            (Some(_), Some(_)) => Err(BadRequest::TwoPreconditions),
        }
    }

    fn key(&mut self) -> Result<ItemKey, BadRequest> {
        Ok(match self.kind {
            KindWord::Resource => ItemKey::Resource(self.id("id")?),
            KindWord::Entity => ItemKey::Entity(self.id("id")?),
            KindWord::Moment => ItemKey::Moment(self.id("id")?),
            KindWord::Edge => ItemKey::Edge {
                src: self.id("src")?,
                edge_type: self.id("type")?,
                dst: self.id("dst")?,
            },
        })
    }

    fn id(&mut self, member: &'static str) -> Result<ItemId, BadRequest> {
        use serde::de::Error;
        let missing = || serde_json::Error::missing_field(member);
        let value = self
            .rest
            .remove(member)
            .ok_or_else(missing)
            .map_err(BadRequest::Body)?;
        let id: String = serde_json::from_value(value).map_err(BadRequest::Body)?;
        Ok(ItemId::new(id)?)
    }

    fn body<T: DeserializeOwned>(self) -> Result<T, BadRequest> {
        serde_json::from_value(Value::Object(self.rest)).map_err(BadRequest::Body)
    }
}

/// What a delete takes besides the ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn ids_of(key: &ItemKey) -> Map<String, Value> {
    let names: &[&str] = match key.kind() {
        Kind::Edge => &["src", "type", "dst"],
        Kind::Resource | Kind::Entity | Kind::Moment => &["id"],
    };
    let ids = key.ids().map(|id| Value::from(id.as_str()));
    names.iter().map(|&name| name.to_owned()).zip(ids).collect()
}

impl From<Kind> for KindWord {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Resource => Self::Resource,
            Kind::Entity => Self::Entity,
            Kind::Edge => Self::Edge,
            Kind::Moment => Self::Moment,
        }
    }
}

impl From<KindWord> for Kind {
    fn from(kind: KindWord) -> Self {
        match kind {
            KindWord::Resource => Self::Resource,
            KindWord::Entity => Self::Entity,
            KindWord::Edge => Self::Edge,
            KindWord::Moment => Self::Moment,
        }
    }
}
