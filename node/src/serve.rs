//! `percolate serve`: a replica in a pod. Puts the parts together, and takes them down in order.
//!
//! ```text
//! quarantine ─▶ store ─▶ driver ─▶ handle ─▶ API (8000)   stop: hand over ─▶ API drains ─▶ links ─▶ store
//!                 │        ▲└────▶ links (7400)           fault: mark ─▶ termination message
//!                scrub     └─────▶ health (9100)
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use percolate_core::identity::ReplicaId;
use percolate_core::replica::Timing;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bulk::Bulk;
use crate::cli;
use crate::driver::{Driver, DriverError, Ended, Ends, Options};
use crate::fault::Found;
use crate::health::{self, Health, Liveness};
use crate::metrics::{Metrics, counted};
use crate::quarantine::{self, Place, mark};
use crate::register::Registry;
use crate::register::kubernetes::KubernetesRegister;
use crate::scrub::{Pacing, Scrubber};
use crate::server::{self, App, HttpForwarder, Limits, TokenSource, Watches};
use crate::store::{OpenError, Store};
use crate::tenant::Status;
use crate::termination;
use crate::tls::{self, Security, Tls};
use crate::transport::{LinkService, Network};

/// A pod that stops is taken out of its Services within about a second, but not at once. Until then
/// what is sent here is answered, or forwarded; a connection to a pod that is gone would hang.
const LINGER: Duration = Duration::from_secs(2);

/// Connections to the port of health and metrics: the kubelet and a few who scrape.
const HEALTH_CONNECTIONS: usize = 32;

/// What is to be done when a replica has ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it was told to stop.
    Stop,
    /// Begin anew: a snapshot takes the place of its store.
    BeginAnew,
}

/// Run a replica until it is told to stop, or has to begin anew.
pub async fn run(options: cli::Serve) -> anyhow::Result<Next> {
    let ended = run_replica(&options).await;
    if let Some(found) = ended.as_ref().err().and_then(found_in) {
        conclude(&options, &found);
    }
    ended
}

/// What is wrong with the disk, if that is why this replica ended.
fn found_in(error: &anyhow::Error) -> Option<Found> {
    error.chain().find_map(|cause| {
        let driver = cause.downcast_ref().and_then(DriverError::found);
        let opening = || cause.downcast_ref().and_then(OpenError::found);
        driver
            .or_else(opening)
            .or_else(|| cause.downcast_ref::<Found>().cloned())
    })
}

/// Nothing of this replica may serve any more that is not to be trusted, and people are told.
fn conclude(options: &cli::Serve, found: &Found) {
    if found.fault.spoils_data()
        && !mark::is_there(&options.data_dir)
        && let Err(error) = mark::set(&options.data_dir, found)
    {
        tracing::error!(%error, "cannot mark the store");
    }
    termination::tell(&options.termination_log, found);
}

async fn run_replica(options: &cli::Serve) -> anyhow::Result<Next> {
    let tls = Tls::load(&options.tls_dir).context("cannot load the certificates")?;
    let registry = KubernetesRegister::connect(&options.namespace, &options.register).await?;
    let (metrics, liveness) = (Arc::new(Metrics::new()), Liveness::default());
    if !settle(options, &registry, &metrics, &liveness).await? {
        return Ok(Next::Stop);
    }
    let store =
        Store::open(&options.data_dir, ReplicaId(random())).context("cannot open the store")?;
    let store = Arc::new(store);
    let bulk = Bulk::start().map_err(DriverError::Threads)?;
    let (driver, ends) = Driver::new(
        Arc::clone(&store),
        Arc::new(registry),
        network(options, &tls, &bulk),
        driver_options(options),
        Arc::clone(&metrics),
        liveness.clone(),
    )?;
    let replica_id = store.durable().replica_id;
    tracing::info!(tenant = %options.tenant_id, %replica_id, pod = %options.pod, "starting");
    let pacing = Pacing::at(options.scrub_bytes_per_second);
    let _scrubber =
        Scrubber::start(store, pacing, Arc::clone(&metrics)).map_err(DriverError::Threads)?;
    let watch_tls = tokio::spawn(tls.clone().watch());
    let health = Health {
        liveness,
        status: ends.status.clone(),
        metrics: Arc::clone(&metrics),
    };
    let health = tokio::spawn(serve_health(bind(options.health_listen).await?, health));
    let driver = tokio::spawn(driver.run());
    let security = Security::Mutual {
        tls: tls.clone(),
        bulk: bulk.handle(),
    };
    let ended = serve(options, tls, security, ends, metrics, replica_id, driver).await;
    watch_tls.abort();
    health.abort();
    ended
}

