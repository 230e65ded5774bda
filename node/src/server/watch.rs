//! `GET /watch`: what changes, as server-sent events, from any place in the history on, at any replica.
//!
//! ```text
//! ?from=&kind=, Last-Event-ID, Percolate-Session -> Asked -> Handle::freshen -> Changes -> events
//!                                                        \-> Watches (a place, or 429)
//! ```
//! Events have the position of their change in the history as their id. Positions are the same on
//! every replica and rise within a stream, so a client that sends the last id it has seen goes on
//! exactly there, whichever replica it comes to. Each replica serves watches from its own store: a
//! stream has no end and is never passed on to the leader.
//!
//! There is no filter by label: an entity that loses the label would have to be told as gone.

mod changes;
mod events;
mod places;

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query, State};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::request::Parts;
use percolate_api::http::{Code, EventId, KindWord, ParseEventIdError};
use percolate_core::identity::Incarnation;
use percolate_core::model::Kind;
use serde::Deserialize;

pub(super) use self::changes::{Changes, PageError, Render};
use self::events::ServerSentEvents;
pub(super) use self::places::Place;
pub use self::places::Watches;
use super::App;
use super::headers::LAST_EVENT_ID;
use super::input::single;
use super::problem::Failure;
use super::reading::{self, seen};
use super::reply;
use crate::store::keys::Position;
use crate::tenant::{Consistency, Role, SessionToken, Unavailable};

/// The field's default: before the first entry.
const BEGINNING: EventId = EventId {
    index: 0,
    ordinal: None,
    incarnation: None,
};

/// What a watch is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    after: EventId,
    kind: Option<Kind>,
    session: Option<SessionToken>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchQuery {
    from: Option<String>,
    kind: Option<KindWord>,
}

/// Stream what changes after the place asked for.
pub(super) async fn get(State(app): State<App>, asked: Asked) -> Result<Response, Failure> {
    let place = app.watches.admit()?;
    let (changes, token) = asked.begin::<ServerSentEvents>(&app, place).await?;
    let events = changes.into_stream().map(Ok::<_, Infallible>);
    let heartbeat = KeepAlive::new()
        .interval(app.limits.watch_heartbeat)
        .text("heartbeat");
    let response = Sse::new(events).keep_alive(heartbeat).into_response();
    Ok(reply::with_session(response, seen(&app, token)))
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<WatchQuery>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
        let from = place("from", query.from.as_deref())?;
        let last = place("Last-Event-ID", single(&parts.headers, &LAST_EVENT_ID)?)?;
        Ok(Self {
            // A standard client repeats the URL it began with: where it stands is in the header.
            after: last.or(from).unwrap_or(BEGINNING),
            kind: query.kind.map(Kind::from),
            session: reading::session(&parts.headers)?,
        })
    }
}

fn place(name: &str, text: Option<&str>) -> Result<Option<EventId>, Failure> {
    let place = text.map(str::parse).transpose();
    place.map_err(|error: ParseEventIdError| Failure::bad_request(format!("{name}: {error}")))
}

impl Asked {
    /// A watch after the place `from`, or of everything if there is none.
    pub(super) fn new(
        from: Option<&str>,
        kind: Option<Kind>,
        session: Option<SessionToken>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            after: place("from", from)?.unwrap_or(BEGINNING),
            kind,
            session,
        })
    }

    /// What changes after the place, and what the stream begins with.
    pub(super) async fn begin<R: Render>(
        &self,
        app: &App,
        place: Place,
    ) -> Result<(Changes<R>, SessionToken), Failure> {
        let token = self.reach(app).await?;
        let changes = Changes::new(app, token.incarnation, self.position(), self.kind, place);
        Ok((changes, token))
    }

    /// Wait until this replica has applied what the watch continues after: what follows could not be
    /// told from what the client knows otherwise. Returns what the stream begins with.
    async fn reach(&self, app: &App) -> Result<SessionToken, Failure> {
        let status = app.handle.status();
        if !status.serving && matches!(status.role, Role::Learner | Role::Joining) {
            return Err(Unavailable::NoLeader.into());
        }
        let token = self.freshen(app, self.session).await?;
        self.freshen(app, Some(self.token(token.incarnation))).await
    }

    async fn freshen(
        &self,
        app: &App,
        token: Option<SessionToken>,
    ) -> Result<SessionToken, Failure> {
        let reached = app.handle.freshen(Consistency::Session, token).await;
        reached.map_err(|unavailable| match unavailable {
            Unavailable::TooStale { applied, wanted } => Failure::new(
                Code::NoLeader,
                format!("this replica has applied up to {applied} and the watch continues after {wanted}; ask again, or ask another replica"),
            )
            .tried_again_here(),
            other => other.into(),
        })
    }

    /// The place as a session: an id without a history is of the one that is `current`.
    fn token(&self, current: Incarnation) -> SessionToken {
        SessionToken {
            incarnation: self.after.incarnation.unwrap_or(current),
            epoch: 0,
            index: self.after.index,
        }
    }

    fn position(&self) -> Position {
        let index = self.after.index;
        match self.after.ordinal {
            Some(ordinal) => Position { index, ordinal },
            None => Position::after_entry(index),
        }
    }
}
