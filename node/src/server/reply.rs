//! What every answer has in common: the session token, the role, zstd.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use percolate_api::http::{EffectWord, RoleWord, WriteReply};
use percolate_core::operation::Written;

use super::encoding;
use super::headers::{ROLE, SESSION, STALENESS};
use crate::tenant::{Role, SessionToken, Status};

/// Say where the client stands now.
pub(super) fn with_session(mut response: Response, token: SessionToken) -> Response {
    if let Ok(value) = HeaderValue::from_str(&token.to_string()) {
        response.headers_mut().insert(SESSION, value);
    }
    response
}

/// Say how old at most is what was read: seconds, to the next millisecond.
pub(super) fn with_staleness(mut response: Response, age: Duration) -> Response {
    let millis = whole_millis(age);
    let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    if let Ok(value) = HeaderValue::from_str(&seconds) {
        response.headers_mut().insert(STALENESS, value);
    }
    response
}

/// Rounded up: an age is a promise.
pub(super) fn whole_millis(age: Duration) -> u64 {
    u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Name the version that the item has now.
pub(super) fn with_etag(mut response: Response, etag: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

/// The answer to a write of one item.
pub(super) fn written(written: &Written, token: SessionToken) -> Response {
    let body = WriteReply::from(written);
    let status = if body.effect == EffectWord::Created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let etag = body.meta.etag.clone();
    with_session(
        with_etag((status, Json(body)).into_response(), &etag),
        token,
    )
}

/// What a replica is to its tenant. One that has not found out yet is not in sync: a learner.
pub(super) fn role(role: Role) -> RoleWord {
    match role {
        Role::Leader => RoleWord::Leader,
        Role::Follower => RoleWord::Follower,
        Role::Learner | Role::Joining => RoleWord::Learner,
    }
}

fn role_header(role_now: Role) -> HeaderValue {
    HeaderValue::from_static(match role(role_now) {
        RoleWord::Leader => "leader",
        RoleWord::Follower => "follower",
        RoleWord::Learner => "learner",
    })
}

/// Complete an answer to a request with the headers `asked`. What came from the leader has its
/// session and role already and keeps them.
pub(super) async fn finish(mut response: Response, asked: &HeaderMap, status: &Status) -> Response {
    let is_stranger = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers
        .entry(ROLE)
        .or_insert_with(|| role_header(status.role));
    if let Some(history) = status.history()
        && !is_stranger
        && !headers.contains_key(SESSION)
    {
        let token = SessionToken {
            incarnation: history,
            epoch: status.epoch,
            index: status.applied,
        };
        response = with_session(response, token);
    }
    compress(response, asked).await
}

fn is_stream(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

async fn compress(response: Response, asked: &HeaderMap) -> Response {
    if response.headers().contains_key(CONTENT_ENCODING) || !encoding::accepts_zstd(asked) {
        return response;
    }
    // A stream of events has no end to wait for.
    if is_stream(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // Other bodies are made of bytes in memory: collecting them neither waits nor fails.
    let plain = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let encoded = if plain.len() < encoding::WORTH_COMPRESSING_BYTES {
        None
    } else {
        encoding::encode(plain.clone()).await
    };
    let body: Bytes = match encoded {
        Some(encoded) => {
            parts.headers.remove(CONTENT_LENGTH);
            parts
                .headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
            parts
                .headers
                .append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
            encoded
        }
        None => plain,
    };
    Response::from_parts(parts, Body::from(body))
}
