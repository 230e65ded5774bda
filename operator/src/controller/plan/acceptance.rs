//! When no replica in sync is left: nobody is promoted, unless a person gives up what only those held.
//!
//! ```text
//! nobody can lead ─▶ told, with the command ─▶ annotation = the register's epoch ─▶ AcceptLoss
//! ```
//! The annotation names the epoch, so that one that stays behind in a manifest accepts nothing later:
//! the epoch has passed with the first leader since.

use percolate_crds::{
    conditions, names,
    replication::{ReplicationStatus, Request, RequestKind},
};

use super::Note;
use crate::controller::{
    observe::{Claim, Observed, Pod, volume::ClaimPhase},
    validate::Tenant,
};

/// The decision.
#[derive(Debug, Clone, Default)]
pub struct Acceptance {
    /// What the remaining replicas are asked to do.
    pub request: Option<Request>,
    /// What is lost, and what a person can do.
    pub hindrance: Option<Note>,
}

/// Decides.
pub fn plan(tenant: &Tenant, observed: &Observed) -> Acceptance {
    let Some(status) = observed.replication() else {
        return Acceptance::default();
    };
    let led = tenant.replicas == 0 || observed.ready_leader().is_some();
    if led || candidates(tenant, observed) > 0 {
        return Acceptance::default();
    }
    let epoch = status.epoch;
    let accepted = tenant.accepts_data_loss.as_deref() == Some(epoch.to_string().as_str());
    Acceptance {
        request: accepted.then(|| Request {
            id: format!("accept-loss-{epoch}"),
            kind: RequestKind::AcceptLoss,
            pod: None,
            epoch: Some(epoch),
        }),
        hindrance: Some(Note::new(
            conditions::NO_IN_SYNC_REPLICA,
            told(tenant, status, accepted),
        )),
    }
}

/// How many in-sync replicas are left that could lead: those whose volume is there, and known neither
/// to be spoilt nor to be out of reach. A pod that is not there, as after a stop, will be.
pub fn candidates(tenant: &Tenant, observed: &Observed) -> usize {
    let Some(status) = observed.replication() else {
        return 0;
    };
    let leads = |(ordinal, claim): &(&i32, &Claim)| {
        let pod = observed.pods.get(*ordinal);
        let reachable = pod.is_none_or(|pod| !pod.machine.is_lost() && !is_spoilt(pod));
        let there = claim.phase != ClaimPhase::Lost && !claim.on_lost_machine && reachable;
        there && status.may_lead(&names::pod(&tenant.name, **ordinal))
    };
    observed.claims.iter().filter(leads).count()
}

/// Whether the pod's process ended because its data are not to be trusted, and none has been ready
/// since. A disk that is full or fails still holds what it took.
fn is_spoilt(pod: &Pod) -> bool {
    let fault = pod.storage_fault.as_ref();
    fault.is_some_and(|fault| !fault.overcome && !conditions::DISK_FAULTS.contains(&fault.reason))
}

