//! How far back the log reaches, and what happens to a replica it does not reach back to.
//!
//! ```text
//! entries ─▶ Retention ─▶ trim, as far as nobody needs it
//! Effect::FetchSnapshot ─▶ one copy at a time, resumed after failures ─▶ Input::SnapshotFetched
//! who copies this one ─▶ Input::SnapshotRead, for people
//! ```

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use percolate_core::identity::{Index, ReplicaId};
use percolate_core::replica::{Input, Persist, Stranded};

use super::{AbortOnDrop, Driver};
use crate::fault::{Fault, Found};
use crate::snapshot::incoming::{self, FetchError, Place, Source};
use crate::store::Store;

/// Bytes of an entry in the log besides its payload.
const ENTRY_BYTES: usize = 41;

/// Pause before a copy that failed is begun anew, where it ended.
const FETCH_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The same when the disk is full: somebody has to make it larger first.
const FULL_AGAIN_AFTER: Duration = Duration::from_secs(30);

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
            self.outgoing.trimmed(index);
        }
    }

    /// In sync after all: what was copied so far is of no use, nor is a store that was put aside.
    pub(super) fn discard_copy(&mut self) {
        self.copying = None;
        self.copied.clear();
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
            reader: self.store.durable().replica_id,
        };
        let (network, progress) = (self.network.clone(), Arc::clone(&self.copied));
        let (store, inputs) = (Arc::clone(&self.store), self.register_inputs.clone());
        let place = Place {
            files: store.incoming(),
            store: store.database(),
        };
        let task = self.network.bulk.spawn(async move {
            match incoming::fetch(&source, &network, place, progress).await {
                Ok(()) => {
                    let _ = inputs.send(Input::SnapshotFetched);
                }
                Err(error @ FetchError::Full(_)) => {
                    make_room(store, &error).await;
                    tokio::time::sleep(FULL_AGAIN_AFTER).await;
                }
                Err(FetchError::Write(error)) => {
                    // What was copied stays.
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

    /// Tell the machine how far those are who copy this replica.
    pub(super) fn tell_of_readers(&mut self) {
        let readers: BTreeMap<ReplicaId, u8> = self.outgoing.progress().into_iter().collect();
        if readers == self.readers {
            return;
        }
        let before = std::mem::replace(&mut self.readers, readers.clone());
        for by in before.keys().filter(|by| !readers.contains_key(by)) {
            self.step(Input::SnapshotRead {
                by: *by,
                percent: None,
            });
        }
        for (by, percent) in readers {
            if before.get(&by) != Some(&percent) {
                let percent = Some(percent);
                self.step(Input::SnapshotRead { by, percent });
            }
        }
    }
}

/// The copy does not fit: what there is of it goes, so that the store that is there can be written.
async fn make_room(store: Arc<Store>, error: &FetchError) {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "the store that is there is kept; make the volume larger");
    let discarded = tokio::task::spawn_blocking(move || store.discard_incoming()).await;
    if let Ok(Err(error)) = discarded {
        tracing::warn!(%error, "what was copied of a snapshot stays");
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
