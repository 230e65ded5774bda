//! Edges: relations between two items, each named by its source, its type and its destination.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use percolate_api::http::PutEdgeBody;
use percolate_core::model::Kind;
use percolate_core::operation::Action;

use super::App;
use super::input::{Conditions, Document, EdgeNames};
use super::listing::{self, Listing};
use super::problem::Failure;
use super::reading::{self, Freshness};
use super::writing;

pub(super) async fn put(
    State(app): State<App>,
    names: EdgeNames,
    conditions: Conditions,
    Document(body): Document<PutEdgeBody>,
) -> Result<Response, Failure> {
    writing::write_one(
        &app,
        conditions,
        body.into_action(names.src, names.edge_type, names.dst)?,
    )
    .await
}

pub(super) async fn get(
    State(app): State<App>,
    names: EdgeNames,
    freshness: Freshness,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    reading::get(&app, &headers, freshness, &names.into_key()).await
}

pub(super) async fn delete(
    State(app): State<App>,
    names: EdgeNames,
    conditions: Conditions,
) -> Result<Response, Failure> {
    writing::write_one(&app, conditions, Action::Delete(names.into_key())).await
}

pub(super) async fn list(State(app): State<App>, listing: Listing) -> Result<Response, Failure> {
    listing::list(&app, Kind::Edge, listing).await
}
