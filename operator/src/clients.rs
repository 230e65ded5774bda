//! The connections to the API server: three, so that none can starve another.
//!
//! | client | for | limits |
//! |---|---|---|
//! | watch | caches | a watch ends itself after five minutes; silence is seen by `health` |
//! | write | passes, events | 30 s for an answer, two more tries on 429 and 503 |
//! | lease | who is at work | 5 s for an answer, no second try: the next one comes soon enough |
//!
//! Left to itself, a client would wait for ever on a half-open connection and try again for minutes,
//! holding a pass's place meanwhile. What each may do is listed in `crate::permissions`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    client::{Body, ClientBuilder, retry::RetryPolicy},
};
use tower::{buffer::BufferLayer, retry::RetryLayer, util::MapRequestLayer};

use crate::metrics::Metrics;

/// Time for an answer to a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for an answer about the lease: well below the time after which it is lost.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest wait between tries of a write, and how many more tries there are.
const RETRY: (Duration, Duration, u32) = (Duration::from_millis(200), Duration::from_secs(2), 2);
/// Requests on their way to a connection: more than passes and events can ever make together.
const IN_FLIGHT: usize = 1024;

/// The connections.
pub struct Clients {
    /// For caches.
    pub watch: Client,
    /// For passes and events.
    pub write: Client,
    /// For the lease.
    pub lease: Client,
    /// When the watch client was last used.
    pub watch_activity: Arc<Activity>,
}

/// When something was last done.
pub struct Activity {
    began: Instant,
    last_millis: AtomicU64,
}

impl Activity {
    /// This very moment.
    pub fn just_now() -> Self {
        Self {
            began: Instant::now(),
            last_millis: AtomicU64::new(0),
        }
    }

    fn note(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }

    /// How long nothing has been done.
    pub fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

impl Clients {
    /// Connects as configured in the environment: in a cluster, else by kubeconfig.
    pub async fn connect(metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let mut config = Config::infer().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Each client says itself how often it tries.
        config.default_retry = false;

        let watch_activity = Arc::new(Activity::just_now());
        let activity = watch_activity.clone();
        let watch_metrics = metrics.clone();
        let note_watch = MapRequestLayer::new(move |request: http::Request<Body>| {
            activity.note();
            watch_metrics.requested("watch", request.method().as_str());
            request
        });
        let watch = ClientBuilder::try_from(config.clone())?
            .with_layer(&note_watch)
            .build();

        let (first, longest, tries) = RETRY;
        let retry = RetryLayer::new(RetryPolicy::new(first, longest, tries, true)?);
        let write_metrics = metrics.clone();
        let note_write = MapRequestLayer::new(move |request: http::Request<Body>| {
            write_metrics.requested("write", request.method().as_str());
            request
        });
        let write = ClientBuilder::try_from(impatient(&config, WRITE_TIMEOUT))?
            .with_layer(&note_write)
            .with_layer(&BufferLayer::new(IN_FLIGHT))
            .with_layer(&retry)
            .build();
        let lease = ClientBuilder::try_from(impatient(&config, LEASE_TIMEOUT))?.build();
        Ok(Self {
            watch,
            write,
            lease,
            watch_activity,
        })
    }
}

fn impatient(config: &Config, answer: Duration) -> Config {
    let mut config = config.clone();
    config.read_timeout = Some(answer);
    // Else the time a connection lay idle would count against the next answer.
    config.reset_reader_on_write = true;
    config
}
