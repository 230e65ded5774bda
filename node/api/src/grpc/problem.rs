//! Problems as messages.

use percolate_core::version::VectorClock;

use crate::codec::version_to_proto;
use crate::http::{Code, Problem, VersionView};
use crate::proto::data::v1 as proto;

/// A problem as a message.
pub fn problem(problem: &Problem) -> proto::Problem {
    let current = problem.current.as_ref().and_then(version_of);
    proto::Problem {
        code: problem.code.word().to_owned(),
        detail: problem.detail.clone(),
        operation: problem.operation,
        current: current.as_ref().map(version_to_proto),
        limit: problem.limit,
        is_retryable: problem.code.is_retryable(),
    }
}

/// The problem that another node answered with: `body` as HTTP has it, or nothing that can be read,
/// in which case nobody knows what became of the request.
pub fn problem_of(body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        Problem::new(
            Code::NoLeader,
            "the leader's answer cannot be read; send the request again with the same idempotency key",
        )
    })
}

fn version_of(view: &VersionView) -> Option<VectorClock> {
    let entries: Vec<String> = view
        .iter()
        .map(|(actor, sequence)| format!("{actor}:{sequence}"))
        .collect();
    entries.join(",").parse().ok()
}
