//! One stream of batches, one after the other; several lanes are on the way at a time.
//!
//! ```text
//! records -> batch -> POST /batch -> all taken
//!                                 -> refused: both halves on their own ... down to the one refused
//! one refused resource, overwrite -> its ETag -> PUT with If-Match
//! ```

use std::sync::Arc;

use http::Method;
use percolate_api::http::{BatchReply, Code, EffectWord, WriteReply};
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::api::{Api, Call};
use super::super::error::ClientError;
use super::super::path;
use super::batch::Batch;
use super::progress::Progress;
use super::source::Record;
use super::{Counts, Held, tell_refused};

/// Writes records in the order in which they come.
pub(super) struct Lane {
    pub(super) api: Arc<Api>,
    /// Whether resources with other content are replaced.
    pub(super) overwrite: bool,
    pub(super) progress: Arc<Progress>,
}

impl Lane {
    /// Write all `records`.
    pub(super) async fn run(
        self,
        mut records: mpsc::Receiver<Held>,
    ) -> Result<Counts, ClientError> {
        let mut counts = Counts::default();
        let mut batch = Batch::default();
        let mut shares = Vec::new();
        while let Some((record, share)) = records.recv().await {
            if batch.is_full_for(&record) {
                counts = counts.plus(self.write(std::mem::take(&mut batch)).await?);
                shares.clear();
            }
            batch.push(record);
            shares.push(share);
            // Who pipes line by line does not wait for a batch to fill.
            if records.is_empty() {
                counts = counts.plus(self.write(std::mem::take(&mut batch)).await?);
                shares.clear();
            }
        }
        if batch.is_empty() {
            Ok(counts)
        } else {
            Ok(counts.plus(self.write(batch).await?))
        }
    }

    async fn write(&self, batch: Batch) -> Result<Counts, ClientError> {
        let mut counts = Counts::default();
        // A stack: the earlier half is on top.
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            let bytes = batch.bytes();
            let written = match self.post(&batch).await {
                Ok(written) => written,
                Err(error) if !concerns_items(&error) => return Err(error),
                Err(error) => {
                    let Some(record) = batch.only() else {
                        let (earlier, later) = batch.halves();
                        waiting.extend([later, earlier]);
                        continue;
                    };
                    self.write_refused(record, error).await?
                }
            };
            self.progress.advance(written, bytes);
            counts = counts.plus(written);
        }
        Ok(counts)
    }

    async fn post(&self, batch: &Batch) -> Result<Counts, ClientError> {
        let call = Call::new(Method::POST, path::of("batch", &[])).with_json(&batch.body())?;
        let answer: BatchReply = self.api.answer(&call).await?;
        Ok(answer
            .results
            .iter()
            .fold(Counts::default(), |counts, result| {
                counts.plus(counted(result))
            }))
    }

    /// A single item was refused: supersede it, if that is what the user wants, or count it.
    async fn write_refused(
        &self,
        record: &Record,
        error: ClientError,
    ) -> Result<Counts, ClientError> {
        if self.overwrite && error.code() == Some(Code::ResourceImmutable) {
            return match self.supersede(record).await {
                Ok(counts) => Ok(counts),
                Err(error) if concerns_items(&error) => Ok(self.refused(record, &error)),
                Err(error) => Err(error),
            };
        }
        Ok(self.refused(record, &error))
    }

    async fn supersede(&self, record: &Record) -> Result<Counts, ClientError> {
        let id = record
            .item
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let at = path::of("resources", &[id]);
        let current = self.api.call(&Call::new(Method::GET, at.as_str())).await?;
        let mut body = record.item.clone();
        body.remove("kind");
        body.remove("id");
        let call = Call::new(Method::PUT, at)
            .with_json(&body)?
            .if_match(current.etag.as_deref())?;
        let answer: WriteReply = self.api.answer(&call).await?;
        Ok(counted(&answer))
    }

    fn refused(&self, record: &Record, error: &ClientError) -> Counts {
        let hint = match error.code() {
            Some(Code::ResourceImmutable) => {
                "it exists with other content (--overwrite replaces it)".to_owned()
            }
            _ => error.to_string(),
        };
        tell_refused(&self.progress, &record.name, &hint);
        Counts {
            refused: 1,
            ..Counts::default()
        }
    }
}

/// Whether a refusal is about the items sent, so that others may fare better.
fn concerns_items(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            Code::BadRequest
                | Code::NotFound
                | Code::ResourceImmutable
                | Code::MomentImmutable
                | Code::VersionMismatch
                | Code::TooLarge
        )
    )
}

fn counted(result: &WriteReply) -> Counts {
    let counts = Counts::default();
    match result.effect {
        EffectWord::Created => Counts {
            created: 1,
            ..counts
        },
        EffectWord::Updated | EffectWord::Deleted => Counts {
            updated: 1,
            ..counts
        },
        EffectWord::Unchanged => Counts {
            unchanged: 1,
            ..counts
        },
    }
}
