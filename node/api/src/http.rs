//! JSON bodies of the HTTP API under `/api/v1`, and how they become operations and come from items.
//!
//! ```text
//! request body ─▶ request, batch ─▶ Operation      (everything is checked here)
//! Item         ─▶ view, watch    ─▶ response body, events
//! Refusal, BadRequest ─▶ problem ─▶ application/problem+json
//! ```
//!
//! The same types serve the server and the clients. Headers, routing and limits are the server's.

mod batch;
mod path;
mod precondition;
mod problem;
mod reply;
mod request;
mod time;
mod view;
mod watch;

pub use batch::{BatchBody, BatchOperation, KindWord, Verb};
pub use path::{API_BASE, cursor, decode_segment, encode_segment, item_path, parse_cursor};
pub use precondition::{etag, parse_if_match, parse_if_none_match};
pub use problem::{Code, Problem};
pub use reply::{
    BatchReply, CopyView, EffectWord, FollowerView, ListPage, RoleWord, Status, WriteReply,
};
pub use request::{
    BadRequest, LabelsChange, LabelsPatch, PatchEntityBody, PutEdgeBody, PutEntityBody,
    PutMomentBody, PutResourceBody,
};
pub use time::{format_hlc, format_us, parse_timestamp};
pub use view::{EdgeView, EntityView, ItemView, Meta, MomentView, ResourceView, VersionView};
pub use watch::{DeletedView, EventId, Names, ParseEventIdError, Reached, WatchEvent};

/// Items in a list unless the request says otherwise: a screenful or two.
pub const DEFAULT_LIST_LIMIT: usize = 100;

/// The most items in one list: bounds what one request reads; `next` leads to the rest.
pub const MAX_LIST_LIMIT: usize = 1000;

/// Bytes of a request's body unless configured otherwise; one item of the largest size fits.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
