//! What the search for damage counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    result: &'static str,
}

/// The counters and gauges of `percolate_node_scrub…`.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    pass_bytes: Gauge<u64, AtomicU64>,
    passes: Family<PassLabels, Counter>,
}

impl Scrubbing {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "scrub_pass_bytes",
            "How much of the store the present or latest search for damage has read",
            self.pass_bytes.clone(),
        );
        registry.register(
            "scrub_passes",
            "Searches of the store for damage",
            self.passes.clone(),
        );
    }
}

impl Metrics {
    /// A pass over the store's files begins.
    pub fn scrub_begins(&self) {
        self.scrubbing.pass_bytes.set(0);
    }

    /// So many more bytes were read.
    pub fn scrubbed(&self, bytes: u64) {
        self.scrubbing.pass_bytes.inc_by(bytes);
    }

    /// A pass is over; whether all was whole.
    pub fn scrub_ends(&self, whole: bool) {
        let result = if whole { "whole" } else { "damaged" };
        let labels = PassLabels { result };
        self.scrubbing.passes.get_or_create(&labels).inc();
    }
}
