//! Batches: operations on any items that happen as a whole or not at all.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use percolate_api::http::{BadRequest, BatchBody, BatchReply, Problem, WriteReply};
use percolate_core::model::limits::MAX_OPERATIONS;
use percolate_core::operation::InvalidTransaction;

use super::App;
use super::input::{Conditions, Document};
use super::problem::Failure;
use super::{reply, writing};

pub(super) async fn post(
    State(app): State<App>,
    conditions: Conditions,
    Document(body): Document<BatchBody>,
) -> Result<Response, Failure> {
    if conditions.precondition.is_some() {
        return Err(Failure::bad_request(
            "a batch has no version: give if_match to its operations",
        ));
    }
    check_length(body.ops.len())?;
    let operations = body.into_operations()?;
    let done = writing::commit(&app, operations, conditions.idempotency_key, false).await?;
    let results = done.results.iter().map(WriteReply::from).collect();
    Ok(reply::with_session(
        Json(BatchReply { results }).into_response(),
        done.token,
    ))
}

/// Before anything is parsed further: a long batch costs nothing then.
fn check_length(operations: usize) -> Result<(), Failure> {
    match operations {
        0 => Err(BadRequest::from(InvalidTransaction::Empty).into()),
        1..=MAX_OPERATIONS => Ok(()),
        _ => {
            let detail = format!(
                "a batch takes {MAX_OPERATIONS} operations at most, this one has {operations}; send several"
            );
            Err(Problem::too_large(detail, MAX_OPERATIONS as u64).into())
        }
    }
}
