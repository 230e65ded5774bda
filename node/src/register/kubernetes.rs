//! The register in a `PercolateReplication` object: compare-and-swap is an update of the status
//! with the `resourceVersion` that was read, linearizable because etcd is.
//!
//! Versions are `resourceVersion`s compared as numbers: a later state of one object has a larger one.
//! An idle tenant costs the API server one open watch and no writes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, ResourceExt};
use percolate_core::register::{Register, Version, View};
use percolate_core::replica::ChangeOutcome;
use percolate_crds::replication::{Failover, PercolateReplication, ReplicationStatus};
use tokio::sync::mpsc;

use super::Registry;

mod convert;

/// Longest wait for an answer of the API server. Past it the outcome is unknown and is read later.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Pause before a broken watch is opened anew, so that a struggling API server is not flooded.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long the API server keeps one watch open.
const WATCH_SECONDS: u32 = 290;

/// Why the register cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// No service account, or one that cannot be read.
    #[error("cannot read the pod's service account: a replica runs in a pod made by the operator")]
    ServiceAccount(#[source] kube::config::InClusterError),
    /// `KUBECONFIG` is set, and what it names does not do.
    #[error("cannot use the cluster that KUBECONFIG names")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// The client cannot be made.
    #[error("cannot make a client of the Kubernetes API")]
    Client(#[source] Box<kube::Error>),
}

/// The register of one tenant.
pub struct KubernetesRegister {
    name: String,
    /// For reads and changes: answers within [`ANSWER_WITHIN`] or not at all, and never retries.
    calls: Api<PercolateReplication>,
    /// For the watch, which is silent for as long as nothing changes.
    watches: Api<PercolateReplication>,
    /// The latest object seen: what people see of a failover is kept as it was written.
    latest: Mutex<Option<PercolateReplication>>,
}

impl KubernetesRegister {
    /// The register `name` in `namespace`, reached with the pod's service account, or as `KUBECONFIG`
    /// says where that is set: for a replica that runs in no pod.
    pub async fn connect(namespace: &str, name: &str) -> Result<Self, KubernetesError> {
        let found = if std::env::var_os("KUBECONFIG").is_some() {
            kube::Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .map_err(|error| KubernetesError::Kubeconfig(Box::new(error)))?
        } else {
            kube::Config::incluster().map_err(KubernetesError::ServiceAccount)?
        };
        let client = |read_timeout| {
            let mut config = found.clone();
            config.default_retry = false;
            config.connect_timeout = Some(ANSWER_WITHIN);
            config.read_timeout = read_timeout;
            Client::try_from(config).map_err(|error| KubernetesError::Client(Box::new(error)))
        };
        Ok(Self::new(
            client(Some(ANSWER_WITHIN))?,
            client(None)?,
            namespace,
            name,
        ))
    }

    /// The same with clients made elsewhere.
    pub fn new(calls: Client, watches: Client, namespace: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            calls: Api::namespaced(calls, namespace),
            watches: Api::namespaced(watches, namespace),
            latest: Mutex::new(None),
        }
    }

    fn view(&self, object: PercolateReplication) -> Option<View> {
        let version = object.resource_version()?.parse().ok()?;
        let view = convert::view(version, &object);
        if let Err(error) = &view {
            tracing::error!(register = %self.name, %error, "the register is not readable");
        }
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest
            .as_ref()
            .and_then(|known| known.resource_version()?.parse::<Version>().ok());
        if known.is_none_or(|known| known < version) {
            *latest = Some(object);
        }
        view.ok()
    }

    async fn try_change(&self, expected: Version, register: Register) -> ChangeOutcome {
        let last_failover = self.last_failover(&register);
        let mut object = PercolateReplication::new(
            &self.name,
            percolate_crds::replication::ReplicationSpec::default(),
        );
        object.metadata.resource_version = Some(expected.to_string());
        object.spec.min_in_sync = 1; // the spec of a status update is ignored, but has to be valid
        object.status = Some(ReplicationStatus {
            last_failover,
            ..convert::status(&register)
        });
        let parameters = PostParams::default();
        let change = self.calls.replace_status(&self.name, &parameters, &object);
        match tokio::time::timeout(ANSWER_WITHIN, change).await {
            Ok(Ok(changed)) => self
                .view(changed)
                .map_or(ChangeOutcome::NotKnownApplied, |view| {
                    ChangeOutcome::Applied(Box::new(view))
                }),
            Ok(Err(kube::Error::Api(refusal))) if refusal.code == 409 => {
                ChangeOutcome::NotKnownApplied
            }
            Ok(Err(error)) => {
                tracing::warn!(register = %self.name, %error, "the register was not changed, as far as is known");
                ChangeOutcome::NotKnownApplied
            }
            Err(_) => {
                tracing::warn!(register = %self.name, "no answer to a change of the register");
                ChangeOutcome::NotKnownApplied
            }
        }
    }

    /// The times of a failover are taken when it is entered, and kept from then on.
    fn last_failover(&self, register: &Register) -> Option<Failover> {
        let failover = register.last_failover.as_ref()?;
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let entered = latest
            .as_ref()
            .and_then(|object| object.status.as_ref()?.last_failover.clone());
        if let Some(entered) =
            entered.filter(|entered| u64::try_from(entered.epoch) == Ok(failover.epoch))
        {
            return Some(Failover {
                rescued: convert::number(failover.rescued),
                ..entered
            });
        }
        let now = Timestamp::now();
        let silence = SignedDuration::from_millis(i64::try_from(failover.silent_ms).unwrap_or(0));
        Some(Failover {
            detected_at: now.checked_sub(silence).ok().map(MicroTime),
            promoted_at: Some(MicroTime(now)),
            ..convert::failover(register, failover)
        })
    }

    /// One watch from the object's present state until the API server ends it.
    async fn watch_once(&self, views: &mpsc::Sender<View>) -> Result<(), kube::Error> {
        let object = self.watches.get(&self.name).await?;
        let version = object.resource_version().unwrap_or_default();
        if let Some(view) = self.view(object) {
            let _ = views.send(view).await;
        }
        let only_this = WatchParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(WATCH_SECONDS);
        let mut events = self.watches.watch(&only_this, &version).await?.boxed();
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    if let Some(view) = self.view(object) {
                        let _ = views.send(view).await;
                    }
                }
                WatchEvent::Error(error) => return Err(kube::Error::Api(error)),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            }
        }
        Ok(())
    }
}

impl Registry for KubernetesRegister {
    fn read(&self) -> BoxFuture<'_, Option<View>> {
        async {
            match tokio::time::timeout(ANSWER_WITHIN, self.calls.get(&self.name)).await {
                Ok(Ok(object)) => self.view(object),
                Ok(Err(error)) => {
                    tracing::warn!(register = %self.name, %error, "cannot read the register");
                    None
                }
                Err(_) => {
                    tracing::warn!(register = %self.name, "no answer to a read of the register");
                    None
                }
            }
        }
        .boxed()
    }

    fn change(&self, expected: Version, register: Register) -> BoxFuture<'_, ChangeOutcome> {
        self.try_change(expected, register).boxed()
    }

    fn follow(&self, views: mpsc::Sender<View>) -> BoxFuture<'_, ()> {
        async move {
            while !views.is_closed() {
                let began = tokio::time::Instant::now();
                if let Err(error) = self.watch_once(&views).await {
                    tracing::debug!(register = %self.name, %error, "the watch of the register broke");
                }
                if began.elapsed() < WATCH_AGAIN_AFTER {
                    tokio::time::sleep(WATCH_AGAIN_AFTER).await;
                }
            }
        }
        .boxed()
    }
}
