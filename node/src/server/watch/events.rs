//! What a watch says, as server-sent events.

use axum::response::sse::Event;
use percolate_api::http::{EventId, Reached, WatchEvent};
use percolate_core::model::{Item, ItemKey};

use super::{PageError, Render};
use crate::tenant::SessionToken;

/// `id`, `event` and one line of JSON.
pub(super) struct ServerSentEvents;

impl Render for ServerSentEvents {
    type Event = Event;

    fn change(id: EventId, key: &ItemKey, item: &Item) -> Result<Event, PageError> {
        event(id, &WatchEvent::of_item(key, item))
    }

    fn reached(id: EventId, session: SessionToken) -> Result<Event, PageError> {
        let session = session.to_string();
        event(id, &WatchEvent::Reached(Reached { session }))
    }
}

fn event(id: EventId, says: &WatchEvent) -> Result<Event, PageError> {
    let event = Event::default().id(id.to_string()).event(says.word());
    event.json_data(says).map_err(PageError::Write)
}
