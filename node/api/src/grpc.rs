//! Messages of the gRPC API (`percolate.data.v1`, `service.proto`) and what they stand for.
//!
//! ```text
//! WriteRequest -> operations (validated)   Written -> WriteReply
//! Item -> ItemView, WatchEvent             Problem ◀─▶ the same problem as over HTTP
//! ```
//! What is refused here is refused by the same code as over HTTP, and by name.

mod problem;
mod view;

use percolate_core::model::limits::MAX_OPERATIONS;
use percolate_core::operation::{IdempotencyKey, Operation, Written};

use crate::codec;
use crate::http::{BadRequest, Code, Problem};
use crate::proto::data::v1 as proto;

pub use self::problem::{problem, problem_of};
pub use self::view::{event_of, item_of};

/// What a write asks for: its operations, and its name for a retry.
pub fn operations_of(
    operations: Vec<proto::Operation>,
    key: Option<String>,
) -> Result<(Vec<Operation>, Option<IdempotencyKey>), Box<Problem>> {
    let count = operations.len();
    if count == 0 {
        let detail = "a write has no operations";
        return Err(Box::new(Problem::new(Code::BadRequest, detail)));
    }
    if count > MAX_OPERATIONS {
        let detail = format!(
            "a write takes {MAX_OPERATIONS} operations at most, this one has {count}; send several"
        );
        return Err(Box::new(Problem::too_large(detail, MAX_OPERATIONS as u64)));
    }
    let key = key.map(IdempotencyKey::new).transpose();
    let key = key.map_err(|error| Box::new(Problem::from(&BadRequest::from(error))))?;
    let operations = operations.into_iter().enumerate().map(|(n, operation)| {
        codec::operation_from_proto(n, operation).map_err(|error| {
            let detail = format!("operation {n}: {error}");
            Box::new(Problem {
                operation: u32::try_from(n).ok(),
                ..Problem::new(Code::BadRequest, detail)
            })
        })
    });
    Ok((operations.collect::<Result<_, Box<Problem>>>()?, key))
}

/// The answer to the write `id` that was done.
pub fn done(id: u64, written: &[Written], session: String) -> proto::WriteReply {
    let applied = codec::applied_to_proto(written);
    proto::WriteReply {
        id,
        result: Some(proto::write_reply::Result::Applied(applied)),
        session,
    }
}

/// The answer to the write `id` that was not done.
pub fn not_done(id: u64, why: &Problem) -> proto::WriteReply {
    proto::WriteReply {
        id,
        result: Some(proto::write_reply::Result::Problem(problem(why))),
        session: String::new(),
    }
}

#[cfg(test)]
mod tests;
