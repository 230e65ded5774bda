//! What changes, as a stream of messages: the watch of HTTP ([`crate::server::watch`]) in other clothes.
//!
//! ```text
//! WatchRequest -> Asked -> (not fresh enough: again, until the deadline) -> Changes -> WatchEvent …
//!                                                                     -> UNAVAILABLE: go on elsewhere
//! ```

use futures::{Stream, StreamExt, stream};
use percolate_api::grpc;
use percolate_api::http::{Code, EventId};
use percolate_api::proto::data::v1::watch_event::Event;
use percolate_api::proto::data::v1::{Reached, WatchEvent, WatchRequest};
use percolate_core::model::{Item, ItemKey, Kind};
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;

use super::refusal;
use crate::server::App;
use crate::server::problem::Failure;
use crate::server::reading::parse_session;
use crate::server::watch::{Asked, Changes, PageError, Render};
use crate::tenant::{SessionToken, Unavailable};

/// Events as messages.
struct Messages;

impl Render for Messages {
    type Event = WatchEvent;

    fn change(id: EventId, key: &ItemKey, item: &Item) -> Result<(WatchEvent, usize), PageError> {
        let event = grpc::event_of(id, key, item);
        let bytes = event.encoded_len();
        Ok((event, bytes))
    }

    fn reached(id: EventId, session: SessionToken) -> Result<WatchEvent, PageError> {
        let session = session.to_string();
        Ok(WatchEvent {
            id: id.to_string(),
            event: Some(Event::Reached(Reached { session })),
        })
    }
}

/// The events that `request` asks for, until this node can tell no more.
pub(super) async fn watch(
    app: &App,
    request: &WatchRequest,
) -> Result<impl Stream<Item = Result<WatchEvent, Status>> + use<>, Failure> {
    let from = Some(request.from.as_str()).filter(|from| !from.is_empty());
    let asked = Asked::new(from, kind(request.kind)?, parse_session(&request.session)?)?;
    let changes = begin(app, &asked).await?;
    let end = stream::once(async {
        let detail = "this node can tell no more; watch at another one, from the last id";
        Err(refusal::of(&Failure::new(Code::NoLeader, detail)))
    });
    Ok(changes.into_stream().map(Ok).chain(end))
}

/// As long as a request over HTTP waits for a replica that is fresh enough, and in the same steps.
async fn begin(app: &App, asked: &Asked) -> Result<Changes<Messages>, Failure> {
    let deadline = Instant::now() + app.limits.deadline;
    loop {
        let place = app.watches.admit()?;
        let failure = match asked.begin(app, place).await {
            Ok((changes, _)) => return Ok(changes),
            Err(failure) => failure,
        };
        let again = matches!(failure.unserved(), Some(Unavailable::NoLeader));
        if !again || Instant::now() + app.limits.retry_pause >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(app.limits.retry_pause).await;
    }
}

fn kind(number: u32) -> Result<Option<Kind>, Failure> {
    if number == 0 {
        return Ok(None);
    }
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| u32::from(kind.byte()) == number);
    kind.map(Some).ok_or_else(|| {
        Failure::bad_request(format!(
            "kind is 1 for resources, 2 for entities, 3 for edges, 4 for moments or 0 for all, not {number}"
        ))
    })
}
