//! Makes the cluster be as decided. The only place, with `credentials`, that writes.
//!
//! In: desired objects and acts. Out: writes, and nothing else; no choice is left here. An object is
//! written by server-side apply, only when the hash of what is wanted differs from the one on the
//! object, and never when the object is somebody else's. One object that cannot be written does not
//! keep the others from it, nor repairs from being made: the first error is reported at the end.

use k8s_openapi::api::{
    apps::v1 as apps, core::v1 as core, networking::v1 as networking, policy::v1 as policy,
    rbac::v1 as rbac,
};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions,
        PropagationPolicy,
    },
};
use percolate_crds::{PercolateReplication, PercolateTenant, names};
use serde_json::json;

use super::{
    desired::Desired,
    observe::{Child, ChildKind, Observed, read::child},
    plan::Act,
    status::Happening,
    validate::Tenant,
};
use crate::{
    error::ReconcileError,
    metrics::{Metrics, Outcome},
};

/// What the API server says when a StatefulSet is to change where it cannot.
const IMMUTABLE_SET: &str = "updates to statefulset spec for fields other than";

/// Writes for one tenant.
pub struct Applier<'a> {
    /// For writes.
    pub client: &'a Client,
    /// Whose objects.
    pub tenant: &'a Tenant,
    /// What was seen.
    pub observed: &'a Observed,
    /// Counts.
    pub metrics: &'a Metrics,
}

impl Applier<'_> {
    /// Writes what differs.
    pub async fn apply(&self, desired: &[Desired]) -> Result<(), ReconcileError> {
        let mut first_error = Ok(());
        for wanted in desired {
            let result = self.apply_one(wanted).await;
            let stop = result.is_err() && wanted.kind == ChildKind::PercolateReplication;
            first_error = first_error.and(result);
            if stop {
                // Pods without their register would find an empty one later: never that way round.
                break;
            }
        }
        first_error
    }

    async fn apply_one(&self, wanted: &Desired) -> Result<(), ReconcileError> {
        let api = self.api(wanted.kind);
        let known = match self.cached(wanted) {
            Some(known) => Some(known),
            // Not in the cache: ours just made, or somebody else's without our labels.
            None => api
                .get_metadata_opt(&wanted.name)
                .await
                .map_err(ReconcileError::call(format!(
                    "look for {:?} {}",
                    wanted.kind, wanted.name
                )))?
                .map(|object| child(&object)),
        };
        if let Some(known) = &known {
            check_owner(
                self.tenant,
                &format!("{:?}", wanted.kind),
                &wanted.name,
                known,
            )?;
            if known.desired_hash.as_ref() == Some(&wanted.hash) && self.is_untouched(wanted) {
                self.metrics.applied(wanted.kind, Outcome::Skipped);
                return Ok(());
            }
        }
        let result = api
            .patch(
                &wanted.name,
                &PatchParams::apply(names::MANAGED_BY).force(),
                &Patch::Apply(&wanted.object),
            )
            .await;
        let outcome = match known {
            None => Outcome::Created,
            Some(_) => Outcome::Patched,
        };
        match result {
            Ok(_) => {
                self.metrics.applied(wanted.kind, outcome);
                Ok(())
            }
            Err(kube::Error::Api(status))
                if wanted.kind == ChildKind::StatefulSet
                    && status.message.contains(IMMUTABLE_SET) =>
            {
                self.replace_set(known.map(|known| known.uid).unwrap_or_default())
                    .await
            }
            Err(error) => Err(ReconcileError::call(format!(
                "write {:?} {}",
                wanted.kind, wanted.name
            ))(error)),
        }
    }

    /// What the cache knows of an object.
    fn cached(&self, wanted: &Desired) -> Option<Child> {
        match wanted.kind {
            ChildKind::PercolateReplication => self
                .observed
                .register
                .as_ref()
                .map(|found| found.child.clone()),
            ChildKind::StatefulSet => self
                .observed
                .stateful_set
                .as_ref()
                .map(|found| found.child.clone()),
            kind => self
                .observed
                .children
                .get(&(kind, wanted.name.clone()))
                .cloned(),
        }
    }

    /// Whether the fields decisions rest on are as they were written: a `kubectl scale` of the
    /// StatefulSet or an edit of the register leaves the hash as it is.
    fn is_untouched(&self, wanted: &Desired) -> bool {
        match wanted.kind {
            ChildKind::PercolateReplication => {
                self.observed.register.as_ref().is_none_or(|found| {
                    serde_json::to_value(&found.spec)
                        .is_ok_and(|spec| spec == wanted.object["spec"])
                })
            }
            ChildKind::StatefulSet => self
                .observed
                .stateful_set
                .as_ref()
                .is_none_or(|found| wanted.object["spec"]["replicas"] == found.replicas),
            _ => true,
        }
    }

    /// Carries out single acts, each reported to people as it is done.
    pub async fn act(
        &self,
        acts: &[Act],
        mut report: impl FnMut(Happening),
    ) -> Result<(), ReconcileError> {
        for act in acts {
            match act {
                Act::DeletePod {
                    name,
                    uid,
                    force,
                    why,
                } => {
                    let parameters = DeleteParams {
                        grace_period_seconds: force.then_some(0),
                        ..of_identity(uid)
                    };
                    if self.delete::<core::Pod>(name, &parameters).await? {
                        report(Happening::normal(
                            "PodReplaced",
                            "Replace",
                            format!("{name}: {why}"),
                        ));
                    }
                }
                Act::DeleteClaim { name, uid, why } => {
                    self.confirm().await?;
                    if self
                        .delete::<core::PersistentVolumeClaim>(name, &of_identity(uid))
                        .await?
                    {
                        report(Happening::normal(
                            "VolumeDeleted",
                            "Delete",
                            format!("{name}: {why}"),
                        ));
                    }
                }
                Act::ExpandClaim { name, size } => {
                    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
                    self.merge::<core::PersistentVolumeClaim>(name, &patch)
                        .await?;
                    report(Happening::normal(
                        "VolumeExpanded",
                        "Expand",
                        format!("{name} to {size}"),
                    ));
                }
                Act::ReplaceStatefulSet { uid } => self.replace_set(uid.clone()).await?,
                Act::LabelPod { name, uid, role } => {
                    let patch = json!({"metadata": {
                        "uid": uid,
                        "labels": {names::ROLE_LABEL: role.as_label()},
                    }});
                    self.merge::<core::Pod>(name, &patch).await?;
                }
            }
        }
        Ok(())
    }

    /// Before a volume is deleted, what the decision rests on is read from the API server itself:
    /// a cache may be old, a volume does not come back.
    async fn confirm(&self) -> Result<(), ReconcileError> {
        let namespace = &self.tenant.namespace;
        let tenants: Api<PercolateTenant> = Api::namespaced(self.client.clone(), namespace);
        let tenant = tenants
            .get(&self.tenant.name)
            .await
            .map_err(ReconcileError::call("confirm the tenant"))?;
        if tenant.metadata.generation != Some(self.tenant.generation)
            || tenant.metadata.uid.as_ref() != Some(&self.tenant.uid)
        {
            return Err(ReconcileError::Stale {
                what: "the tenant".to_owned(),
            });
        }
        let registers: Api<PercolateReplication> = Api::namespaced(self.client.clone(), namespace);
        let register = registers
            .get_opt(&names::replication(&self.tenant.name))
            .await
            .map_err(ReconcileError::call("confirm the register"))?;
        let status = register.and_then(|register| register.status);
        let seen = self
            .observed
            .register
            .as_ref()
            .and_then(|register| register.status.as_ref());
        if status.as_ref() != seen {
            return Err(ReconcileError::Stale {
                what: "the register".to_owned(),
            });
        }
        Ok(())
    }

    /// Deletes the StatefulSet around its pods; the next pass makes it anew.
    async fn replace_set(&self, uid: String) -> Result<(), ReconcileError> {
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            ..of_identity(&uid)
        };
        self.delete::<apps::StatefulSet>(&names::stateful_set(&self.tenant.name), &parameters)
            .await?;
        Ok(())
    }

    /// Deletes exactly the object seen. False when it was gone already.
    async fn delete<K>(&self, name: &str, parameters: &DeleteParams) -> Result<bool, ReconcileError>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let api = self.dynamic(&ApiResource::erase::<K>(&()));
        match api.delete(name, parameters).await {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(ReconcileError::call(format!("delete {name}"))(error)),
        }
    }

    async fn merge<K>(&self, name: &str, patch: &serde_json::Value) -> Result<(), ReconcileError>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let api = self.dynamic(&ApiResource::erase::<K>(&()));
        let parameters = PatchParams {
            field_manager: Some(names::MANAGED_BY.to_owned()),
            ..PatchParams::default()
        };
        match api
            .patch_metadata(name, &parameters, &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(ReconcileError::call(format!("change {name}"))(error)),
        }
    }

    fn api(&self, kind: ChildKind) -> Api<DynamicObject> {
        self.dynamic(&resource_of(kind))
    }

    /// Answers are not read, so they are not parsed into large types either.
    fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.tenant.namespace, resource)
    }
}

