//! Writes: operations of one transaction, and what became of them.
//!
//! ```text
//! operations + Conditions -> Handle::write -> Outcome -> results, session | refusal
//! ```

use axum::response::Response;
use percolate_core::operation::{Action, IdempotencyKey, Operation, Outcome, Written};

use super::App;
use super::input::Conditions;
use super::problem::Failure;
use super::reply;
use crate::tenant::{SessionToken, Unavailable};

/// A transaction that was done.
pub(super) struct Done {
    /// One result for each operation.
    pub(super) results: Vec<Written>,
    /// Where the client stands now.
    pub(super) token: SessionToken,
}

/// Do one `action` on the conditions of the request.
pub(super) async fn write_one(
    app: &App,
    conditions: Conditions,
    action: Action,
) -> Result<Response, Failure> {
    let operation = Operation {
        action,
        precondition: conditions.precondition,
    };
    let done = commit(app, vec![operation], conditions.idempotency_key, true).await?;
    let written = done.results.into_iter().next();
    // One operation has one result; without it nobody can say what became of the write.
    let written = written.ok_or(Unavailable::UnknownOutcome)?;
    Ok(reply::written(&written, done.token))
}

/// Do all `operations` or none; `alone` when the client sent one rather than a batch.
pub(super) async fn commit(
    app: &App,
    operations: Vec<Operation>,
    key: Option<IdempotencyKey>,
    alone: bool,
) -> Result<Done, Failure> {
    let written = app.handle.write(operations, key).await?;
    match written.outcome {
        Outcome::Applied(results) => Ok(Done {
            results,
            token: written.token,
        }),
        Outcome::Refused(refusal) => Err(Failure::refused(&refusal, alone)),
    }
}
