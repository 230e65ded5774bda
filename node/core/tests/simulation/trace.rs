//! What happened, line by line, for whoever looks into a failed schedule.

use std::fmt::Write as _;

use percolate_core::replica::{ChangeOutcome, Input, Message};

use super::World;

impl World {
    pub(super) fn record(&mut self, line: &str) {
        for byte in line.bytes() {
            self.hasher = (self.hasher ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.trace.push(format!("{} {line}", self.now));
        if self.trace.len() > 4_000 {
            self.trace.drain(..2_000);
        }
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.hasher
    }

    pub(crate) fn trace_tail(&self) -> String {
        let shown = std::env::var("PERCOLATE_TRACE")
            .ok()
            .and_then(|lines| lines.parse().ok())
            .unwrap_or(60);
        let mut text = String::new();
        for line in self
            .trace
            .iter()
            .skip(self.trace.len().saturating_sub(shown))
        {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

pub(super) fn short(input: &Input) -> String {
    match input {
        Input::Watched(view) => format!("watched {}", view.version),
        Input::RegisterRead(view) => format!("read {:?}", view.as_ref().map(|view| view.version)),
        Input::RegisterChanged(ChangeOutcome::Applied(view)) => format!("changed {}", view.version),
        Input::Received { from, message } => format!("{} from {from}", describe(message)),
        other => format!("{other:?}"),
    }
}

fn describe(message: &Message) -> String {
    match message {
        Message::Append(append) => format!(
            "append e{} prev {} +{} commit {} round {}",
            append.epoch,
            append.previous.index,
            append.entries.len(),
            append.commit,
            append.round
        ),
        Message::Mismatch(mismatch) => format!(
            "mismatch e{} last {:?}",
            mismatch.epoch,
            mismatch.heads.first().map(|head| head.index)
        ),
        other => format!("{other:?}"),
    }
}
