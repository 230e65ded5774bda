//! Problems as the status of a call: the code of gRPC that comes nearest, and in its details, as
//! `google.rpc.ErrorInfo`, the code that is the same over HTTP.

use std::collections::HashMap;
use std::time::Duration;

use percolate_api::http::{Code, Problem};
use tonic::{Code as StatusCode, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::server::problem::Failure;

/// Whose codes they are.
const DOMAIN: &str = "percolationlabs.ai";

/// When to come back, as `Retry-After` says over HTTP.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of a call that failed.
pub(super) fn of(failure: &Failure) -> Status {
    of_problem(failure.problem())
}

pub(super) fn of_problem(problem: &Problem) -> Status {
    let mut facts = HashMap::new();
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    for (name, fact) in [
        ("operation", number(problem.operation.map(u64::from))),
        ("limit", number(problem.limit)),
    ] {
        if let Some(fact) = fact {
            facts.insert(name.to_owned(), fact);
        }
    }
    let mut details = ErrorDetails::with_error_info(problem.code.word(), DOMAIN, facts);
    if problem.code.is_retryable() {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(nearest(problem.code), problem.detail.clone(), details)
}

fn nearest(code: Code) -> StatusCode {
    match code {
        Code::BadRequest | Code::ClockOutOfBounds => StatusCode::InvalidArgument,
        Code::Unauthorized => StatusCode::Unauthenticated,
        Code::Forbidden => StatusCode::PermissionDenied,
        Code::NotFound => StatusCode::NotFound,
        Code::ResourceImmutable | Code::MomentImmutable => StatusCode::AlreadyExists,
        Code::VersionMismatch | Code::ResyncRequired => StatusCode::FailedPrecondition,
        Code::TooLarge => StatusCode::OutOfRange,
        Code::QuotaExceeded | Code::Overloaded => StatusCode::ResourceExhausted,
        Code::NotEnoughReplicas | Code::NoLeader | Code::ArchiveUnavailable => {
            StatusCode::Unavailable
        }
        Code::Internal => StatusCode::Internal,
    }
}
