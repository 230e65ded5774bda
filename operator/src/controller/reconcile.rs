//! The pass itself, and what drives it.
//!
//! In: a tenant from the cache. Out: its objects as they should be, its status, its events, and when
//! to look again. The steps are those of `crate::controller`; this file only puts them in order.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use percolate_crds::{
    GROUP, PercolateTenant, VERSION, names,
    tenant::{DeletionPolicy, TenantStatus},
};
use serde_json::json;

use super::{
    apply::Applier,
    desired::{Surroundings, desired},
    observe::{Observed, read},
    plan::{Act, Delays, Note, Plan, plan},
    status::{self, happenings},
    validate::{Defaults, Tenant, validate},
};
use crate::{
    backoff::Backoff,
    credentials,
    error::{ErrorKind, ReconcileError},
    events::Events,
    metrics::Metrics,
    watches::{Caches, TenantRef},
};

/// Longest a pass may take: it frees its place even when the API server never answers.
const PASS_LIMIT: Duration = Duration::from_mins(1);
/// A settled tenant is looked at again after this at the earliest, and twice this at the latest:
/// spread, so that tenants created together are not looked at together for ever.
const RESYNC: Duration = Duration::from_mins(15);
/// A hindered tenant is looked at again after this: what hinders it may lie outside what is watched.
const RECHECK: Duration = Duration::from_mins(1);

/// What a pass needs besides the tenant.
pub struct Context {
    /// For writes, and the few reads that are not cached.
    pub client: kube::Client,
    /// Everything that is cached.
    pub caches: Caches,
    /// Where events go.
    pub events: Events,
    /// Failures so far.
    pub backoff: Backoff,
    /// Counts and times.
    pub metrics: Arc<Metrics>,
    /// What tenants get where they say nothing.
    pub defaults: Defaults,
    /// What is true of the cluster.
    pub surroundings: Surroundings,
    /// How long to wait before something is taken for lost.
    pub delays: Delays,
}

/// Looks at one tenant.
pub async fn reconcile(
    object: Arc<PercolateTenant>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = std::time::Instant::now();
    let tenant = TenantRef::from_obj(&*object);
    let result = match tokio::time::timeout(PASS_LIMIT, pass(&object, &tenant, &context)).await {
        Ok(result) => result,
        Err(_) => Err(ReconcileError::TimedOut(PASS_LIMIT)),
    };
    context.metrics.reconciled(started.elapsed(), &result);
    if result.is_ok() {
        context.backoff.succeeded(&tenant);
    }
    result
}

/// When to try again after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn on_error(
    object: Arc<PercolateTenant>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    let tenant = TenantRef::from_obj(&*object);
    let kind = error.kind();
    let wait = context.backoff.failed(&tenant, kind, rand::random());
    if kind == ErrorKind::Conflict {
        tracing::debug!(%tenant, error = error.chain(), "looking again");
    } else {
        tracing::warn!(%tenant, error = error.chain(), ?wait, "a pass over a tenant failed");
    }
    Action::requeue(wait)
}

async fn pass(
    object: &PercolateTenant,
    reference: &TenantRef,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let now = read::now();
    let tenant = match validate(object, &context.defaults) {
        Ok(tenant) => tenant,
        Err(error) => {
            let error = ReconcileError::from(error);
            refuse(object, context, &error, now).await?;
            return Err(error);
        }
    };
    if tenant.deleted_at.is_some() && !tenant.deletion_protection {
        let_go(object, context, &tenant).await?;
        return Ok(Action::await_change());
    }
    let observed = read::observe(&tenant, &context.caches, &context.client)
        .await
        .map_err(ReconcileError::call("look at the tenant's volumes"))?;
    let plan = plan(&tenant, &observed, &context.delays, now);
    let outcome = if tenant.suspend {
        Ok(())
    } else {
        carry_out(object, context, &tenant, &observed, &plan, now).await
    };
    report(
        object, reference, context, &tenant, &observed, &plan, &outcome, now,
    )
    .await?;
    outcome?;
    Ok(Action::requeue(next_look(&tenant, &observed, &plan, now)))
}

/// The last pass over a tenant. Owner references do the rest, but for the volumes of a tenant that
/// was protected: as long as it was, its StatefulSet was to leave them behind.
async fn let_go(
    object: &PercolateTenant,
    context: &Context,
    tenant: &Tenant,
) -> Result<(), ReconcileError> {
    if is_protected(object) && tenant.deletion_policy == DeletionPolicy::Delete {
        let observed = read::observe(tenant, &context.caches, &context.client)
            .await
            .map_err(ReconcileError::call("look at the tenant's volumes"))?;
        let claims = observed.claims.values().filter(|claim| !claim.deleting);
        let acts: Vec<Act> = claims
            .map(|claim| Act::DeleteClaim {
                name: claim.name.clone(),
                uid: claim.uid.clone(),
                why: "its tenant is deleted, whose deletionPolicy is Delete".to_owned(),
            })
            .collect();
        let applier = Applier {
            client: &context.client,
            tenant,
            observed: &observed,
            metrics: &context.metrics,
        };
        applier
            .act(&acts, |happening| {
                context.events.send(object, happening);
            })
            .await?;
    }
    protect(object, context, false).await
}

