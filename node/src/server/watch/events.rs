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

    fn change(id: EventId, key: &ItemKey, item: &Item) -> Result<(Event, usize), PageError> {
        event(id, &WatchEvent::of_item(key, item))
    }

    fn reached(id: EventId, session: SessionToken) -> Result<Event, PageError> {
        let session = session.to_string();
        Ok(event(id, &WatchEvent::Reached(Reached { session }))?.0)
    }
}

/// An event, and the bytes of what it says.
fn event(id: EventId, says: &WatchEvent) -> Result<(Event, usize), PageError> {
    // JSON has no line breaks, which would end the field.
    let data = serde_json::to_string(says).map_err(PageError::Write)?;
    let event = Event::default().id(id.to_string()).event(says.word());
    Ok((event.data(&data), data.len()))
}
