//! What a request says, read into validated values before anything is done.
//!
//! ```text
//! path    -> ItemKey          (percent-decoded exactly once, by the router)
//! headers -> Conditions       (If-Match, If-None-Match, Idempotency-Key)
//! body    -> Document<T>      (strict JSON)
//! ```

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use percolate_api::http::{BadRequest, parse_if_match, parse_if_none_match};
use percolate_core::model::{ItemId, ItemKey};
use percolate_core::operation::{IdempotencyKey, Precondition};
use serde::de::DeserializeOwned;

use super::headers::IDEMPOTENCY_KEY;
use super::json;
use super::problem::Failure;

/// The one id in a path.
pub(super) struct Id(pub(super) ItemId);

/// The three names of an edge in a path.
pub(super) struct EdgeNames {
    pub(super) src: ItemId,
    pub(super) edge_type: ItemId,
    pub(super) dst: ItemId,
}

/// A JSON body.
pub(super) struct Document<T>(pub(super) T);

/// What the headers of a write demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) precondition: Option<Precondition>,
    pub(super) idempotency_key: Option<IdempotencyKey>,
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(bad_path)?;
        Ok(Self(item_id(id)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EdgeNames {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<(String, String, String)>::from_request_parts(parts, state).await;
        let Path((src, edge_type, dst)) = path.map_err(bad_path)?;
        Ok(Self {
            src: item_id(src)?,
            edge_type: item_id(edge_type)?,
            dst: item_id(dst)?,
        })
    }
}

impl EdgeNames {
    pub(super) fn into_key(self) -> ItemKey {
        ItemKey::Edge {
            src: self.src,
            edge_type: self.edge_type,
            dst: self.dst,
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| Failure::bad_request(error.body_text()))?;
        Ok(Self(json::read(&body)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Self::read(&parts.headers)
    }
}

impl Conditions {
    fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let precondition = match (
            single(headers, &IF_MATCH)?,
            single(headers, &IF_NONE_MATCH)?,
        ) {
            (None, None) => None,
            (Some(tag), None) => Some(parse_if_match(tag)?),
            (None, Some(tag)) => Some(parse_if_none_match(tag)?),
            (Some(_), Some(_)) => return Err(BadRequest::TwoPreconditions.into()),
        };
        let key = single(headers, &IDEMPOTENCY_KEY)?
            .map(IdempotencyKey::new)
            .transpose();
        Ok(Self {
            precondition,
            idempotency_key: key.map_err(BadRequest::from)?,
        })
    }
}

fn item_id(text: String) -> Result<ItemId, Failure> {
    Ok(ItemId::new(text).map_err(BadRequest::from)?)
}

/// The value of a header that may be given once.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Failure::bad_request(format!(
                "{name} may only hold visible ASCII"
            ))),
        },
        (Some(_), Some(_)) => Err(Failure::bad_request(format!("{name} is given twice"))),
    }
}

fn bad_path(error: impl std::fmt::Display) -> Failure {
    Failure::bad_request(format!("the path cannot be read: {error}"))
}
