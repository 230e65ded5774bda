//! The two threads that touch the disk: one makes the log durable, one applies what is committed.
//!
//! ```text
//! driver -> Persist…, trims -> log writer -> one synced batch for all that waited -> Input::Persisted
//! driver -> entries  -> applier    -> store.apply                          -> Applied
//! ```

use std::sync::Arc;
use std::time::Instant;

use percolate_core::identity::Index;
use percolate_core::log::SharedEntry;
use percolate_core::operation::Outcome;
use percolate_core::replica::{Persist, StateDigest, Ticket};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::store::{LogChange, Store, StoreError};

/// What the disk has to say.
pub(super) enum Done {
    /// This write and all before it are on disk.
    Persisted(Ticket),
    /// These entries are applied.
    Applied {
        entries: Vec<SharedEntry>,
        outcomes: Vec<Outcome>,
        /// The hash of the state after each.
        digests: Vec<StateDigest>,
    },
    /// The disk failed: nothing in this process can tell what is on it.
    Failed(StoreError),
}

/// Work for the log writer.
enum LogWork {
    Persist(Persist),
    /// Remove the entries up to this index.
    Trim(Index),
}

/// The driver's ends of the queues. Their lengths are bounded by what the replica has under way:
/// its window of entries, and one batch to apply.
pub(super) struct Disk {
    writes: mpsc::UnboundedSender<LogWork>,
    applies: mpsc::UnboundedSender<Vec<SharedEntry>>,
}

impl Disk {
    /// Start the threads; both end when this is dropped.
    pub(super) fn start(
        store: &Arc<Store>,
        metrics: &Arc<Metrics>,
        done: &mpsc::UnboundedSender<Done>,
    ) -> std::io::Result<Self> {
        let (writes, to_write) = mpsc::unbounded_channel();
        let (applies, to_apply) = mpsc::unbounded_channel();
        let (log_store, log_metrics, log_done) =
            (Arc::clone(store), Arc::clone(metrics), done.clone());
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write_log(&log_store, &log_metrics, to_write, &log_done))?;
        let (store, metrics, done) = (Arc::clone(store), Arc::clone(metrics), done.clone());
        std::thread::Builder::new()
            .name("applier".to_owned())
            .spawn(move || apply(&store, &metrics, to_apply, &done))?;
        Ok(Self { writes, applies })
    }

    pub(super) fn persist(&self, write: Persist) {
        let _ = self.writes.send(LogWork::Persist(write));
    }

    pub(super) fn trim(&self, index: Index) {
        let _ = self.writes.send(LogWork::Trim(index));
    }

    pub(super) fn apply(&self, entries: Vec<SharedEntry>) {
        let _ = self.applies.send(entries);
    }
}

/// Group commit: everything that waited while the last sync ran goes into the next one.
fn write_log(
    store: &Store,
    metrics: &Metrics,
    mut writes: mpsc::UnboundedReceiver<LogWork>,
    done: &mpsc::UnboundedSender<Done>,
) {
    let mut next = writes.blocking_recv();
    while let Some(first) = next.take() {
        let (change, ticket, rest) = merge(first, &mut writes);
        next = rest;
        let began = Instant::now();
        if let Err(error) = store.persist(&change) {
            let _ = done.send(Done::Failed(error));
            return;
        }
        metrics.observe_log_sync(began.elapsed());
        if let Some(index) = change.trim {
            metrics.set_log_base(index);
        }
        if let Some(ticket) = ticket
            && done.send(Done::Persisted(ticket)).is_err()
        {
            return;
        }
        next = next.or_else(|| writes.blocking_recv());
    }
}

/// All waiting writes as one, up to the first that cuts the log: a cut is a batch of its own,
/// together with what follows it.
fn merge(
    first: LogWork,
    writes: &mut mpsc::UnboundedReceiver<LogWork>,
) -> (LogChange, Option<Ticket>, Option<LogWork>) {
    let (mut change, mut ticket) = (LogChange::default(), None);
    let mut next = Some(first);
    while let Some(work) = next {
        match work {
            LogWork::Trim(index) => change.trim = Some(index),
            LogWork::Persist(write) => {
                let cuts = write.truncate_after.is_some();
                if cuts && (ticket.is_some() || change.trim.is_some()) {
                    return (change, ticket, Some(LogWork::Persist(write)));
                }
                ticket = Some(write.ticket);
                change.promise = Some(write.promised_epoch);
                change.incarnation = write.incarnation.or(change.incarnation);
                change.truncate_after = write.truncate_after.or(change.truncate_after);
                change.append.extend(write.append);
            }
        }
        next = writes.try_recv().ok();
    }
    (change, ticket, None)
}

fn apply(
    store: &Store,
    metrics: &Metrics,
    mut batches: mpsc::UnboundedReceiver<Vec<SharedEntry>>,
    done: &mpsc::UnboundedSender<Done>,
) {
    while let Some(entries) = batches.blocking_recv() {
        let began = Instant::now();
        let applied = match store.apply(&entries) {
            Ok(outcomes) => Done::Applied {
                entries,
                outcomes,
                digests: store.take_digests(),
            },
            Err(error) => Done::Failed(error),
        };
        metrics.observe_apply(began.elapsed());
        let failed = matches!(applied, Done::Failed(_));
        if done.send(applied).is_err() || failed {
            return;
        }
    }
}
