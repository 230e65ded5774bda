//! The caches, and what keeps them up to date.
//!
//! ```text
//! API server ══watch══▶ one task per kind ──▶ Store (pruned)
//!                                   └──▶ Triggers ──▶ controller (tenants to look at)
//! ```
//!
//! Each kind has its own task, its own backoff and its own error count: a watch that fails (no
//! permission, no CRD yet, no network) stops neither the others nor the controller. Deletions reach
//! the tenant like every other change, also those that happened while a watch was down: after each
//! new listing everything that was or is known is looked at again. Objects are pruned before they
//! are kept, because thousands of tenants are kept.

pub mod prune;
pub mod triggers;

use std::{collections::HashSet, fmt::Debug, sync::Arc};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        reflector::{
            ObjectRef, Store, store,
            store::{Writer, WriterDropped},
        },
        watcher::{self, Event, watcher},
    },
};
use percolate_crds::{PercolateReplication, PercolateTenant, names};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::metrics::Metrics;
pub use triggers::{Queue, TenantRef, Triggers};

/// Objects per page of a listing: bounds what one page costs in memory.
const PAGE_SIZE: u32 = 250;

/// The caches of everything the operator looks at.
pub struct Caches {
    /// Tenants.
    pub tenants: Store<PercolateTenant>,
    /// Registers.
    pub registers: Store<PercolateReplication>,
    /// `StatefulSets`.
    pub stateful_sets: Store<StatefulSet>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Volume claims.
    pub claims: Store<PersistentVolumeClaim>,
    /// Machines.
    pub nodes: Store<Node>,
    /// Credentials.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Environments.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Ways to reach nodes.
    pub services: Store<PartialObjectMeta<Service>>,
    /// Identities.
    pub service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// Permissions.
    pub roles: Store<PartialObjectMeta<Role>>,
    /// Who has them.
    pub role_bindings: Store<PartialObjectMeta<RoleBinding>>,
    /// Disruption budgets.
    pub budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    /// Network policies.
    pub policies: Store<PartialObjectMeta<NetworkPolicy>>,
}

impl Caches {
    /// Waits until every cache has been filled once: a decision on half a view is a wrong one.
    pub async fn ready(&self) -> Result<(), WriterDropped> {
        self.tenants.wait_until_ready().await?;
        self.registers.wait_until_ready().await?;
        self.stateful_sets.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.claims.wait_until_ready().await?;
        self.nodes.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.roles.wait_until_ready().await?;
        self.role_bindings.wait_until_ready().await?;
        self.budgets.wait_until_ready().await?;
        self.policies.wait_until_ready().await
    }
}

/// Starts watches, one task for each kind.
pub struct Watches {
    client: Client,
    namespace: Option<String>,
    triggers: Arc<Triggers>,
    metrics: Arc<Metrics>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Fills caches of one namespace, or of all. The tasks end when the set returned is dropped.
    pub fn start(
        client: Client,
        namespace: Option<String>,
        triggers: Arc<Triggers>,
        metrics: Arc<Metrics>,
    ) -> (Caches, JoinSet<()>) {
        let mut watches = Self {
            client,
            namespace,
            triggers,
            metrics,
            tasks: JoinSet::new(),
        };
        let caches = Caches {
            tenants: watches.tenants(),
            registers: watches.children(prune::metadata),
            stateful_sets: watches.children(prune::stateful_set),
            pods: watches.children(prune::pod),
            claims: watches.children(prune::claim),
            nodes: watches.nodes(),
            secrets: watches.metadata(),
            config_maps: watches.metadata(),
            services: watches.metadata(),
            service_accounts: watches.metadata(),
            roles: watches.metadata(),
            role_bindings: watches.metadata(),
            budgets: watches.metadata(),
            policies: watches.metadata(),
        };
        (caches, watches.tasks)
    }

    fn tenants(&mut self) -> Store<PercolateTenant> {
        let api = self.api();
        self.watch(
            api,
            config(),
            prune::metadata,
            |tenant: &PercolateTenant| Some(TenantRef::from_obj(tenant)),
        )
    }

    /// Nodes bring no trigger: a node that falls silent makes its pods unready, and they do.
    fn nodes(&mut self) -> Store<Node> {
        let api = Api::all(self.client.clone());
        self.watch(api, config(), prune::node, |_| None)
    }

    fn children<K>(&mut self, prune: fn(&mut K)) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let api = self.api();
        self.watch(
            api,
            config().labels(&names::managed_selector()),
            prune,
            tenant_of,
        )
    }

    fn metadata<K>(&mut self) -> Store<PartialObjectMeta<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.children(prune::metadata::<PartialObjectMeta<K>>)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn watch<K>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        prune: fn(&mut K),
        tenant_of: fn(&K) -> Option<TenantRef>,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = store();
        let triggers = self.triggers.clone();
        let metrics = self.metrics.clone();
        self.tasks.spawn(fill(
            api, config, writer, prune, tenant_of, triggers, metrics,
        ));
        reader
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

/// The tenant a child's label names.
fn tenant_of<K: Resource<DynamicType = ()>>(object: &K) -> Option<TenantRef> {
    let tenant = object.labels().get(names::TENANT_LABEL)?;
    Some(ObjectRef::new(tenant).within(object.namespace().as_deref().unwrap_or_default()))
}

/// Keeps one cache up to date, for ever.
async fn fill<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    prune: fn(&mut K),
    tenant_of: fn(&K) -> Option<TenantRef>,
    triggers: Arc<Triggers>,
    metrics: Arc<Metrics>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let kind = K::kind(&()).into_owned();
    let reader = writer.as_reader();
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut known_before: HashSet<TenantRef> = HashSet::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(prune),
            Err(error) => {
                metrics.watch_failed(&kind);
                tracing::warn!(kind, %error, "a watch failed and is tried again");
                continue;
            }
        };
        if matches!(event, Event::Init) {
            known_before = reader
                .state()
                .iter()
                .filter_map(|object| tenant_of(object))
                .collect();
        }
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(object) | Event::Delete(object) => {
                if let Some(tenant) = tenant_of(object) {
                    triggers.send(tenant);
                }
            }
            Event::InitDone => {
                let state = reader.state();
                let now = state.iter().filter_map(|object| tenant_of(object));
                for tenant in now.chain(known_before.drain()).collect::<HashSet<_>>() {
                    triggers.send(tenant);
                }
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}