/// See to what hinders the store from being opened, alive but not ready meanwhile. Whether it may be
/// opened then: otherwise this replica was told to stop.
async fn settle(
    options: &cli::Serve,
    registry: &dyn Registry,
    metrics: &Arc<Metrics>,
    liveness: &Liveness,
) -> anyhow::Result<bool> {
    let place = Place::new(&options.data_dir, &options.pod);
    if !place.is_hindered() {
        return Ok(true);
    }
    let (_status, unready) = watch::channel(Status::joining(ReplicaId(0)));
    let health = Health {
        liveness: liveness.clone(),
        status: unready,
        metrics: Arc::clone(metrics),
    };
    let health = tokio::spawn(serve_health(bind(options.health_listen).await?, health));
    let settled = tokio::select! {
        settled = quarantine::settle(&place, registry, liveness) => settled.map(|()| true),
        () = told_to_stop() => Ok(false),
    };
    health.abort();
    let _ = health.await; // the port is free again
    Ok(settled?)
}

async fn serve_health(listener: TcpListener, health: Health) {
    let limits = tls::Limits {
        connections: HEALTH_CONNECTIONS,
        ..tls::Limits::default()
    };
    let never = CancellationToken::new();
    tls::serve(
        listener,
        Security::None,
        health::router(health),
        limits,
        never,
    )
    .await;
}

fn driver_options(options: &cli::Serve) -> Options {
    let (domain, port) = (options.peer_domain.clone(), options.api_listen.port());
    Options {
        pod: options.pod.clone(),
        timing: Timing::new(options.heartbeat_ms, options.takeover_after_ms),
        log_keep_bytes: options.log_keep_bytes,
        snapshot_bytes_per_second: options.snapshot_bytes_per_second,
        api_url: Box::new(move |pod| format!("https://{pod}.{domain}:{port}")),
        entropy: random(),
    }
}

fn network(options: &cli::Serve, tls: &Tls, bulk: &Bulk) -> Network {
    let (domain, port) = (options.peer_domain.clone(), options.peer_listen.port());
    let address = move |pod: &str| format!("https://{pod}.{domain}:{port}");
    Network::new(tls, bulk.handle(), address)
}

/// The two TLS ports, until a signal or the driver's end.
async fn serve(
    options: &cli::Serve,
    tls: Tls,
    between_nodes: Security,
    ends: Ends,
    metrics: Arc<Metrics>,
    replica_id: ReplicaId,
    mut driver: tokio::task::JoinHandle<Result<Ended, DriverError>>,
) -> anyhow::Result<Next> {
    let (stop_api, stop_links) = (CancellationToken::new(), CancellationToken::new());
    let watches = Watches::new(
        Limits::default().watches,
        Arc::clone(&metrics),
        stop_api.clone(),
    );
    let app = app(options, &tls, &ends, watches)?;
    let links = LinkService::router(
        replica_id,
        ends.inputs.clone(),
        ends.status.clone(),
        ends.outgoing.clone(),
    );
    let (api_port, peer_port) = (
        bind(options.api_listen).await?,
        bind(options.peer_listen).await?,
    );
    let open = Security::Open(tls.clone());
    let limits = tls::Limits::default();
    let api = tokio::spawn(tls::serve(
        api_port,
        open,
        counted(server::router(app), metrics),
        limits,
        stop_api.clone(),
    ));
    let links = tokio::spawn(tls::serve(
        peer_port,
        between_nodes,
        links,
        limits,
        stop_links.clone(),
    ));
    tokio::select! {
        ended = &mut driver => {
            // Nothing can be acknowledged without it, and only a new process can tell what is on the disk.
            let Ended::SnapshotReady =
                ended.context("the driver panicked")?.context("this replica stops")?;
            return Ok(Next::BeginAnew);
        }
        () = told_to_stop() => {}
    }
    tracing::info!("told to stop");
    // First the lead, then the API: what arrives meanwhile is forwarded to the new leader.
    let handed_over = ends.handle.hand_over().await;
    tracing::info!(handed_over, "letting requests finish");
    tokio::time::sleep(LINGER).await;
    stop_api.cancel();
    let _ = api.await;
    stop_links.cancel();
    links.abort();
    driver.abort();
    let _ = driver.await;
    Ok(Next::Stop)
}

fn app(options: &cli::Serve, tls: &Tls, ends: &Ends, watches: Watches) -> anyhow::Result<App> {
    let forwarder = HttpForwarder::new(tls.client(&["h2", "http/1.1"]))
        .context("cannot make a client of the other replicas")?;
    Ok(App {
        handle: ends.handle.clone(),
        tenant_id: options.tenant_id.clone(),
        node: options.pod.clone(),
        tokens: TokenSource::file(options.admin_token_file.clone()),
        forwarder: Arc::new(forwarder),
        limits: Limits {
            body_bytes: options.body_limit_bytes,
            ..Limits::default()
        },
        watches,
    })
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// SIGTERM is the kubelet's wish, SIGINT a person's.
async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128() ^ rand::random::<u128>()
}
