//! What the operator counts. No label names a tenant: with thousands of them a metric would be a
//! database. Counts by condition say how many to look for; `kubectl get ptenant` says which.

use std::{fmt::Write as _, sync::atomic::AtomicI64, time::Duration};

use kube::runtime::controller::Action;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{controller::observe::ChildKind, error::ReconcileError};

/// Everything counted.
pub struct Metrics {
    registry: Registry,
    durations: Histogram,
    passes: Family<ResultLabel, Counter>,
    errors: Family<KindLabel, Counter>,
    applies: Family<ApplyLabels, Counter>,
    watch_errors: Family<KindLabel, Counter>,
    requests: Family<ClientLabels, Counter>,
    events_dropped: Counter,
    leader: Gauge,
    tenants: Family<ConditionLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApplyLabels {
    kind: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClientLabels {
    client: &'static str,
    method: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConditionLabels {
    condition: String,
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// What became of a desired object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was as wanted.
    Skipped,
    /// It was not there.
    Created,
    /// It was different.
    Patched,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Created => "created",
            Self::Patched => "patched",
        }
    }
}

impl Default for Metrics {
    /// All at zero.
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("percolate_operator"),
            durations: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            passes: Family::default(),
            errors: Family::default(),
            applies: Family::default(),
            watch_errors: Family::default(),
            requests: Family::default(),
            events_dropped: Counter::default(),
            leader: Gauge::default(),
            tenants: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "reconcile_duration_seconds",
            "How long a pass over a tenant took",
            self.durations.clone(),
        );
        registry.register(
            "reconciles",
            "Passes over tenants, by result",
            self.passes.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Failed passes, by kind of error",
            self.errors.clone(),
        );
        registry.register(
            "applies",
            "Desired objects, by kind and by what became of them",
            self.applies.clone(),
        );
        registry.register(
            "watch_errors",
            "Failures of a watch, by kind of object",
            self.watch_errors.clone(),
        );
        registry.register(
            "kube_requests",
            "Requests to the API server, by client and method",
            self.requests.clone(),
        );
        registry.register(
            "events_dropped",
            "Events not written because the queue was full",
            self.events_dropped.clone(),
        );
        registry.register(
            "leader",
            "Whether this operator is the one at work",
            self.leader.clone(),
        );
        registry.register(
            "tenants",
            "Tenants by condition and status",
            self.tenants.clone(),
        );
        let build = Family::<BuildLabels, Gauge<i64, AtomicI64>>::default();
        build
            .get_or_create(&BuildLabels {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        registry.register("build_info", "Version of the operator", build);
    }

    /// A pass has ended.
    pub fn reconciled(&self, took: Duration, result: &Result<Action, ReconcileError>) {
        self.durations.observe(took.as_secs_f64());
        let label = match result {
            Ok(_) => "ok",
            Err(_) => "error",
        };
        self.passes
            .get_or_create(&ResultLabel { result: label })
            .inc();
        if let Err(error) = result {
            self.errors
                .get_or_create(&KindLabel {
                    kind: error.kind().label().to_owned(),
                })
                .inc();
        }
    }

    /// A desired object has been dealt with.
    pub fn applied(&self, kind: ChildKind, outcome: Outcome) {
        self.applies
            .get_or_create(&ApplyLabels {
                kind: format!("{kind:?}"),
                outcome: outcome.label(),
            })
            .inc();
    }

    /// A watch has failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors
            .get_or_create(&KindLabel {
                kind: kind.to_owned(),
            })
            .inc();
    }

    /// A request goes to the API server.
    pub fn requested(&self, client: &'static str, method: &str) {
        self.requests
            .get_or_create(&ClientLabels {
                client,
                method: method.to_owned(),
            })
            .inc();
    }

    /// An event was not written.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Whether this operator is at work.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// The text a scraper gets. `conditions` are those of all tenants.
    pub fn text(&self, conditions: impl Iterator<Item = (String, String)>) -> String {
        self.tenants.clear();
        for (condition, status) in conditions {
            self.tenants
                .get_or_create(&ConditionLabels { condition, status })
                .inc();
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            // Only a failing writer can fail, and a String does not.
            let _ = writeln!(text, "# {error}");
        }
        text
    }

    /// Writes a test can count.
    #[cfg(test)]
    pub fn writes(&self) -> u64 {
        ["created", "patched"]
            .iter()
            .map(|outcome| {
                self.text(std::iter::empty())
                    .lines()
                    .filter(|line| line.contains("applies_total") && line.contains(outcome))
                    .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                    .sum::<u64>()
            })
            .sum()
    }
}
