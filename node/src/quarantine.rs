//! A replica whose data are not to be trusted never serves again, and is filled anew by itself.
//!
//! ```text
//! Found ─▶ mark beside the store ─▶ told (termination message) ─▶ the process ends
//! next start: mark ─▶ register: another leads   ─▶ store put aside, a new replica begins empty
//!                               nobody else does ─▶ whole after all? go on : stand aside, and tell
//!                               … and a person has accepted the loss ─▶ what is left of it is used
//! ```
//! The store of the replica that the register names as leader is never put aside while nobody has given
//! up what it holds. Everybody else's may be: who leads holds everything acknowledged, and took office
//! (or kept it) after whatever happened here. So of replicas damaged at the same time one always keeps
//! its data.

pub mod mark;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percolate_core::identity::ReplicaId;
use percolate_core::register::View;

use self::mark::Mark;
use crate::fault::{Fault, Found};
use crate::health::Liveness;
use crate::register::Registry;
use crate::store::Store;
use crate::store::aside;
use crate::store::room::{self, Room};

/// How often a replica that stands aside looks whether it still has to.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long it does before its process ends, to say once more why: what a pod's process was ended by
/// is all that can be seen of it from outside. The kubelet then lets it wait for minutes at most.
const PATIENCE: Duration = Duration::from_mins(5);

/// Why a store stays although it is not to be trusted.
const ALONE: &str = "no other replica has taken the lead: restore this volume, or bring back another that is in sync";

/// Where a replica stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// Folder of its data.
    pub directory: PathBuf,
    /// Its pod.
    pub pod: String,
    /// How long it stands aside before its process ends.
    pub patience: Duration,
}

impl Place {
    /// With the usual patience.
    pub fn new(directory: &Path, pod: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            pod: pod.to_owned(),
            patience: PATIENCE,
        }
    }

    /// Whether something has to be settled before the store may be opened.
    pub fn is_hindered(&self) -> bool {
        mark::is_there(&self.directory) || !self.has_room()
    }

    fn has_room(&self) -> bool {
        // A volume that cannot even be asked is for the store to complain of.
        Room::of(&self.directory).map_or(true, Room::is_enough)
    }
}

/// Returns once the store may be opened; with what hinders when patience ends.
pub async fn settle(
    place: &Place,
    registry: &dyn Registry,
    liveness: &Liveness,
) -> Result<(), Found> {
    if let Some(mark) = Mark::read(&place.directory) {
        settle_mark(place, &mark, registry, liveness).await?;
    }
    wait_for_room(place, liveness).await
}

async fn settle_mark(
    place: &Place,
    mark: &Mark,
    registry: &dyn Registry,
    liveness: &Liveness,
) -> Result<(), Found> {
    let failed = |error: std::io::Error| Found::new(Fault::of_write(&error), &error);
    if !aside::has_store(&place.directory) {
        // Somebody has emptied the disk, or it was put aside already: a new replica begins.
        return aside::put(&place.directory)
            .and_then(|()| mark::lift(&place.directory))
            .map_err(failed);
    }
    let began = Instant::now();
    let mut examined = false;
    loop {
        liveness.tick(Instant::now());
        let view = registry.read().await;
        let why = match decide(mark, view.as_ref(), &place.pod, examined) {
            Decision::PutAside => {
                tracing::warn!(fault = ?mark.fault, what = %mark.what, "this store is put aside: a new replica begins in its place");
                let done = aside::put(&place.directory).and_then(|()| mark::lift(&place.directory));
                return done.map_err(failed);
            }
            Decision::Use => {
                tracing::warn!(fault = ?mark.fault, what = %mark.what, "a person has accepted the loss: this store is used as it is");
                return mark::lift(&place.directory).map_err(failed);
            }
            Decision::Keep(why) => why,
        };
        if mark.fault == Fault::Damaged && !std::mem::replace(&mut examined, true) {
            // A disk that could not be read for a while, as when its cable was loose, may be whole.
            match examine(&place.directory, liveness).await {
                Ok(()) => {
                    tracing::warn!(what = %mark.what, "the store was examined and is whole: it is used again");
                    return mark::lift(&place.directory).map_err(failed);
                }
                Err(still) => tracing::error!(what = %still, "the store is damaged"),
            }
        }
        if began.elapsed() >= place.patience {
            return Err(Found {
                fault: mark.fault,
                what: format!("{}; {why}", mark.what),
            });
        }
        tracing::error!(fault = ?mark.fault, what = %mark.what, why, "this replica stands aside");
        tokio::time::sleep(LOOK_EVERY.min(place.patience)).await;
    }
}

/// What becomes of a store that is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// It is not needed: a new one may take its place.
    PutAside,
    /// It lacks something, and a person has given that up.
    Use,
    /// It may be the only one, so nothing is done to it.
    Keep(&'static str),
}

fn decide(mark: &Mark, view: Option<&View>, pod: &str, examined: bool) -> Decision {
    let Some(view) = view else {
        return Decision::Keep("the register cannot be read");
    };
    let Some(register) = &view.register else {
        return Decision::Keep("the register is empty: restore it");
    };
    let is_own = |replica: ReplicaId| match mark.replica {
        Some(own) => own == replica,
        None => register.pod_of(replica) == Some(pod),
    };
    let original = mark.replica.and_then(|own| register.pod_of(own));
    if mark.fault == Fault::Cloned && original.is_some_and(|original| original != pod) {
        return Decision::PutAside; // whose copy it is goes on under its own name
    }
    if !is_own(register.leader) {
        return Decision::PutAside;
    }
    if view.accepted_loss().is_none() {
        return Decision::Keep(ALONE);
    }
    match mark.fault {
        Fault::Outdated => Decision::Use,
        Fault::Damaged if !examined => Decision::Keep("it is examined once more"),
        // What is damaged cannot be told from what is not.
        _ => Decision::PutAside,
    }
}

/// Reads all of the store, and says what is wrong with it.
async fn examine(directory: &Path, liveness: &Liveness) -> Result<(), Found> {
    let (directory, liveness) = (directory.to_owned(), liveness.clone());
    let examined = tokio::task::spawn_blocking(move || {
        let nobody = ReplicaId(0); // a store that is there keeps its own
        let store = Store::open(&directory, nobody).map_err(|error| {
            error
                .found()
                .unwrap_or_else(|| Found::new(Fault::Damaged, &error))
        })?;
        store.examine(|_| {
            liveness.tick(Instant::now());
            true
        })
    });
    examined
        .await
        .unwrap_or_else(|error| Err(Found::new(Fault::Damaged, &error)))
}

async fn wait_for_room(place: &Place, liveness: &Liveness) -> Result<(), Found> {
    let began = Instant::now();
    while !place.has_room() {
        liveness.tick(Instant::now());
        let failed = |error: std::io::Error| Found::new(Fault::of_write(&error), &error);
        if room::make(&place.directory).map_err(failed)? {
            continue;
        }
        let Room {
            free_bytes,
            needed_bytes,
        } = Room::of(&place.directory).map_err(failed)?;
        let what = format!(
            "the volume has {free_bytes} bytes left, and {needed_bytes} are needed to go on: enlarge spec.storage.size"
        );
        if began.elapsed() >= place.patience {
            return Err(Found {
                fault: Fault::DiskFull,
                what,
            });
        }
        tracing::error!(free_bytes, needed_bytes, "no room on the volume: waiting");
        tokio::time::sleep(LOOK_EVERY.min(place.patience)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
