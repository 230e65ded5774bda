//! What a node counts, for `/metrics`. One table, so that alerts and dashboards can be written from it:
//!
//! | name (all begin with `percolate_node_`) | kind | labels | meaning |
//! |---|---|---|---|
//! | `last_index` | gauge | | last entry in this replica's log |
//! | `committed_index` | gauge | | highest index known to be committed |
//! | `applied_index` | gauge | | highest index visible to readers |
//! | `lag_entries` | gauge | | entries behind the leader, as far as known |
//! | `epoch` | gauge | | highest epoch known |
//! | `role` | gauge | `role` | 1 for what this replica is, 0 for the rest |
//! | `in_sync_replicas` | gauge | | size of the in-sync set, as far as known |
//! | `serving` | gauge | | 1 while `/readyz` says yes |
//! | `log_base_index` | gauge | | last entry trimmed from this replica's log |
//! | `snapshot_copied_bytes` | gauge | | what is there of the snapshot this replica copies |
//! | `snapshot_bytes` | gauge | | its size; 0 while it copies none |
//! | `snapshot_remaining_seconds` | gauge | | how long that still takes, at the pace so far |
//! | `staleness_milliseconds` | gauge | | how old at most is what it shows; 0 also while nothing is proven |
//! | `queued_commands` | gauge | | requests waiting for the driver |
//! | `open_watches` | gauge | | streams of changes that clients follow |
//! | `writes_total` | counter | `outcome` | `applied`, `refused` (by its content), `unavailable`, `unknown` |
//! | `rescued_total` | counter | `outcome` | transactions of former leaders decided while this one led: `merged`, `overtaken` (something newer stands), `known` (took effect before), `refused` (by its content) |
//! | `request_duration_seconds` | histogram | `method`, `route`, `status` | HTTP requests; `status` is `2xx` … `5xx` |
//! | `log_sync_duration_seconds` | histogram | | one append to the log with its sync |
//! | `apply_duration_seconds` | histogram | | making one batch of entries visible |
//! | `scrub_pass_bytes` | gauge | | read by the present or latest search for damage |
//! | `scrub_passes_total` | counter | `result` | searches for damage: `whole`, `damaged` |
//! | `resident_bytes` | gauge | | memory of this process |
//! | `cpu_seconds_total` | counter | | processor time of this process |
//! | `build_info` | info | `version` | always 1 |
//!
//! Counters and histograms are fed where things happen; gauges of [`Status`] are read when asked for.
//! Labels have few values by construction: `route` is a pattern, never a path.

mod process;
mod requests;
mod scrub;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use self::requests::counted;
use crate::tenant::{Role, Status};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How a write ended, for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Done.
    Applied,
    /// Not done because of what it asked.
    Refused,
    /// Not done because this replica or the tenant could not.
    Unavailable,
    /// Done or not, nobody knows.
    Unknown,
}

impl WriteOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of a transaction that a former leader had not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescueOutcome {
    /// It took effect.
    Merged,
    /// Something newer stands where it would have written.
    Overtaken,
    /// It took effect before, here or as its client's retry.
    Known,
    /// It cannot be done to what is there.
    Refused,
}

impl RescueOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Overtaken => "overtaken",
            Self::Known => "known",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
}

type Level = Gauge<u64, AtomicU64>;
type Requests = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// Everything counted in this process; share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    replica: ReplicaLevels,
    process: process::Usage,
    scrubbing: scrub::Scrubbing,
    queued_commands: Level,
    log_base_index: Level,
    open_watches: Level,
    writes: Family<WriteLabels, Counter>,
    rescued: Family<WriteLabels, Counter>,
    requests: Requests,
    log_syncs: Histogram,
    applies: Histogram,
}

