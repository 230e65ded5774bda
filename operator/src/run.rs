//! From settings to a working operator, and back down in order.
//!
//! ```text
//! caches filled ─▶ ready ─▶ lease ours ─▶ passes … SIGTERM ─▶ passes under way end ─▶ events ─▶ lease released
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, future::join_all, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    runtime::{Controller, controller},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    clients::Clients,
    controller::{
        desired::Surroundings,
        plan::Delays,
        reconcile::{self, Context},
        validate::Defaults,
    },
    events::Events,
    health::{self, Health},
    lease::Candidate,
    metrics::Metrics,
    settings::Settings,
    watches::{Queue, TenantRef, Triggers, Watches},
};

/// How long passes under way may take to end: within the pod's grace period, with time to release
/// the lease.
const DRAIN: Duration = Duration::from_secs(15);

/// Runs until told to stop.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    tracing::info!(?settings, "starting");
    let metrics = Arc::new(Metrics::default());
    let clients = Clients::connect(&metrics)
        .await
        .context("could not find a Kubernetes cluster")?;
    let (events, event_worker) = Events::start(
        clients.write.clone(),
        settings.pod_name.clone(),
        metrics.clone(),
    );
    let stop = CancellationToken::new();
    let ready = Arc::new(AtomicBool::new(false));

    let mut parts = Vec::new();
    for scope in settings.scopes() {
        parts.push(Part::start(scope, &settings, &clients, &events, &metrics));
    }
    drop(events);
    tokio::spawn(serve_health(&settings, &clients, &metrics, &ready, &parts));
    tokio::spawn(stop_on_signal(stop.clone()));

    let mut candidate = Candidate::new(
        Api::<Lease>::namespaced(clients.lease.clone(), &settings.pod_namespace),
        format!("{}_{:016x}", settings.pod_name, rand::random::<u64>()),
    );
    tokio::select! {
        warm = warm_up(&parts, &ready, &mut candidate, settings.without_lease) => warm?,
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!("at work");
    metrics.set_leader(true);

    let work = join_all(
        parts
            .into_iter()
            .map(|part| part.work(settings.concurrency, stop.clone())),
    );
    let keep = async {
        if settings.without_lease {
            std::future::pending().await
        } else {
            candidate.keep().await
        }
    };
    tokio::pin!(work);
    tokio::select! {
        _ = &mut work => {}
        lost = keep => {
            // Somebody else may be at work already: nothing more may be written.
            tracing::error!(error = %lost, "stopping at once");
            std::process::exit(1);
        }
        () = stop.cancelled() => {
            if tokio::time::timeout(DRAIN, &mut work).await.is_err() {
                tracing::warn!("passes under way did not end in time");
            }
        }
    }
    metrics.set_leader(false);
    wind_down(event_worker, candidate, settings.without_lease).await;
    Ok(())
}

/// Fill the caches, then wait for the lease: a standby takes over with caches that are warm.
async fn warm_up(
    parts: &[Part],
    ready: &AtomicBool,
    candidate: &mut Candidate,
    without_lease: bool,
) -> anyhow::Result<()> {
    for part in parts {
        part.context.caches.ready().await?;
    }
    ready.store(true, Ordering::Release);
    tracing::info!("caches are filled");
    if !without_lease {
        candidate.acquire().await;
    }
    Ok(())
}

/// Let the last events out, then the next operator in.
async fn wind_down(
    event_worker: tokio::task::JoinHandle<()>,
    mut candidate: Candidate,
    without_lease: bool,
) {
    let events = tokio::time::timeout(Duration::from_secs(2), event_worker).await;
    if events.is_err() {
        tracing::debug!("events were still waiting");
    }
    if !without_lease {
        candidate.release().await;
    }
    tracing::info!("stopped");
}

/// The operator of one namespace, or of all.
struct Part {
    context: Arc<Context>,
    triggers: Arc<Triggers>,
    queue: Queue,
    watches: tokio::task::JoinSet<()>,
}

impl Part {
    fn start(
        scope: Option<String>,
        settings: &Settings,
        clients: &Clients,
        events: &Events,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (triggers, queue) = Triggers::new();
        let triggers = Arc::new(triggers);
        let (caches, watches) = Watches::start(
            clients.watch.clone(),
            scope,
            triggers.clone(),
            metrics.clone(),
        );
        let context = Context {
            client: clients.write.clone(),
            caches,
            events: events.clone(),
            backoff: Backoff::default(),
            metrics: metrics.clone(),
            defaults: Defaults {
                node_image: settings.node_image.clone(),
            },
            surroundings: Surroundings {
                api_server_ports: settings.api_server_ports.clone(),
            },
            delays: Delays {
                machine_lost: settings.machine_lost_after,
                volume_lost: settings.volume_lost_after,
            },
        };
        Self {
            context: Arc::new(context),
            triggers,
            queue,
            watches,
        }
    }

    /// Looks at tenants until told to stop.
    async fn work(self, concurrency: u16, stop: CancellationToken) {
        let Self {
            context,
            triggers,
            queue,
            watches,
        } = self;
        triggers.open();
        let tenants = context.caches.tenants.clone();
        let all: Vec<TenantRef> = tenants
            .state()
            .iter()
            .map(|tenant| TenantRef::from_obj(&**tenant))
            .collect();
        // Triggers come from our own watches, each with its own backoff: the controller's joint one
        // never sees an error.
        Controller::for_stream(stream::pending(), tenants)
            .with_config(controller::Config::default().concurrency(concurrency))
            .reconcile_on(stream::iter(all).chain(queue.into_stream()))
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(reconcile::reconcile, reconcile::on_error, context)
            .for_each(|_| std::future::ready(()))
            .await;
        drop(watches);
    }
}

fn serve_health(
    settings: &Settings,
    clients: &Clients,
    metrics: &Arc<Metrics>,
    ready: &Arc<AtomicBool>,
    parts: &[Part],
) -> impl Future<Output = ()> + use<> {
    let address = settings.health_address;
    let health = Health {
        ready: ready.clone(),
        watch_activity: clients.watch_activity.clone(),
        metrics: metrics.clone(),
        tenants: parts
            .iter()
            .map(|part| part.context.caches.tenants.clone())
            .collect(),
    };
    async move {
        if let Err(error) = health::serve(address, health).await {
            tracing::error!(%error, %address, "health and metrics cannot be served");
            std::process::exit(1);
        }
    }
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        tracing::error!("SIGTERM cannot be listened for");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("asked to stop");
    stop.cancel();
}
