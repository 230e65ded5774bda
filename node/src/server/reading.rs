//! Reads of single items: fresh enough for the client, from this replica's store.
//!
//! ```text
//! Freshness (query, session) -> Handle::freshen, prove_younger -> Store::get -> item, ETag, session | 304 | 404
//! ```

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse, Response};
use http::header::IF_NONE_MATCH;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use percolate_api::http::ItemView;
use percolate_core::model::ItemKey;
use percolate_crds::duration;
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
    max_staleness: Option<Duration>,
}

/// How fresh the replica is that is read now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// Where the client stands by reading.
    pub(super) token: SessionToken,
    /// Everything acknowledged before this is visible.
    as_of: Option<Instant>,
}

/// The query of a read of one item.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadQuery {
    #[serde(default)]
    consistency: ConsistencyWord,
    max_staleness: Option<String>,
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
        Self::new(
            query.consistency,
            query.max_staleness.as_deref(),
            &parts.headers,
        )
    }
}

impl Freshness {
    /// As the query and the session in `headers` demand.
    pub(super) fn new(
        word: ConsistencyWord,
        max_staleness: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Self, Failure> {
        let consistency = match word {
            ConsistencyWord::Session => Consistency::Session,
            ConsistencyWord::Linearizable => Consistency::Linearizable,
            ConsistencyWord::Local => Consistency::Local,
        };
        let max_staleness = max_staleness.map(duration::parse).transpose();
        let max_staleness = max_staleness
            .map_err(|error| Failure::bad_request(format!("max_staleness is {error}")))?;
        Self::checked(consistency, session(headers)?, max_staleness)
    }

    /// As a message demands, whose session is empty if there is none.
    pub(super) fn of(
        consistency: Consistency,
        session: &str,
        max_staleness: Option<Duration>,
    ) -> Result<Self, Failure> {
        Self::checked(consistency, parse_session(session)?, max_staleness)
    }

    fn checked(
        consistency: Consistency,
        session: Option<SessionToken>,
        max_staleness: Option<Duration>,
    ) -> Result<Self, Failure> {
        if max_staleness.is_some() && consistency == Consistency::Linearizable {
            return Err(Failure::bad_request(
                "a linearizable read is never stale; leave max_staleness out",
            ));
        }
        Ok(Self {
            consistency,
            session,
            max_staleness,
        })
    }

    /// Wait until this replica is so fresh. What is read afterwards is.
    pub(super) async fn reach(self, app: &App) -> Result<Reached, Failure> {
        let asked = Instant::now();
        let token = app.handle.freshen(self.consistency, self.session).await?;
        let as_of = match (self.consistency, self.max_staleness) {
            (Consistency::Linearizable, _) => Some(asked),
            (_, Some(bound)) => Some(app.handle.prove_younger(bound).await?),
            (_, None) => app.handle.status().as_of,
        };
        Ok(Reached { token, as_of })
    }
}

impl Reached {
    /// How old at most is what is seen, if that is known.
    pub(super) fn staleness(self) -> Option<Duration> {
        self.as_of.map(|as_of| as_of.elapsed())
    }

    /// Complete the answer to a read: where the client stands now, and how old it may be.
    pub(super) fn seen(self, app: &App, response: Response) -> Response {
        let response = reply::with_session(response, seen(app, self.token));
        match self.staleness() {
            Some(staleness) => reply::with_staleness(response, staleness),
            None => response,
        }
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
    let reached = freshness.reach(app).await?;
    let item = app.handle.store.get(key)?;
    let Some(view) = item.as_ref().and_then(|item| ItemView::new(key, item)) else {
        return Ok(reached.seen(app, Failure::not_found(key).into_response()));
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
    Ok(reached.seen(app, reply::with_etag(response, &etag)))
}

/// The session after a read that began at `token`: the store may have moved on meanwhile, and what
/// was read must not be unread at another replica.
pub(super) fn seen(app: &App, token: SessionToken) -> SessionToken {
    SessionToken {
        index: token.index.max(app.handle.store.applied().index),
        ..token
    }
}
