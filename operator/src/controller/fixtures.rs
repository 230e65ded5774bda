//! Tenants and surroundings for tests, said in a line each.

use std::time::Duration;

use jiff::Timestamp;
use percolate_crds::{
    PercolateTenant, names,
    replication::{
        Answer, KnownReplica, Outcome, ReplicationSpec, ReplicationStatus, Request, RequestKind,
    },
    tenant::TenantSpec,
};

use super::{
    observe::{
        Child, Claim, Machine, Observed, Owner, Pod, Register, StatefulSet, volume::ClaimPhase,
    },
    plan::Delays,
    validate::{Defaults, Tenant, validate},
};

/// Revision of pods that are as the StatefulSet says.
pub(crate) const NEW: &str = "acme-new";
/// Revision of pods that are not any more.
pub(crate) const OLD: &str = "acme-old";
/// Identity of the tenant.
pub(crate) const UID: &str = "tenant-uid";

/// The moment at which tests take place.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// Some seconds before [`now`].
pub(crate) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 - seconds).unwrap()
}

/// Delays of the tests.
pub(crate) fn delays() -> Delays {
    Delays {
        machine_lost: Duration::from_secs(20),
        volume_lost: Duration::from_mins(1),
    }
}

/// The manifest of the tenant `acme`.
pub(crate) fn manifest(replicas: i32) -> PercolateTenant {
    let mut object = PercolateTenant::new(
        "acme",
        TenantSpec {
            replicas,
            ..TenantSpec::default()
        },
    );
    object.metadata.namespace = Some("tenants".to_owned());
    object.metadata.uid = Some(UID.to_owned());
    object.metadata.generation = Some(1);
    object
}

/// What tenants get in tests where they say nothing.
pub(crate) fn defaults() -> Defaults {
    Defaults {
        node_image: "example.org/percolate-node:1".to_owned(),
    }
}

/// The tenant `acme`.
pub(crate) fn tenant(replicas: i32) -> Tenant {
    validate(&manifest(replicas), &defaults()).unwrap()
}

/// What is there before anything is made.
pub(crate) fn nothing() -> Observed {
    Observed::default()
}

/// A settled tenant: all pods serve, all are in sync, the first leads.
pub(crate) fn settled(replicas: i32) -> Observed {
    let ordinals: Vec<i32> = (0..replicas).collect();
    let mut observed = Observed {
        register: Some(register(&ordinals)),
        stateful_set: Some(StatefulSet {
            child: owned("set-uid"),
            replicas,
            update_revision: Some(NEW.to_owned()),
            volume_size: Some("10Gi".to_owned()),
        }),
        ..Observed::default()
    };
    for ordinal in ordinals {
        observed.pods.insert(ordinal, pod(ordinal));
        observed.claims.insert(ordinal, claim(ordinal));
    }
    observed
}

/// An object of the tenant.
pub(crate) fn owned(uid: &str) -> Child {
    Child {
        uid: uid.to_owned(),
        owner: Some(Owner {
            kind: "PercolateTenant".to_owned(),
            name: "acme".to_owned(),
            uid: UID.to_owned(),
        }),
        tenant_label: Some("acme".to_owned()),
        ..Child::default()
    }
}

/// The replica in the pod of an ordinal.
pub(crate) fn replica(ordinal: i32) -> String {
    format!("replica-{ordinal}")
}

fn register(ordinals: &[i32]) -> Register {
    Register {
        child: owned("register-uid"),
        spec: ReplicationSpec {
            min_in_sync: if ordinals.len() > 2 { 2 } else { 1 },
            bootstrap: false,
            requests: Vec::new(),
        },
        status: (!ordinals.is_empty()).then(|| ReplicationStatus {
            incarnation: "0".repeat(32),
            epoch: 1,
            leader: replica(0),
            leader_pod: names::pod("acme", 0),
            in_sync: ordinals.iter().map(|ordinal| replica(*ordinal)).collect(),
            replicas: ordinals
                .iter()
                .map(|ordinal| KnownReplica {
                    replica_id: replica(*ordinal),
                    pod: names::pod("acme", *ordinal),
                    state: Some("InSync".to_owned()),
                })
                .collect(),
            ..ReplicationStatus::default()
        }),
    }
}

/// A pod that serves.
pub(crate) fn pod(ordinal: i32) -> Pod {
    Pod {
        name: names::pod("acme", ordinal),
        uid: format!("pod-uid-{ordinal}"),
        ready: true,
        running: true,
        trouble: None,
        storage_fault: None,
        revision: Some(NEW.to_owned()),
        role: Some(if ordinal == 0 { "leader" } else { "follower" }.to_owned()),
        machine: Machine::Answering { zone: None },
        deleting: false,
        created_at: Some(ago(3600)),
    }
}

/// A claim that is bound.
pub(crate) fn claim(ordinal: i32) -> Claim {
    Claim {
        name: names::claim(&names::pod("acme", ordinal)),
        uid: format!("claim-uid-{ordinal}"),
        phase: ClaimPhase::Bound,
        requested: Some("10Gi".to_owned()),
        capacity: Some("10Gi".to_owned()),
        owning_set: None,
        deleting: false,
        volume: Some(format!("volume-{ordinal}")),
        on_lost_machine: false,
    }
}

/// The register's status of a world that has one.
pub(crate) fn status(observed: &mut Observed) -> &mut ReplicationStatus {
    observed
        .register
        .as_mut()
        .and_then(|register| register.status.as_mut())
        .unwrap()
}

/// Takes a replica out of the in-sync set.
pub(crate) fn out_of_sync(observed: &mut Observed, ordinal: i32) {
    status(observed)
        .in_sync
        .retain(|id| *id != replica(ordinal));
}

/// Takes a replica out of the register, as a leader does for a Drop.
pub(crate) fn dropped(observed: &mut Observed, ordinal: i32) {
    out_of_sync(observed, ordinal);
    status(observed)
        .replicas
        .retain(|known| known.replica_id != replica(ordinal));
    if let Some(pod) = observed.pods.get_mut(&ordinal) {
        pod.role = Some("learner".to_owned());
    }
}

/// Puts a request into the register, and its answer if there is one.
pub(crate) fn request(
    observed: &mut Observed,
    id: &str,
    kind: RequestKind,
    ordinal: i32,
    outcome: Option<Outcome>,
) {
    observed
        .register
        .as_mut()
        .unwrap()
        .spec
        .requests
        .push(Request {
            id: id.to_owned(),
            kind,
            pod: Some(names::pod("acme", ordinal)),
            epoch: None,
        });
    if let Some(outcome) = outcome {
        status(observed).answers.push(Answer {
            id: id.to_owned(),
            outcome,
            message: "because of the test".to_owned(),
        });
    }
}
