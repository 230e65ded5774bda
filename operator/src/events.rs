//! Events for `kubectl describe`, on a way that can neither slow a pass down nor fail it.
//!
//! ```text
//! pass ──try_send──▶ bounded queue ──▶ one worker ──▶ API server
//! ```
//!
//! A full queue drops the event and counts it: status holds the truth, an event is only news.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource as _,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use percolate_crds::{PercolateTenant, names};
use tokio::sync::mpsc;

use crate::{controller::status::Happening, metrics::Metrics};

/// Events waiting to be written: a burst of all tenants of a small cluster.
const QUEUE: usize = 512;
/// Longest note the API server accepts.
const MAX_NOTE: usize = 1024;

/// The sending end.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Happening, ObjectReference)>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Starts the worker. It ends when the last sending end is gone and the queue is empty.
    pub fn start(
        client: Client,
        instance: String,
        metrics: Arc<Metrics>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: names::MANAGED_BY.to_owned(),
            instance: Some(instance),
        };
        let worker = tokio::spawn(write(Recorder::new(client, reporter), waiting));
        (Self { queue, metrics }, worker)
    }

    /// Tells about a tenant.
    pub fn send(&self, tenant: &PercolateTenant, happening: Happening) {
        if self
            .queue
            .try_send((happening, tenant.object_ref(&())))
            .is_err()
        {
            self.metrics.event_dropped();
        }
    }
}

async fn write(recorder: Recorder, mut waiting: mpsc::Receiver<(Happening, ObjectReference)>) {
    while let Some((happening, about)) = waiting.recv().await {
        let mut note = happening.note;
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        let event = Event {
            type_: if happening.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: happening.reason,
            note: Some(note),
            action: happening.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::debug!(%error, reason = event.reason, "an event was not written");
        }
    }
}
