//! Everything that can be answered other than with what was asked for: problem details (RFC 9457)
//! with a stable code, and a sentence that says what to do.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use percolate_api::http::{BadRequest, Code, Problem};
use percolate_core::model::ItemKey;
use percolate_core::operation::Refusal;

use super::body::BodyError;
use super::encoding::DecodeError;
use super::json::JsonError;
use super::relay::Unserved;
use crate::store::StoreError;
use crate::tenant::Unavailable;

/// When to come back: about the time a new leader needs, and what an idle client can bear.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static(Problem::CONTENT_TYPE);

/// A request that was not served, with the answer to give.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Box<Problem>,
    status: StatusCode,
    unserved: Option<Unavailable>,
}

impl Failure {
    /// A failure with the usual status of its code.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, detail)
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send the tenant's token as \"Authorization: Bearer <token>\"; the operator keeps it in the Secret <tenant>-admin";
        Self::new(Code::Unauthorized, detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; the Allow header lists those it takes";
        Self::bad_request(detail).with_status(StatusCode::METHOD_NOT_ALLOWED)
    }

    pub(super) fn not_found(key: &ItemKey) -> Self {
        Self::new(
            Code::NotFound,
            format!("there is no {key}, or it was deleted"),
        )
    }

    /// What is said to the client.
    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Why the tenant could not serve the request, if that is why.
    pub(super) fn unserved(&self) -> Option<&Unavailable> {
        self.unserved.as_ref()
    }

    /// Why an operation was refused; `alone` when the client sent no others with it.
    pub(super) fn refused(refusal: &Refusal, alone: bool) -> Self {
        let mut problem = Problem::from(refusal);
        if alone {
            problem.operation = None;
        } else {
            problem.detail = format!(
                "operation {}: {}; nothing of the batch was done",
                refusal.operation, problem.detail
            );
        }
        problem.into()
    }

    /// Worth another try at this replica, but not at the leader.
    pub(super) fn tried_again_here(mut self) -> Self {
        self.unserved = Some(Unavailable::NoLeader);
        self
    }

    /// Where HTTP has a finer status than the code.
    fn with_status(mut self, status: StatusCode) -> Self {
        self.problem.status = status.as_u16();
        self.status = status;
        self
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            problem: Box::new(problem),
            status,
            unserved: None,
        }
    }
}

impl From<BadRequest> for Failure {
    fn from(error: BadRequest) -> Self {
        Problem::from(&error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let retryable = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let mut response = (self.status, axum::Json(self.problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if retryable {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(unavailable) = self.unserved {
            response.extensions_mut().insert(Unserved(unavailable));
        }
        response
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        let (code, detail) = match &unavailable {
            Unavailable::NotLeader { .. } | Unavailable::NoLeader => {
                (Code::NoLeader, "the tenant has no leader that can be reached right now; send the request again".to_owned())
            }
            Unavailable::UnknownOutcome => (
                Code::NoLeader,
                "leadership was lost while writing, the write may or may not take effect; send it again with the same Idempotency-Key".to_owned(),
            ),
            Unavailable::NotEnoughReplicas { in_sync, min_in_sync } => (
                Code::NotEnoughReplicas,
                format!("{in_sync} replicas are in sync and the tenant needs {min_in_sync} to write; nothing was written, send it again later"),
            ),
            Unavailable::Overloaded => (Code::Overloaded, "too many requests are waiting; send it again later".to_owned()),
            Unavailable::TooStale { applied, wanted } => (
                Code::NoLeader,
                format!("this replica has applied up to {applied}, the session asks for {wanted}, and no leader can be reached; send the request again"),
            ),
            Unavailable::TooOld { bound } => (
                Code::NoLeader,
                format!("what this replica shows is not proven to be younger than {bound:?}, and no leader can be reached; send the request again, or with a larger max_staleness"),
            ),
            Unavailable::OtherIncarnation => (
                Code::ResyncRequired,
                "what this request goes on from (its Percolate-Session, or what a watch continues after) is of another history of this tenant, which was restored, made anew, or lost what a person then gave up; drop it and read again".to_owned(),
            ),
        };
        Self {
            unserved: Some(unavailable),
            ..Self::new(code, detail)
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => too_large(limit),
            BodyError::TooSlow { .. } => {
                Self::bad_request(error.to_string()).with_status(StatusCode::REQUEST_TIMEOUT)
            }
            BodyError::MemoryFull => Self::new(
                Code::Overloaded,
                "too many large bodies are being received; send it again later",
            ),
            BodyError::Broken { .. } => Self::bad_request(error.to_string()),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { limit } => too_large(limit),
            DecodeError::MemoryFull => BodyError::MemoryFull.into(),
            DecodeError::Malformed { .. } => Self::bad_request(error.to_string()),
            DecodeError::UnknownEncoding { .. } => {
                let detail = format!("{error}; send the body as it is or as zstd");
                Self::bad_request(detail).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
        }
    }
}

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Self {
        Self::bad_request(format!("the body is not what this path takes: {error}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %Causes(&error), "the store could not be read");
        Self::new(
            Code::Internal,
            "this replica cannot read its disk; ask another one",
        )
    }
}

/// An error followed by its causes.
pub(super) struct Causes<'a>(pub(super) &'a dyn std::error::Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(inner) = cause {
            write!(formatter, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

fn too_large(limit: usize) -> Failure {
    let detail = format!(
        "the body is larger than {limit} bytes, the limit of this node; send less at a time"
    );
    Problem::too_large(detail, limit as u64).into()
}
