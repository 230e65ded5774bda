//! Moments: what happened. They are appended and never change; deleting one erases it for good.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use percolate_api::http::PutMomentBody;
use percolate_core::model::{ItemKey, Kind};
use percolate_core::operation::Action;

use super::App;
use super::input::{Conditions, Document, Id};
use super::listing::{self, Listing};
use super::problem::Failure;
use super::reading::{self, Freshness};
use super::writing;

pub(super) async fn put(
    State(app): State<App>,
    Id(id): Id,
    conditions: Conditions,
    Document(body): Document<PutMomentBody>,
) -> Result<Response, Failure> {
    writing::write_one(&app, conditions, body.into_action(id)?).await
}

pub(super) async fn get(
    State(app): State<App>,
    Id(id): Id,
    freshness: Freshness,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reading::get(&app, &headers, freshness, &ItemKey::Moment(id)).await
}

pub(super) async fn delete(
    State(app): State<App>,
    Id(id): Id,
    conditions: Conditions,
) -> Result<Response, Failure> {
    writing::write_one(&app, conditions, Action::Delete(ItemKey::Moment(id))).await
}

pub(super) async fn list(State(app): State<App>, listing: Listing) -> Result<Response, Failure> {
    listing::list(&app, Kind::Moment, listing).await
}