/// Refuses an object that is not this tenant's.
pub fn check_owner(
    tenant: &Tenant,
    kind: &str,
    name: &str,
    found: &Child,
) -> Result<(), ReconcileError> {
    let stale = || ReconcileError::Stale {
        what: format!("{kind} {name} of a deleted tenant of this name"),
    };
    if found.deleting {
        return Err(stale());
    }
    match &found.owner {
        Some(owner) if owner.uid == tenant.uid => Ok(()),
        Some(owner) if owner.kind == "PercolateTenant" && owner.name == tenant.name => Err(stale()),
        Some(owner) => Err(ReconcileError::Taken {
            kind: kind.to_owned(),
            name: name.to_owned(),
            owner: format!("{} {}", owner.kind, owner.name),
        }),
        // Retained by a tenant of this name, or left by one: labelled as ours.
        None if found.tenant_label.as_deref() == Some(&tenant.name) => Ok(()),
        None => Err(ReconcileError::Taken {
            kind: kind.to_owned(),
            name: name.to_owned(),
            owner: "nobody we know".to_owned(),
        }),
    }
}

fn of_identity(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Whether the object seen exists no more: gone, or another one in its place.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict())
}

fn resource_of(kind: ChildKind) -> ApiResource {
    match kind {
        ChildKind::Secret => ApiResource::erase::<core::Secret>(&()),
        ChildKind::ServiceAccount => ApiResource::erase::<core::ServiceAccount>(&()),
        ChildKind::Role => ApiResource::erase::<rbac::Role>(&()),
        ChildKind::RoleBinding => ApiResource::erase::<rbac::RoleBinding>(&()),
        ChildKind::ConfigMap => ApiResource::erase::<core::ConfigMap>(&()),
        ChildKind::Service => ApiResource::erase::<core::Service>(&()),
        ChildKind::PercolateReplication => ApiResource::erase::<PercolateReplication>(&()),
        ChildKind::StatefulSet => ApiResource::erase::<apps::StatefulSet>(&()),
        ChildKind::PodDisruptionBudget => ApiResource::erase::<policy::PodDisruptionBudget>(&()),
        ChildKind::NetworkPolicy => ApiResource::erase::<networking::NetworkPolicy>(&()),
    }
}
