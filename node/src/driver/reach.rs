//! How far back the log reaches, and what happens to a replica it does not reach back to.
//!
//! ```text
//! entries ─▶ Retention ─▶ trim, as far as nobody needs it
//! Effect::FetchSnapshot ─▶ one copy at a time, resumed after failures ─▶ Input::SnapshotFetched
//! ```

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use percolate_core::identity::{Index, ReplicaId};
use percolate_core::replica::{Input, Persist, Stranded};

use super::{AbortOnDrop, Driver};
use crate::fault::{Fault, Found};
use crate::snapshot::incoming::{self, FetchError, Source};

/// Bytes of an entry in the log besides its payload.
const ENTRY_BYTES: usize = 41;

/// Pause before a copy that failed is begun anew, where it ended.
const FETCH_AGAIN_AFTER: Duration = Duration::from_secs(2);

impl Driver {
    /// What is handed to the disk makes the log longer.
    pub(super) fn count_bytes(&mut self, write: &Persist) {
        if let Some(after) = write.truncate_after {
            self.retention.cut(after);
        }
        for entry in &write.append {
            let bytes = entry.payload.len() + ENTRY_BYTES;
            self.retention.appended(entry.head.index, bytes);
        }
    }

    /// Drop the beginning of the log, as far as nobody needs it.
    pub(super) fn trim(&mut self) {
        let pinned = self.outgoing.pinned().unwrap_or(Index::MAX);
        let spare = self.replica.spare().min(pinned);
        if let Some(index) = self.retention.trim(self.applied, spare) {
            self.tail.trim(index);
            self.disk.trim(index);
        }
    }

    /// In sync after all: what was copied so far is of no use, nor is a store that was put aside.
    pub(super) fn discard_copy(&mut self) {
        self.copying = None;
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.discard_incoming() {
                tracing::warn!(%error, "a copied snapshot stays until it is needed");
            }
            if let Err(error) = store.discard_aside() {
                tracing::warn!(%error, "the store that was put aside stays until room is needed");
            }
        });
    }

    /// Copy a snapshot, unless one of this leader is being copied already.
    pub(super) fn fetch_snapshot(&mut self, replica: ReplicaId, pod: String) {
        let under_way =
            |(from, task): &(ReplicaId, AbortOnDrop)| *from == replica && !task.0.is_finished();
        let Some(incarnation) = self.replica.incarnation() else {
            return;
        };
        if self.copying.as_ref().is_some_and(under_way) {
            return;
        }
        let source = Source {
            replica,
            pod,
            incarnation,
        };
        let (network, metrics) = (self.network.clone(), Arc::clone(&self.metrics));
        let (directory, inputs) = (self.store.incoming(), self.register_inputs.clone());
        let store = Arc::clone(&self.store);
        let task = tokio::spawn(async move {
            match incoming::fetch(&source, &network, directory, metrics).await {
                Ok(()) => {
                    let _ = inputs.send(Input::SnapshotFetched);
                }
                Err(FetchError::Write(error)) => {
                    // What was copied stays. On a full volume the next process waits for room.
                    store.report(Found::new(Fault::of_write(&error), &error));
                }
                Err(error) => {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(from = %source.pod, %error, cause, "copying a snapshot is tried again");
                    tokio::time::sleep(FETCH_AGAIN_AFTER).await;
                }
            }
        });
        self.copying = Some((replica, AbortOnDrop(task)));
    }
}

/// What standing aside says of this replica's data; nothing where a person has to act.
pub(super) fn unfit(reason: Stranded) -> Option<Found> {
    let (fault, what) = match reason {
        Stranded::RegisterEmpty | Stranded::OtherIncarnation => return None,
        Stranded::Diverged { at } => (
            Fault::Diverged,
            format!("this replica differs from its leader at index {at}"),
        ),
        Stranded::Outdated { held, last } => (
            Fault::Outdated,
            format!("this replica had entries up to {held} on its disk, which now ends at {last}"),
        ),
        Stranded::Cloned => (
            Fault::Cloned,
            "another pod holds the replica that this disk is a copy of".to_owned(),
        ),
    };
    Some(Found { fault, what })
}
