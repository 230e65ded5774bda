//! Places for watches: how many are open, and the end of all of them when the node stops.

use std::sync::Arc;

use percolate_api::http::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::server::problem::Failure;

/// The open watches of a node. Clones share them.
#[derive(Clone)]
pub struct Watches {
    limit: usize,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

/// One open watch, until it is dropped.
pub(in crate::server) struct Place {
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Watches {
    /// None yet, and never more than `limit`. They are counted in `metrics` and end when `stopping` is
    /// cancelled, so that their clients go elsewhere and nothing waits for streams without end.
    pub fn new(limit: usize, metrics: Arc<Metrics>, stopping: CancellationToken) -> Self {
        Self {
            limit,
            places: Arc::new(Semaphore::new(limit)),
            metrics,
            stopping,
        }
    }

    /// Set when the node stops: what has no end by itself ends then.
    pub(in crate::server) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// A place for one more, unless all are taken.
    pub(in crate::server) fn admit(&self) -> Result<Place, Failure> {
        if self.stopping.is_cancelled() {
            return Err(Failure::new(
                Code::Overloaded,
                "this node is stopping; watch at another one",
            ));
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.limit;
            Failure::new(
                Code::Overloaded,
                format!(
                    "{limit} watches are open here already; try again later, or at another replica"
                ),
            )
        })?;
        self.metrics.watch_opened();
        Ok(Place {
            metrics: Arc::clone(&self.metrics),
            stopping: self.stopping.clone(),
            _permit: permit,
        })
    }
}

impl Place {
    /// Set when the node stops.
    pub(in crate::server) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.watch_closed();
    }
}