fn told(tenant: &Tenant, status: &ReplicationStatus, accepted: bool) -> String {
    let (leader, epoch) = (&status.leader_pod, status.epoch);
    if accepted {
        return format!(
            "no in-sync replica is left ({leader} led epoch {epoch}), and the loss is accepted: the most complete of the others takes the lead as soon as its pod runs"
        );
    }
    let annotation = names::ACCEPT_DATA_LOSS_ANNOTATION;
    let (namespace, name) = (&tenant.namespace, &tenant.name);
    let past = tenant.accepts_data_loss.as_ref().map(|value| {
        format!(" ({annotation} is {value:?}, which accepts nothing at epoch {epoch})")
    });
    format!(
        "no volume with an in-sync replica is there ({leader} led epoch {epoch}): bring one back, with its pod's machine; or give up what only those held: kubectl annotate ptenant -n {namespace} {name} --overwrite {annotation}={epoch}{}",
        past.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use percolate_crds::replication::KnownReplica;

    use super::*;
    use crate::controller::fixtures::{ago, out_of_sync, settled, status, tenant};
    use crate::controller::observe::{Machine, StorageFault};

    /// Two replicas, of which the first led alone in sync, at epoch 7.
    fn alone() -> Observed {
        let mut world = settled(2);
        status(&mut world).epoch = 7;
        out_of_sync(&mut world, 1);
        for pod in world.pods.values_mut() {
            pod.ready = false;
        }
        world
    }

    fn accepting(value: &str) -> Tenant {
        Tenant {
            accepts_data_loss: Some(value.to_owned()),
            ..tenant(2)
        }
    }

    fn fault(reason: conditions::Reason) -> StorageFault {
        StorageFault {
            reason,
            message: "because of the test".to_owned(),
            overcome: false,
        }
    }

    fn losses() -> Vec<(&'static str, Observed)> {
        let mut gone = alone();
        gone.claims.remove(&0);
        let mut lost = alone();
        lost.claims.get_mut(&0).unwrap().phase = ClaimPhase::Lost;
        let mut burnt = alone();
        burnt.pods.get_mut(&0).unwrap().machine = Machine::Silent { since: ago(60) };
        let mut unschedulable = alone();
        unschedulable.claims.get_mut(&0).unwrap().on_lost_machine = true;
        let mut spoilt = alone();
        spoilt.pods.get_mut(&0).unwrap().storage_fault = Some(fault(conditions::OUTDATED_VOLUME));
        let mut emptied = alone();
        status(&mut emptied).replicas.push(KnownReplica {
            replica_id: "new".to_owned(),
            pod: names::pod("acme", 0),
            state: None,
        });
        vec![
            ("no claim", gone),
            ("no volume", lost),
            ("no machine", burnt),
            ("a volume that no machine can reach", unschedulable),
            ("an older volume", spoilt),
            ("an emptied volume", emptied),
        ]
    }

    #[test]
    fn a_loss_is_told_with_the_command_that_accepts_it() {
        for (case, world) in losses() {
            let planned = plan(&tenant(2), &world);
            let note = planned.hindrance.expect(case);
            assert_eq!(note.reason, conditions::NO_IN_SYNC_REPLICA, "{case}");
            let command = "kubectl annotate ptenant -n tenants acme --overwrite percolationlabs.ai/accept-data-loss=7";
            assert!(note.message.ends_with(command), "{case}: {}", note.message);
            assert_eq!(planned.request, None, "{case}");
        }
    }

    #[test]
    fn only_the_register_s_epoch_accepts_its_loss() {
        for (case, world) in losses() {
            let asked = plan(&accepting("7"), &world).request.expect(case);
            assert_eq!(
                (asked.kind, asked.epoch),
                (RequestKind::AcceptLoss, Some(7))
            );
            for value in ["6", "8", "", "yes", "07"] {
                let planned = plan(&accepting(value), &world);
                assert_eq!(planned.request, None, "{case}: {value:?}");
                let message = planned.hindrance.expect(case).message;
                assert!(
                    message.contains(&format!("is {value:?}")),
                    "{case}: {message}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_given_up_while_a_replica_in_sync_can_lead() {
        let mut full = alone();
        full.pods.get_mut(&0).unwrap().storage_fault = Some(fault(conditions::DISK_FULL));
        let mut recovered = alone();
        let pod = recovered.pods.get_mut(&0).unwrap();
        pod.storage_fault = Some(StorageFault {
            overcome: true,
            ..fault(conditions::DAMAGED)
        });
        let mut no_pod = alone();
        no_pod.pods.remove(&0);
        let mut led = settled(2);
        led.claims.clear();
        for (case, world) in [
            ("not ready yet", alone()),
            ("its disk is full", full),
            ("it has got over its damage", recovered),
            ("its pod is made anew", no_pod),
            ("it leads", led),
        ] {
            let planned = plan(&accepting("7"), &world);
            assert_eq!(planned.request, None, "{case}");
            assert_eq!(planned.hindrance, None, "{case}");
        }
        let stopped = plan(
            &Tenant {
                replicas: 0,
                ..accepting("7")
            },
            &losses().remove(0).1,
        );
        assert_eq!((stopped.request, stopped.hindrance), (None, None));
    }
}