fn is_protected(object: &PercolateTenant) -> bool {
    let finalizers = object.finalizers();
    finalizers.contains(&names::PROTECTION_FINALIZER.to_owned())
}

/// Makes the cluster be as planned.
async fn carry_out(
    object: &PercolateTenant,
    context: &Context,
    tenant: &Tenant,
    observed: &Observed,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    protect(object, context, tenant.deletion_protection).await?;
    if plan.register.is_none() {
        // Nothing may be made yet.
        return Ok(());
    }
    if credentials::is_due(tenant, observed, now) {
        credentials::renew(&context.client, tenant, now).await?;
    }
    let applier = Applier {
        client: &context.client,
        tenant,
        observed,
        metrics: &context.metrics,
    };
    let objects = desired(tenant, plan, observed, &context.surroundings);
    let made = applier.apply(&objects).await;
    let acted = applier
        .act(&plan.acts, |happening| {
            context.events.send(object, happening);
        })
        .await;
    made.and(acted)
}

/// Puts the finalizer there or takes it away.
async fn protect(
    object: &PercolateTenant,
    context: &Context,
    wanted: bool,
) -> Result<(), ReconcileError> {
    let present = is_protected(object);
    // A finalizer cannot be added once deletion has begun.
    if present == wanted || (wanted && object.metadata.deletion_timestamp.is_some()) {
        return Ok(());
    }
    let mut finalizers: Vec<&str> = object.finalizers().iter().map(String::as_str).collect();
    if wanted {
        finalizers.push(names::PROTECTION_FINALIZER);
    } else {
        finalizers.retain(|finalizer| *finalizer != names::PROTECTION_FINALIZER);
    }
    let patch = json!({"metadata": {
        // Finalizers of others, added since, must not be lost.
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    tenants(object, context)
        .patch_metadata(&object.name_any(), &manager(), &Patch::Merge(&patch))
        .await
        .map_err(ReconcileError::call("set the tenant's finalizer"))?;
    Ok(())
}

/// Writes status and events, where there is anything new to tell.
#[expect(clippy::too_many_arguments, reason = "everything a pass has found out")]
async fn report(
    object: &PercolateTenant,
    reference: &TenantRef,
    context: &Context,
    tenant: &Tenant,
    observed: &Observed,
    plan: &Plan,
    outcome: &Result<(), ReconcileError>,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let failure = outcome.as_ref().err().and_then(|error| {
        let kind = error.kind();
        let reason = kind.reason()?;
        context
            .backoff
            .is_worth_telling(reference, kind)
            .then(|| Note::new(reason, error.chain()))
    });
    let previous = object.status.as_ref();
    let next = status::status(tenant, observed, plan, failure.as_ref(), previous, now);
    publish(object, context, previous, next).await
}

/// Tells that nothing can be made of a manifest.
async fn refuse(
    object: &PercolateTenant,
    context: &Context,
    error: &ReconcileError,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let Some(reason) = error.kind().reason() else {
        return Ok(());
    };
    let note = Note::new(reason, error.chain());
    let previous = object.status.as_ref();
    let generation = object.metadata.generation.unwrap_or_default();
    let next = status::invalid(generation, &note, previous, now);
    publish(object, context, previous, next).await
}

async fn publish(
    object: &PercolateTenant,
    context: &Context,
    previous: Option<&TenantStatus>,
    next: TenantStatus,
) -> Result<(), ReconcileError> {
    if previous == Some(&next) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "PercolateTenant",
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": next,
    });
    tenants(object, context)
        .patch_status(
            &object.name_any(),
            &manager().force(),
            &Patch::Apply(&patch),
        )
        .await
        .map_err(ReconcileError::call("write the tenant's status"))?;
    for happening in happenings(previous, &next) {
        context.events.send(object, happening);
    }
    Ok(())
}

fn tenants(object: &PercolateTenant, context: &Context) -> Api<PercolateTenant> {
    Api::namespaced(
        context.client.clone(),
        object.namespace().as_deref().unwrap_or_default(),
    )
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(names::MANAGED_BY.to_owned()),
        ..PatchParams::default()
    }
}

/// When to look again although nothing has happened.
fn next_look(tenant: &Tenant, observed: &Observed, plan: &Plan, now: Timestamp) -> Duration {
    let resync = RESYNC.mul_f64(1.0 + rand::random::<f64>());
    let hindered = (!plan.hindrances.is_empty() || plan.register.is_none()).then_some(RECHECK);
    let renewal = credentials::next_due(tenant, observed)
        .map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default());
    [Some(resync), plan.look_again, hindered, renewal]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(resync)
}
