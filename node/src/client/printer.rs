//! What people and programs see: results on standard output, everything else on standard error.

use std::error::Error;
use std::io::{self, Write};

use serde::Serialize;

use super::error::ClientError;
use crate::cli::Format;

/// Writes results in the format asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    /// The format asked for.
    pub(super) format: Format,
}

impl Printer {
    /// One result: as JSON, or as the lines `text` makes of it.
    pub(super) fn show<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), ClientError> {
        match self.format {
            Format::Json => line(&json(value)?),
            Format::Text => line(text(value).trim_end_matches('\n')),
        }
    }

    /// Content as it is, without a line end that it does not have.
    pub(super) fn raw(content: &[u8]) -> Result<(), ClientError> {
        let mut out = io::stdout().lock();
        out.write_all(content)
            .and_then(|()| out.flush())
            .map_err(|source| ClientError::Output { source })
    }
}

/// One line on standard output.
pub(super) fn line(text: &str) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|source| ClientError::Output { source })
}

/// One line on standard error; there is nobody to tell if that fails.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Say on standard error what went wrong, with its causes.
pub(super) fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    note(&format!("error: {text}"));
}

fn json<T: Serialize>(value: &T) -> Result<String, ClientError> {
    serde_json::to_string(value).map_err(|error| ClientError::Output {
        source: io::Error::other(error),
    })
}
