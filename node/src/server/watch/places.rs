//! Places for watches: how many are open, and the end of all of them when the node stops.

use std::sync::{Arc, Mutex, PoisonError};

use percolate_api::http::Code;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::server::problem::Failure;

/// The open watches of a node. Clones share them.
#[derive(Clone)]
pub struct Watches {
    shared: Arc<Shared>,
}

struct Shared {
    open: Mutex<usize>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

/// One open watch, until it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
}

impl Watches {
    /// None yet. They are counted in `metrics` and end when `stopping` is cancelled, so that their
    /// clients go elsewhere and nothing waits for streams without end.
    pub fn new(metrics: Arc<Metrics>, stopping: CancellationToken) -> Self {
        let open = Mutex::new(0);
        Self {
            shared: Arc::new(Shared {
                open,
                metrics,
                stopping,
            }),
        }
    }

    /// A place for one more, unless `limit` are taken.
    pub(super) fn admit(&self, limit: usize) -> Result<Place, Failure> {
        if self.shared.stopping.is_cancelled() {
            return Err(Failure::new(
                Code::Overloaded,
                "this node is stopping; watch at another one",
            ));
        }
        self.shared.change(|open| {
            if *open >= limit {
                return Err(Failure::new(
                    Code::Overloaded,
                    format!("{limit} watches are open here already; try again later, or at another replica"),
                ));
            }
            *open += 1;
            Ok(())
        })?;
        Ok(Place {
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Place {
    /// Set when the node stops.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.change(|open| *open -= 1);
    }
}

impl Shared {
    /// Counted under the lock, so that the gauge cannot show an older number last.
    fn change<T>(&self, change: impl FnOnce(&mut usize) -> T) -> T {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut open);
        self.metrics.set_open_watches(*open);
        changed
    }
}
