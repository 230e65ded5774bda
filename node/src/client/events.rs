//! Server-sent events, put together from the chunks of an answer as they arrive.
//!
//! ```text
//! chunks -> lines -> fields until an empty line -> SentEvent
//! ```
//! A reader of its own, because it bounds what a peer can make it hold. As the HTML standard has it,
//! but for lines that end in a lone carriage return: no node sends them.

/// Longest event: an item of the largest size, each byte of it written as `\u0000`, and some room.
pub(super) const EVENT_BYTES: usize = 128 * 1024 * 1024;

/// An event as it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SentEvent {
    /// Where the stream can be taken up again; empty if the event does not say.
    pub(super) id: String,
    /// What kind of event it is.
    pub(super) name: String,
    /// What it says.
    pub(super) data: String,
}

/// More than any node would send in one event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than any node sends")]
pub(super) struct EventTooLong;

/// Reads events; keeps what has arrived of the next one.
#[derive(Debug)]
pub(super) struct EventReader {
    limit: usize,
    line: Vec<u8>,
    event: SentEvent,
}

impl EventReader {
    /// Before the first byte; holds no event of more than `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: SentEvent::default(),
        }
    }

    /// The events that end in `chunk`.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<Vec<SentEvent>, EventTooLong> {
        let mut events = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.event.data.len() + piece.len() > self.limit {
                return Err(EventTooLong);
            }
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_line(&String::from_utf8_lossy(&line)));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<SentEvent> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        // A comment is a field without a name.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": heartbeat\n\nid: 1.0\nevent: put\ndata: {\"a\":1}\n\nevent:nothing\n\n\
        retry: 5\r\nid:2\r\nevent: x\r\ndata: one\r\ndata:  two: ä\r\ndata\r\n\r\nid: 3\ndata: cut";

    #[test]
    fn events_are_read_however_the_stream_is_cut() {
        let event = |id: &str, name: &str, data: &str| SentEvent {
            id: id.to_owned(),
            name: name.to_owned(),
            data: data.to_owned(),
        };
        let expected = [
            event("1.0", "put", "{\"a\":1}"),
            event("2", "x", "one\n two: ä\n"),
        ];
        for length in 1..=STREAM.len() {
            let mut reader = EventReader::new(20);
            let events: Vec<_> = STREAM
                .as_bytes()
                .chunks(length)
                .flat_map(|chunk| reader.take(chunk).unwrap())
                .collect();
            assert_eq!(events, expected, "in pieces of {length}");
        }
    }

    #[test]
    fn a_stream_that_is_no_stream_of_events_is_given_up() {
        // A line without an end, and an event without one.
        for piece in [&b"xxxxx"[..], b"data: x\n"] {
            let mut reader = EventReader::new(20);
            let outcomes = (0..30).map(|_| reader.take(piece));
            let failed = outcomes.collect::<Result<Vec<_>, _>>();
            assert_eq!(failed, Err(EventTooLong), "{piece:?}");
        }
    }
}