/// The gauges of [`Status`].
#[derive(Debug, Default)]
struct ReplicaLevels {
    last_index: Level,
    committed_index: Level,
    applied_index: Level,
    lag_entries: Level,
    epoch: Level,
    in_sync_replicas: Level,
    serving: Level,
    snapshot_bytes: Level,
    snapshot_copied_bytes: Level,
    snapshot_remaining_seconds: Level,
    staleness_milliseconds: Level,
    role: Family<RoleLabels, Level>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("percolate_node"),
            replica: ReplicaLevels::default(),
            process: process::Usage::default(),
            scrubbing: scrub::Scrubbing::default(),
            queued_commands: Level::default(),
            log_base_index: Level::default(),
            open_watches: Level::default(),
            writes: Family::default(),
            rescued: Family::default(),
            requests: Family::new_with_constructor(request_seconds),
            log_syncs: disk_seconds(),
            applies: disk_seconds(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        self.replica.register(registry);
        registry.register(
            "queued_commands",
            "Requests waiting for the driver",
            self.queued_commands.clone(),
        );
        registry.register(
            "log_base_index",
            "Last entry trimmed from this replica's log",
            self.log_base_index.clone(),
        );
        registry.register(
            "open_watches",
            "Streams of changes that clients follow",
            self.open_watches.clone(),
        );
        registry.register("writes", "Writes by how they ended", self.writes.clone());
        registry.register(
            "rescued",
            "Transactions of former leaders by what became of them",
            self.rescued.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "HTTP requests",
            Unit::Seconds,
            self.requests.clone(),
        );
        registry.register_with_unit(
            "log_sync_duration",
            "Appends to the log",
            Unit::Seconds,
            self.log_syncs.clone(),
        );
        registry.register_with_unit(
            "apply_duration",
            "Batches made visible",
            Unit::Seconds,
            self.applies.clone(),
        );
        self.process.register(registry);
        self.scrubbing.register(registry);
        registry.register(
            "build",
            "This program",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
    }

    /// A write was answered.
    pub fn count_write(&self, outcome: WriteOutcome) {
        let outcome = outcome.label();
        self.writes.get_or_create(&WriteLabels { outcome }).inc();
    }

    /// A transaction of a former leader was decided.
    pub fn count_rescued(&self, outcome: RescueOutcome) {
        let outcome = outcome.label();
        self.rescued.get_or_create(&WriteLabels { outcome }).inc();
    }

    /// An HTTP request was answered. `route` is the pattern that matched (`/api/v1/entities/{id}`).
    pub fn observe_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let status = format!("{}xx", status / 100);
        let labels = RequestLabels {
            method: method.to_owned(),
            route: route.to_owned(),
            status,
        };
        self.requests
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// An append to the log was synced.
    pub fn observe_log_sync(&self, took: Duration) {
        self.log_syncs.observe(took.as_secs_f64());
    }

    /// A batch of entries was applied.
    pub fn observe_apply(&self, took: Duration) {
        self.applies.observe(took.as_secs_f64());
    }

    /// So many requests wait for the driver.
    pub fn set_queued_commands(&self, queued: usize) {
        self.queued_commands.set(queued as u64);
    }

    /// The log now begins after this index.
    pub fn set_log_base(&self, index: u64) {
        self.log_base_index.set(index);
    }

    /// A watch was opened.
    pub fn watch_opened(&self) {
        self.open_watches.inc();
    }

    /// One was closed.
    pub fn watch_closed(&self) {
        self.open_watches.dec();
    }

    /// Everything as `OpenMetrics` text, with the gauges of `status` as it is now.
    pub fn encode(&self, status: &Status) -> String {
        self.replica.set(status);
        self.process.read();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

impl ReplicaLevels {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "last_index",
            "Last entry in this replica's log",
            self.last_index.clone(),
        );
        registry.register(
            "committed_index",
            "Highest index known to be committed",
            self.committed_index.clone(),
        );
        registry.register(
            "applied_index",
            "Highest index visible to readers",
            self.applied_index.clone(),
        );
        registry.register(
            "lag_entries",
            "Entries behind the leader",
            self.lag_entries.clone(),
        );
        registry.register("epoch", "Highest epoch known", self.epoch.clone());
        registry.register(
            "in_sync_replicas",
            "Size of the in-sync set",
            self.in_sync_replicas.clone(),
        );
        registry.register(
            "serving",
            "Whether this replica serves",
            self.serving.clone(),
        );
        registry.register(
            "snapshot_bytes",
            "Size of the snapshot that is copied",
            self.snapshot_bytes.clone(),
        );
        registry.register(
            "snapshot_copied_bytes",
            "How much of it is there",
            self.snapshot_copied_bytes.clone(),
        );
        registry.register(
            "snapshot_remaining_seconds",
            "How long that still takes",
            self.snapshot_remaining_seconds.clone(),
        );
        registry.register(
            "staleness_milliseconds",
            "How old at most is what this replica shows",
            self.staleness_milliseconds.clone(),
        );
        registry.register(
            "role",
            "What this replica is to its tenant",
            self.role.clone(),
        );
    }

    fn set(&self, status: &Status) {
        self.last_index.set(status.last);
        self.committed_index.set(status.committed);
        self.applied_index.set(status.applied);
        self.lag_entries.set(status.lag);
        self.epoch.set(status.epoch);
        self.in_sync_replicas.set(status.in_sync.len() as u64);
        self.serving.set(status.serving.into());
        let copying = status.copying;
        self.snapshot_bytes
            .set(copying.map_or(0, |copying| copying.total));
        self.snapshot_copied_bytes
            .set(copying.map_or(0, |copying| copying.bytes));
        let remaining = copying.and_then(|copying| copying.remaining);
        self.snapshot_remaining_seconds
            .set(remaining.map_or(0, |remaining| remaining.as_secs()));
        let staleness = status.as_of.map(|as_of| as_of.elapsed().as_millis());
        self.staleness_milliseconds
            .set(staleness.map_or(0, |age| u64::try_from(age).unwrap_or(u64::MAX)));
        for role in [Role::Joining, Role::Leader, Role::Follower, Role::Learner] {
            let labels = RoleLabels {
                role: role_name(role),
            };
            self.role
                .get_or_create(&labels)
                .set((role == status.role).into());
        }
    }
}

/// A role as metrics, probes and people name it.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Joining => "joining",
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Learner => "learner",
    }
}

