//! Entities: things whose properties and labels merge one by one.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use percolate_api::http::{PatchEntityBody, PutEntityBody};
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
    Document(body): Document<PutEntityBody>,
) -> Result<Response, Failure> {
    writing::write_one(&app, conditions, body.into_action(id)?).await
}

pub(super) async fn patch(
    State(app): State<App>,
    Id(id): Id,
    conditions: Conditions,
    Document(body): Document<PatchEntityBody>,
) -> Result<Response, Failure> {
    writing::write_one(&app, conditions, body.into_action(id)?).await
}

pub(super) async fn get(
    State(app): State<App>,
    Id(id): Id,
    freshness: Freshness,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reading::get(&app, &headers, freshness, &ItemKey::Entity(id)).await
}

pub(super) async fn delete(
    State(app): State<App>,
    Id(id): Id,
    conditions: Conditions,
) -> Result<Response, Failure> {
    writing::write_one(&app, conditions, Action::Delete(ItemKey::Entity(id))).await
}

pub(super) async fn list(State(app): State<App>, listing: Listing) -> Result<Response, Failure> {
    listing::list(&app, Kind::Entity, listing).await
}
