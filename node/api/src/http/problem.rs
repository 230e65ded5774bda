//! Errors as `application/problem+json` (RFC 9457) with a stable code.

use std::fmt;

use percolate_core::model::limits::{MAX_ITEM_BYTES, MAX_OPERATIONS};
use percolate_core::operation::{InvalidTransaction, Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

use super::request::BadRequest;
use super::view::{VersionView, version_view};

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The code as a URI.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The code in words; the same for every problem with this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs go by.
    pub code: Code,
    /// What happened in this case, and what to do.
    pub detail: String,
    /// Which operation of a batch was refused, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u32>,
    /// The version that a precondition met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<VersionView>,
    /// The limit that was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What went wrong. The words never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request makes no sense as it is.
    BadRequest,
    /// No token, or one that is not known.
    Unauthorized,
    /// The token does not allow this.
    Forbidden,
    /// There is no such item or call.
    NotFound,
    /// A resource's content is replaced only by naming its version.
    ResourceImmutable,
    /// A moment does not change.
    MomentImmutable,
    /// The item is not in the version that the request named.
    VersionMismatch,
    /// A limit on size or number was passed.
    TooLarge,
    /// The tenant has no room left.
    QuotaExceeded,
    /// Too much at once; try again later.
    Overloaded,
    /// Too few replicas are in sync to keep a write safe; try again later.
    NotEnoughReplicas,
    /// No leader is known, or it changed: try again with the same idempotency key.
    NoLeader,
    /// Cold data cannot be reached now.
    ArchiveUnavailable,
    /// The sender's clock is too far off.
    ClockOutOfBounds,
    /// The device was away for too long and has to take a fresh copy first.
    ResyncRequired,
    /// A defect or a broken disk; nothing the client can do.
    Internal,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::ResourceImmutable,
        Self::MomentImmutable,
        Self::VersionMismatch,
        Self::TooLarge,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::NotEnoughReplicas,
        Self::NoLeader,
        Self::ArchiveUnavailable,
        Self::ClockOutOfBounds,
        Self::ResyncRequired,
        Self::Internal,
    ];

    /// The HTTP status that goes with the code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::ResourceImmutable | Self::MomentImmutable => 409,
            Self::ResyncRequired => 410,
            Self::VersionMismatch => 412,
            Self::TooLarge => 413,
            Self::ClockOutOfBounds => 422,
            Self::Overloaded => 429,
            Self::Internal => 500,
            Self::NotEnoughReplicas | Self::NoLeader | Self::ArchiveUnavailable => 503,
            Self::QuotaExceeded => 507,
        }
    }

    /// The code's stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ResourceImmutable => "resource_immutable",
            Self::MomentImmutable => "moment_immutable",
            Self::VersionMismatch => "version_mismatch",
            Self::TooLarge => "too_large",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Overloaded => "overloaded",
            Self::NotEnoughReplicas => "not_enough_replicas",
            Self::NoLeader => "no_leader",
            Self::ArchiveUnavailable => "archive_unavailable",
            Self::ClockOutOfBounds => "clock_out_of_bounds",
            Self::ResyncRequired => "resync_required",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

impl Problem {
    /// Media type of the body.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem with what to do about it.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("urn:percolate:problem:{code}"),
            title: code.word().replace('_', " "),
            status: code.status(),
            code,
            detail: detail.into(),
            operation: None,
            current: None,
            limit: None,
        }
    }

    /// A problem of something that passed a limit.
    pub fn too_large(detail: impl Into<String>, limit: u64) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(Code::TooLarge, detail)
        }
    }
}

impl From<RefusalCode> for Code {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::NotFound => Self::NotFound,
            RefusalCode::ResourceImmutable => Self::ResourceImmutable,
            RefusalCode::MomentImmutable => Self::MomentImmutable,
            // Nobody waits for the answer to a rescued write: the last two reach no client.
            RefusalCode::VersionMismatch | RefusalCode::Overtaken | RefusalCode::Known => {
                Self::VersionMismatch
            }
            RefusalCode::TooLarge => Self::TooLarge,
            RefusalCode::KeyReused => Self::BadRequest,
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let detail = match refusal.code {
            RefusalCode::NotFound => "there is no such item; create it with PUT first",
            RefusalCode::ResourceImmutable => {
                "the resource has other content; use a new id, or send its etag in If-Match to supersede it"
            }
            RefusalCode::MomentImmutable => {
                "the moment is already recorded otherwise or was erased; use a new id"
            }
            RefusalCode::VersionMismatch => {
                "the item is not as the precondition says; read it again and decide"
            }
            RefusalCode::TooLarge => {
                "the item would be larger than an item may be; split it, or remove something from it"
            }
            RefusalCode::KeyReused => {
                "another write was made under this Idempotency-Key; take a new key for a new write"
            }
            RefusalCode::Overtaken | RefusalCode::Known => {
                "the write was taken over from a former leader, and what stands is newer"
            }
        };
        let is_size = refusal.code == RefusalCode::TooLarge;
        let limit = u64::try_from(MAX_ITEM_BYTES).ok();
        Self {
            operation: Some(refusal.operation),
            current: refusal.current.as_ref().map(version_view),
            limit: limit.filter(|_| is_size),
            ..Self::new(refusal.code.into(), detail)
        }
    }
}

impl From<&BadRequest> for Problem {
    fn from(error: &BadRequest) -> Self {
        let code = match error {
            BadRequest::Transaction(InvalidTransaction::TooManyOperations { .. }) => Code::TooLarge,
            _ => Code::BadRequest,
        };
        let limit = u64::try_from(MAX_OPERATIONS).ok();
        let operation = match error {
            BadRequest::Operation { operation, .. } => u32::try_from(*operation).ok(),
            _ => None,
        };
        Self {
            operation,
            limit: limit.filter(|_| code == Code::TooLarge),
            ..Self::new(code, error.to_string())
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
