//! The two threads that touch the disk: one makes the log durable, one applies what is committed.
//!
//! ```text
//! driver -> Persist…, trims -> gathered, submitted once a turn
//!                           -> log writer -> one synced batch for all that waited -> Input::Persisted
//! driver -> entries         -> applier    -> store.apply                          -> Applied
//! ```
//! What arrived together reaches the log writer together: handed over one by one, the first of many
//! would get a sync of its own, and all others wait for the one after it.

use std::collections::VecDeque;
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

/// The driver's ends of the queues. They are bounded by what may be under way: at a leader the writes
/// that were let in ([`crate::admission`]), at a follower what is sent ahead to it
/// (`core::replica::progress`); and one batch to apply. A limit of their own could only lose writes
/// or stop the driver, which must answer while a disk hangs.
pub(super) struct Disk {
    writes: mpsc::UnboundedSender<Vec<LogWork>>,
    /// Not yet submitted, in order.
    gathered: Vec<LogWork>,
    /// Of the latest write that was submitted, and of the latest that is on disk.
    submitted: Ticket,
    persisted: Ticket,
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
        Ok(Self {
            writes,
            gathered: Vec::new(),
            submitted: 0,
            persisted: 0,
            applies,
        })
    }

    /// Takes effect with the next [`Disk::submit`].
    pub(super) fn persist(&mut self, write: Persist) {
        self.gathered.push(LogWork::Persist(write));
    }

    /// Takes effect with the next [`Disk::submit`].
    pub(super) fn trim(&mut self, index: Index) {
        self.gathered.push(LogWork::Trim(index));
    }

    /// Set the log writer to work on what was gathered.
    pub(super) fn submit(&mut self) {
        let tickets = self.gathered.iter().filter_map(|work| match work {
            LogWork::Persist(write) => Some(write.ticket),
            LogWork::Trim(_) => None,
        });
        self.submitted = tickets.fold(self.submitted, Ticket::max);
        if !self.gathered.is_empty() {
            let _ = self.writes.send(std::mem::take(&mut self.gathered));
        }
    }

    /// The log writer has said so.
    pub(super) fn persisted(&mut self, ticket: Ticket) {
        self.persisted = ticket;
    }

    /// Whether the log writer has not yet said so of all that was submitted.
    pub(super) fn is_writing(&self) -> bool {
        self.persisted < self.submitted
    }

    pub(super) fn apply(&self, entries: Vec<SharedEntry>) {
        let _ = self.applies.send(entries);
    }
}

/// Group commit: everything that waited while the last sync ran goes into the next one.
fn write_log(
    store: &Store,
    metrics: &Metrics,
    mut writes: mpsc::UnboundedReceiver<Vec<LogWork>>,
    done: &mpsc::UnboundedSender<Done>,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match writes.blocking_recv() {
                Some(submitted) => waiting.extend(submitted),
                None => return,
            }
        }
        while let Ok(submitted) = writes.try_recv() {
            waiting.extend(submitted);
        }
        let (change, ticket) = merge(&mut waiting);
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
    }
}

/// All waiting writes as one, up to the first that cuts the log: a cut is a batch of its own,
/// together with what follows it.
fn merge(waiting: &mut VecDeque<LogWork>) -> (LogChange, Option<Ticket>) {
    let (mut change, mut ticket) = (LogChange::default(), None);
    while let Some(work) = waiting.pop_front() {
        match work {
            LogWork::Trim(index) => change.trim = Some(index),
            LogWork::Persist(write) => {
                let cuts = write.truncate_after.is_some();
                if cuts && (ticket.is_some() || change.trim.is_some()) {
                    waiting.push_front(LogWork::Persist(write));
                    break;
                }
                ticket = Some(write.ticket);
                change.promise = Some(write.promised_epoch);
                change.incarnation = write.incarnation.or(change.incarnation);
                change.truncate_after = write.truncate_after.or(change.truncate_after);
                change.append.extend(write.append);
                change.forget.extend(write.forget);
            }
        }
    }
    (change, ticket)
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