/// 1 ms to 16 s: from a read out of memory to beyond every time limit.
fn request_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// 0.1 ms to 6.5 s: from a disk with a protected cache to one that is failing.
fn disk_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 17))
}

#[cfg(test)]
mod tests {
    use percolate_core::identity::ReplicaId;
    use percolate_core::register::ReplicaState;

    use super::*;
    use crate::snapshot::progress::Copying;

    pub(super) fn status() -> Status {
        Status {
            replica_id: ReplicaId(1),
            incarnation: None,
            loss: 0,
            role: Role::Follower,
            epoch: 3,
            leader: None,
            leader_pod: None,
            leader_url: None,
            in_sync: vec![ReplicaId(1), ReplicaId(2)],
            last: 12,
            committed: 11,
            applied: 10,
            lag: 2,
            serving: true,
            state: ReplicaState::InSync,
            copying: Some(Copying {
                bytes: 40,
                total: 100,
                remaining: Some(Duration::from_secs(6)),
            }),
            members: Vec::new(),
            as_of: None,
            cut_off: false,
        }
    }

    #[test]
    fn everything_in_the_table_is_shown() {
        let metrics = Metrics::new();
        metrics.count_write(WriteOutcome::Applied);
        metrics.count_rescued(RescueOutcome::Merged);
        metrics.observe_request(
            "PUT",
            "/api/v1/entities/{id}",
            204,
            Duration::from_millis(3),
        );
        metrics.observe_log_sync(Duration::from_micros(150));
        metrics.observe_apply(Duration::from_micros(150));
        metrics.set_queued_commands(7);
        for _ in 0..5 {
            metrics.watch_opened();
        }
        metrics.watch_closed();
        let text = metrics.encode(&status());
        for line in [
            "percolate_node_last_index 12",
            "percolate_node_committed_index 11",
            "percolate_node_applied_index 10",
            "percolate_node_lag_entries 2",
            "percolate_node_epoch 3",
            "percolate_node_role{role=\"follower\"} 1",
            "percolate_node_role{role=\"leader\"} 0",
            "percolate_node_in_sync_replicas 2",
            "percolate_node_serving 1",
            "percolate_node_snapshot_bytes 100",
            "percolate_node_snapshot_copied_bytes 40",
            "percolate_node_snapshot_remaining_seconds 6",
            "percolate_node_staleness_milliseconds 0",
            "percolate_node_queued_commands 7",
            "percolate_node_open_watches 4",
            "percolate_node_writes_total{outcome=\"applied\"} 1",
            "percolate_node_rescued_total{outcome=\"merged\"} 1",
            "percolate_node_request_duration_seconds_count{method=\"PUT\",route=\"/api/v1/entities/{id}\",status=\"2xx\"} 1",
            "percolate_node_log_sync_duration_seconds_count 1",
            "percolate_node_apply_duration_seconds_count 1",
            concat!(
                "percolate_node_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in\n{text}"
            );
        }
        #[cfg(target_os = "linux")]
        assert!(
            !text.contains("percolate_node_resident_bytes 0"),
            "memory was not read:\n{text}"
        );
    }
}
