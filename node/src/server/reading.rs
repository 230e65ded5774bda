//! Reads of single items: fresh enough for the client, from this replica's store.
//!
//! ```text
//! Freshness (query, session) -> Handle::freshen -> Store::get -> item, ETag, session | 304 | 404
//! ```

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse, Response};
use http::header::IF_NONE_MATCH;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use percolate_api::http::ItemView;
use percolate_core::model::ItemKey;
use serde::Deserialize;

use super::App;
use super::headers::SESSION;
use super::input::single;
use super::problem::Failure;
use super::reply;
use crate::tenant::{Consistency, ParseTokenError, SessionToken};

/// How fresh the client wants its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    consistency: Consistency,
    session: Option<SessionToken>,
}

/// The query of a read of one item.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadQuery {
    #[serde(default)]
    consistency: ConsistencyWord,
}

/// `consistency` as the query spells it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ConsistencyWord {
    #[default]
    Session,
    Linearizable,
    Local,
}

impl<S: Send + Sync> FromRequestParts<S> for Freshness {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<ReadQuery>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
        Self::new(query.consistency, &parts.headers)
    }
}

impl Freshness {
    /// As the query and the session in `headers` demand.
    pub(super) fn new(word: ConsistencyWord, headers: &HeaderMap) -> Result<Self, Failure> {
        let session = session(headers)?;
        let consistency = match word {
            ConsistencyWord::Session => Consistency::Session,
            ConsistencyWord::Linearizable => Consistency::Linearizable,
            ConsistencyWord::Local => Consistency::Local,
        };
        Ok(Self {
            consistency,
            session,
        })
    }

    /// As a message demands, whose session is empty if there is none.
    pub(super) fn of(consistency: Consistency, session: &str) -> Result<Self, Failure> {
        Ok(Self {
            consistency,
            session: parse_session(session)?,
        })
    }

    /// Wait until this replica is so fresh.
    pub(super) async fn reach(self, app: &App) -> Result<SessionToken, Failure> {
        Ok(app.handle.freshen(self.consistency, self.session).await?)
    }
}

/// Where the client says that it stands.
pub(super) fn session(headers: &HeaderMap) -> Result<Option<SessionToken>, Failure> {
    let session = single(headers, &SESSION)?.map(str::parse).transpose();
    session.map_err(|error: ParseTokenError| Failure::bad_request(error.to_string()))
}

/// Where the client says that it stands, in a message; empty if it says nothing.
pub(super) fn parse_session(text: &str) -> Result<Option<SessionToken>, Failure> {
    let session = (!text.is_empty()).then(|| text.parse()).transpose();
    session.map_err(|error: ParseTokenError| Failure::bad_request(error.to_string()))
}

/// The item under `key`, unless the client has this version already.
pub(super) async fn get(
    app: &App,
    headers: &HeaderMap,
    freshness: Freshness,
    key: &ItemKey,
) -> Result<Response, Failure> {
    let token = freshness.reach(app).await?;
    let item = app.handle.store.get(key)?;
    let token = seen(app, token);
    let Some(view) = item.as_ref().and_then(|item| ItemView::new(key, item)) else {
        return Ok(reply::with_session(
            Failure::not_found(key).into_response(),
            token,
        ));
    };
    let etag = view.meta().etag.clone();
    let is_known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
    let response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(view).into_response()
    };
    Ok(reply::with_session(
        reply::with_etag(response, &etag),
        token,
    ))
}

/// The session after a read that began at `token`: the store may have moved on meanwhile, and what
/// was read must not be unread at another replica.
pub(super) fn seen(app: &App, token: SessionToken) -> SessionToken {
    SessionToken {
        index: token.index.max(app.handle.store.applied().index),
        ..token
    }
}
