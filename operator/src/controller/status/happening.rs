//! What happened between two statuses, as events for `kubectl describe`.

use percolate_crds::{conditions, replication::FailoverReason, tenant::TenantStatus};

/// Something worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Whether somebody should look.
    pub warning: bool,
    /// Short CamelCase word.
    pub reason: String,
    /// What the operator was doing.
    pub action: &'static str,
    /// A sentence for people.
    pub note: String,
}

impl Happening {
    /// Something ordinary.
    pub fn normal(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason: reason.to_owned(),
            action,
            note: note.into(),
        }
    }

    /// Something somebody should look at.
    pub fn warning(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self {
            warning: true,
            ..Self::normal(reason, action, note)
        }
    }
}

/// What happened between two statuses.
pub fn happenings(previous: Option<&TenantStatus>, next: &TenantStatus) -> Vec<Happening> {
    let mut all = Vec::new();
    all.extend(change_of_leader(previous, next));
    all.extend(storage_fault(previous, next));
    for type_ in [conditions::READY, conditions::STALLED] {
        let before = find(previous, type_);
        let Some(after) = find(Some(next), type_) else {
            continue;
        };
        let same = before.is_some_and(|before| {
            before.status == after.status
                // A tenant that stays unready for another reason is news; one that stays ready is not.
                && (before.reason == after.reason || is_good(type_, &after.status))
        });
        if same
            || (before.is_none() && is_good(type_, &after.status) && type_ == conditions::STALLED)
        {
            continue;
        }
        let ordinary = is_good(type_, &after.status)
            || after.reason == conditions::STARTING.name
            || after.reason == conditions::STOPPED.name;
        let reason = match (type_, after.status.as_str()) {
            (conditions::READY, "True") => "Ready",
            (conditions::STALLED, "False") => "Recovered",
            _ => after.reason.as_str(),
        };
        all.push(Happening {
            warning: !ordinary,
            reason: reason.to_owned(),
            action: "Reconcile",
            note: after.message.clone(),
        });
    }
    all
}

/// A volume that a replica cannot go on with, and that it can again.
fn storage_fault(previous: Option<&TenantStatus>, next: &TenantStatus) -> Option<Happening> {
    let fault = |status| {
        let condition = find(status, conditions::STORAGE_HEALTHY)?;
        conditions::STORAGE_FAULTS
            .iter()
            .any(|reason| reason.name == condition.reason)
            .then_some(condition)
    };
    match (fault(previous), fault(Some(next))) {
        (before, Some(after)) if before.is_none_or(|before| before.reason != after.reason) => Some(
            Happening::warning(&after.reason, "Reconcile", after.message.clone()),
        ),
        (Some(before), None) => Some(Happening::normal(
            "StorageRecovered",
            "Reconcile",
            format!("no longer {}: {}", before.reason, before.message),
        )),
        _ => None,
    }
}

fn change_of_leader(previous: Option<&TenantStatus>, next: &TenantStatus) -> Option<Happening> {
    let failover = next.last_failover.as_ref()?;
    let known = previous
        .and_then(|status| status.last_failover.as_ref())
        .is_some_and(|before| before.epoch == failover.epoch);
    if known {
        return None;
    }
    let led_before = failover.from_pod.as_deref();
    let after = led_before.map_or("the first to lead".to_owned(), |pod| format!("after {pod}"));
    let note = format!(
        "{} leads epoch {}, {after}",
        failover.to_pod, failover.epoch
    );
    Some(match failover.reason {
        FailoverReason::LeaderLost => Happening::warning("LeaderLost", "Failover", note),
        FailoverReason::LeaderRestarted => Happening::warning("LeaderRestarted", "Failover", note),
        FailoverReason::LossAccepted => Happening::warning(
            "LossAccepted",
            "Failover",
            format!("{note}: what only lost replicas held is given up"),
        ),
        FailoverReason::HandedOver => Happening::normal("HandedOver", "Failover", note),
        FailoverReason::Bootstrapped => Happening::normal("Bootstrapped", "Failover", note),
    })
}

fn find<'a>(
    status: Option<&'a TenantStatus>,
    type_: &str,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status?
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

fn is_good(type_: &str, status: &str) -> bool {
    match type_ {
        conditions::STALLED => status == "False",
        _ => status == "True",
    }
}
