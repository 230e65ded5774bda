//! Versions as entity tags, and the conditional headers.

use percolate_core::operation::Precondition;
use percolate_core::version::VectorClock;

use super::request::BadRequest;

/// The entity tag of a version, quoted as in the `ETag` header.
pub fn etag(version: &VectorClock) -> String {
    format!("\"{version}\"")
}

/// Reads `If-Match`: `*` or one entity tag, whose quotes may be missing.
pub fn parse_if_match(header: &str) -> Result<Precondition, BadRequest> {
    let text = header.trim();
    if text == "*" {
        return Ok(Precondition::Exists);
    }
    let unquoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    match unquoted.parse::<VectorClock>() {
        Ok(version) if !version.is_empty() => Ok(Precondition::Version(version)),
        _ => Err(BadRequest::IfMatch {
            text: text.to_owned(),
        }),
    }
}

/// Reads `If-None-Match`, of which a write knows only `*`.
pub fn parse_if_none_match(header: &str) -> Result<Precondition, BadRequest> {
    match header.trim() {
        "*" => Ok(Precondition::Absent),
        other => Err(BadRequest::IfNoneMatch {
            text: other.to_owned(),
        }),
    }
}
