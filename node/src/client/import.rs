//! `percolate import`: a folder of documents or JSON lines into a tenant.
//!
//! ```text
//! source (a thread that reads) -> lanes (batches, in order per item) -> Api -> Counts -> summary
//!                                                                    -> progress
//! ```
//! Running an import again is safe and is how one resumes: an item that is there already comes back
//! as unchanged, so nothing is applied twice. The requests' idempotency keys are new in every run:
//! keys made from the content would be answered from memory, without writing anything, when an item
//! has been changed or deleted since and is imported again.

mod batch;
pub(super) mod document;
mod lane;
mod progress;
mod source;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::executor::block_on;
use futures::future::try_join_all;
use percolate_core::model::limits::MAX_ITEM_BYTES;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::lane::Lane;
use self::progress::Progress;
use self::source::{Record, Skipped, Source};
use super::api::Api;
use super::error::ClientError;
use super::printer::{Printer, note};
use crate::cli::{Format, Import};

/// Items read ahead for one lane: enough to fill its next batch while one is on the way.
const READ_AHEAD: usize = 2 * batch::ITEMS;

/// Bytes of items in memory, read ahead and on the way: a few of the largest items.
const HELD_BYTES: usize = 4 * MAX_ITEM_BYTES;

/// A record, and its share of [`HELD_BYTES`] until it is written.
type Held = (Record, OwnedSemaphorePermit);

/// What became of the items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// New in the tenant.
    pub(super) created: usize,
    /// There already, just so.
    pub(super) unchanged: usize,
    /// There already, changed now.
    pub(super) updated: usize,
    /// Not taken; each was named with the reason.
    pub(super) refused: usize,
}

/// The summary.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// What was written.
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// What was left out.
    skipped: Skipped,
}

pub(super) async fn run(arguments: Import) -> Result<(), ClientError> {
    let printer = Printer {
        format: arguments.connection.output,
    };
    let summary = bring_in(&arguments).await?;
    printer.show(&summary, Summary::text)?;
    let Counts { refused, .. } = summary.counts;
    if refused > 0 {
        let total = summary.counts.total();
        return Err(ClientError::Incomplete { refused, total });
    }
    Ok(())
}

/// The import without its summary's being shown.
pub(super) async fn bring_in(arguments: &Import) -> Result<Summary, ClientError> {
    let api = Arc::new(Api::new(&arguments.connection)?);
    let source = Source::open(&arguments.source, &arguments.prefix, arguments.binary)?;
    let wanted = arguments.connection.output == Format::Text;
    let progress = Arc::new(Progress::new(source.total_bytes(), wanted));
    let summary = transfer(&api, source, arguments, &progress).await;
    progress.finish();
    summary
}

async fn transfer(
    api: &Arc<Api>,
    source: Source,
    arguments: &Import,
    progress: &Arc<Progress>,
) -> Result<Summary, ClientError> {
    let lanes = usize::from(arguments.in_flight);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..lanes).map(|_| mpsc::channel(READ_AHEAD)).unzip();
    let (finished, reading) = oneshot::channel();
    let memory = Arc::new(Semaphore::new(HELD_BYTES));
    // A thread of its own, left behind after a failure: it may be waiting for standard input, and
    // the runtime would wait for a thread of its pool.
    std::thread::spawn(move || {
        let read = source.read(&mut |record| pass_on(&senders, &memory, record));
        drop(senders);
        // Nobody asks any more once a lane has failed.
        let _ = finished.send(read);
    });
    let writing = receivers.into_iter().map(|records| {
        Lane {
            api: Arc::clone(api),
            overwrite: arguments.overwrite,
            progress: Arc::clone(progress),
        }
        .run(records)
    });
    // A lane that fails drops its channel, at which the reader stops.
    let counts = try_join_all(writing)
        .await?
        .into_iter()
        .fold(Counts::default(), Counts::plus);
    let read = reading
        .await
        .map_err(|_| ClientError::usage("the reading thread broke"))??;
    let counts = counts.plus(Counts {
        refused: read.refused,
        ..Counts::default()
    });
    Ok(Summary {
        counts,
        skipped: read.skipped,
    })
}

/// Items with the same id go through the same lane, so that the later one is written later.
/// Waits for memory; tells whether anybody takes the record.
fn pass_on(lanes: &[mpsc::Sender<Held>], memory: &Arc<Semaphore>, record: Record) -> bool {
    let bytes = u32::try_from(record.bytes.min(HELD_BYTES)).unwrap_or(u32::MAX);
    let Ok(share) = block_on(Arc::clone(memory).acquire_many_owned(bytes)) else {
        return false;
    };
    let mut hasher = DefaultHasher::new();
    record.key().hash(&mut hasher);
    let lane = hasher.finish() % lanes.len() as u64;
    usize::try_from(lane)
        .ok()
        .and_then(|lane| lanes.get(lane))
        .is_some_and(|lane| lane.blocking_send((record, share)).is_ok())
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            created: self.created + other.created,
            unchanged: self.unchanged + other.unchanged,
            updated: self.updated + other.updated,
            refused: self.refused + other.refused,
        }
    }

    fn total(self) -> usize {
        self.created + self.unchanged + self.updated + self.refused
    }
}

impl Summary {
    fn text(&self) -> String {
        let Counts {
            created,
            unchanged,
            updated,
            refused,
        } = self.counts;
        let mut text = format!(
            "{created} created, {unchanged} unchanged, {updated} updated, {refused} refused"
        );
        let Skipped {
            binary,
            unnamed,
            links,
        } = self.skipped;
        for (count, what) in [
            (binary, "binary files (--binary takes them)"),
            (unnamed, "files whose name is not UTF-8"),
            (links, "links"),
        ] {
            if count > 0 {
                // Writing to a string cannot fail.
                let _ = write!(text, "; skipped {count} {what}");
            }
        }
        text
    }
}

/// Name an item that was not taken, and say why.
fn tell_refused(progress: &Progress, name: &str, reason: &str) {
    progress.suspend(|| note(&format!("refused {name}: {reason}")));
}
