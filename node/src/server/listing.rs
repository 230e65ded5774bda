//! Lists: pages of one kind in the order of ids.
//!
//! ```text
//! ?after=&limit=&label=&since=&consistency=&max_staleness= -> Listing -> Store::list -> {items, next}
//! ```
//! `next` is what to send as `after`. A page may be shorter than its limit, even empty, though more
//! follow: it is bounded in bytes and in items looked at.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use percolate_api::http::{
    DEFAULT_LIST_LIMIT, ItemView, ListPage, MAX_LIST_LIMIT, cursor, parse_cursor, parse_timestamp,
};
use percolate_core::clock::Hlc;
use percolate_core::model::{Kind, Name};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::App;
use super::problem::Failure;
use super::reading::{ConsistencyWord, Freshness};
use crate::store::{ListQuery, Page};
use crate::tenant::Unavailable;

/// Pages read at a time, each of some megabytes several times over; further ones wait.
static READERS: Semaphore = Semaphore::const_new(8);

/// What a list is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    query: PageQuery,
    freshness: Freshness,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
    label: Option<String>,
    since: Option<String>,
    #[serde(default)]
    consistency: ConsistencyWord,
    max_staleness: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Listing {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<PageQuery>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
        let freshness = Freshness::new(
            query.consistency,
            query.max_staleness.as_deref(),
            &parts.headers,
        )?;
        Ok(Self { query, freshness })
    }
}

/// A page of items of `kind`.
pub(super) async fn list(app: &App, kind: Kind, listing: Listing) -> Result<Response, Failure> {
    let query = listing.query.validated(kind)?;
    let reached = listing.freshness.reach(app).await?;
    let store = std::sync::Arc::clone(&app.handle.store);
    let _reader = READERS.acquire().await;
    // A page may be megabytes: reading it must not hold up other requests.
    let read =
        tokio::task::spawn_blocking(move || store.list(&query).map(|page| render(&page))).await;
    // It panicked, or the node stops.
    let response = read.map_err(|_| Unavailable::NoLeader)??;
    Ok(reached.seen(app, response))
}

fn render(page: &Page) -> Response {
    let items = page
        .items
        .iter()
        .filter_map(|(key, item)| ItemView::new(key, item))
        .collect();
    Json(ListPage {
        items,
        next: page.next.as_ref().map(cursor),
    })
    .into_response()
}

impl PageQuery {
    fn validated(self, kind: Kind) -> Result<ListQuery, Failure> {
        let limit = self.limit.unwrap_or(DEFAULT_LIST_LIMIT);
        if !(1..=MAX_LIST_LIMIT).contains(&limit) {
            return Err(Failure::bad_request(format!(
                "limit is 1 to {MAX_LIST_LIMIT}"
            )));
        }
        if self.label.is_some() && kind != Kind::Entity {
            return Err(Failure::bad_request(
                "only entities have labels; leave label out",
            ));
        }
        let label = self.label.map(Name::new).transpose();
        let label = label.map_err(|error| Failure::bad_request(format!("label {error}")))?;
        Ok(ListQuery {
            kind,
            after: self
                .after
                .map(|after| parse_cursor(kind, &after))
                .transpose()?,
            limit,
            label,
            since: self.since.as_deref().map(time).transpose()?,
        })
    }
}

fn time(text: &str) -> Result<Hlc, Failure> {
    // Nothing was written before 1970.
    let microseconds = u64::try_from(parse_timestamp(text)?).unwrap_or_default();
    Ok(Hlc::from_wall_ms(microseconds / 1000))
}
