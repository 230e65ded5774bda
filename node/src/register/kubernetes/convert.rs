//! Between the CRD's strings and the core's types.

use percolate_core::identity::{Epoch, ParseIdentityError};
use percolate_core::register::{
    Action, Answer, Failover, FailoverReason, Member, Register, Request, Version, View,
};
use percolate_crds::replication as crd;

/// A register that no node of ours wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error("{field} is not an identity")]
    Identity {
        field: &'static str,
        source: ParseIdentityError,
    },
    #[error("epoch {epoch} is negative")]
    Epoch { epoch: i64 },
}

pub(super) fn view(
    version: Version,
    object: &crd::PercolateReplication,
) -> Result<View, ConvertError> {
    Ok(View {
        version,
        register: object.status.as_ref().map(register).transpose()?,
        min_in_sync: usize::try_from(object.spec.min_in_sync).unwrap_or(1).max(1),
        bootstrap: object.spec.bootstrap,
        requests: object.spec.requests.iter().filter_map(request).collect(),
    })
}

fn request(request: &crd::Request) -> Option<Request> {
    let action = match (request.kind, request.pod.clone()) {
        (crd::RequestKind::HandOver, pod) => Action::HandOver { pod },
        (crd::RequestKind::Drop, Some(pod)) => Action::Drop { pod },
        (crd::RequestKind::AcceptLoss, _) => Action::AcceptLoss {
            epoch: epoch(request.epoch?).ok()?,
        },
        (crd::RequestKind::Drop, None) => return None, // the API server refuses these
    };
    Some(Request {
        id: request.id.clone(),
        action,
    })
}

fn register(status: &crd::ReplicationStatus) -> Result<Register, ConvertError> {
    let replica = |field, text: &str| {
        text.parse()
            .map_err(|source| ConvertError::Identity { field, source })
    };
    let members = status.replicas.iter().map(|known| {
        Ok(Member {
            replica: replica("replicas", &known.replica_id)?,
            pod: known.pod.clone(),
            // For people only: what a newer leader says in other words is no reason to stop.
            state: known.state.as_deref().and_then(|text| text.parse().ok()),
        })
    });
    Ok(Register {
        incarnation: status
            .incarnation
            .parse()
            .map_err(|source| ConvertError::Identity {
                field: "incarnation",
                source,
            })?,
        epoch: epoch(status.epoch)?,
        leader: replica("leader", &status.leader)?,
        in_sync: status
            .in_sync
            .iter()
            .map(|text| replica("inSync", text))
            .collect::<Result<_, _>>()?,
        replicas: members.collect::<Result<_, ConvertError>>()?,
        answers: status.answers.iter().map(answer).collect(),
        held: u64::try_from(status.held_index).unwrap_or(0),
        last_failover: status
            .last_failover
            .as_ref()
            .map(last_failover)
            .transpose()?,
        loss: status.loss_epoch.map(epoch).transpose()?,
    })
}

fn epoch(number: i64) -> Result<Epoch, ConvertError> {
    Epoch::try_from(number).map_err(|_| ConvertError::Epoch { epoch: number })
}

fn answer(answer: &crd::Answer) -> Answer {
    let refused = (answer.outcome == crd::Outcome::Refused).then(|| answer.message.clone());
    Answer {
        id: answer.id.clone(),
        refused,
    }
}

fn last_failover(failover: &crd::Failover) -> Result<Failover, ConvertError> {
    let replica = |field, text: &str| {
        text.parse()
            .map_err(|source| ConvertError::Identity { field, source })
    };
    let silence = match (&failover.detected_at, &failover.promoted_at) {
        (Some(detected), Some(promoted)) => {
            promoted.0.as_millisecond() - detected.0.as_millisecond()
        }
        _ => 0,
    };
    Ok(Failover {
        from: failover
            .from
            .as_deref()
            .map(|text| replica("from", text))
            .transpose()?,
        to: replica("to", &failover.to)?,
        epoch: epoch(failover.epoch)?,
        reason: match failover.reason {
            crd::FailoverReason::LeaderLost => FailoverReason::LeaderLost,
            crd::FailoverReason::LeaderRestarted => FailoverReason::LeaderRestarted,
            crd::FailoverReason::HandedOver => FailoverReason::HandedOver,
            crd::FailoverReason::Bootstrapped => FailoverReason::Bootstrapped,
            crd::FailoverReason::LossAccepted => FailoverReason::LossAccepted,
        },
        silent_ms: u64::try_from(silence).unwrap_or(0),
        rescued: u64::try_from(failover.rescued).unwrap_or(0),
    })
}

/// The status that says what `register` says, but for the times of its failover.
pub(super) fn status(register: &Register) -> crd::ReplicationStatus {
    let known = |member: &Member| crd::KnownReplica {
        replica_id: member.replica.to_string(),
        pod: member.pod.clone(),
        state: member.state.map(|state| state.to_string()),
    };
    crd::ReplicationStatus {
        incarnation: register.incarnation.to_string(),
        epoch: number(register.epoch),
        leader: register.leader.to_string(),
        leader_pod: register
            .pod_of(register.leader)
            .unwrap_or_default()
            .to_owned(),
        in_sync: register.in_sync.iter().map(ToString::to_string).collect(),
        replicas: register.replicas.iter().map(known).collect(),
        last_failover: None,
        loss_epoch: register.loss.map(number),
        held_index: i64::try_from(register.held).unwrap_or(i64::MAX),
        answers: register.answers.iter().map(answered).collect(),
    }
}

/// Kubernetes has no unsigned numbers.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn answered(answer: &Answer) -> crd::Answer {
    let outcome = if answer.refused.is_none() {
        crd::Outcome::Done
    } else {
        crd::Outcome::Refused
    };
    crd::Answer {
        id: answer.id.clone(),
        outcome,
        message: answer.refused.clone().unwrap_or_default(),
    }
}

pub(super) fn failover(register: &Register, failover: &Failover) -> crd::Failover {
    let pod = |replica| register.pod_of(replica).map(str::to_owned);
    crd::Failover {
        from: failover.from.map(|replica| replica.to_string()),
        to: failover.to.to_string(),
        from_pod: failover.from.and_then(pod),
        to_pod: pod(failover.to).unwrap_or_default(),
        epoch: number(failover.epoch),
        reason: match failover.reason {
            FailoverReason::LeaderLost => crd::FailoverReason::LeaderLost,
            FailoverReason::LeaderRestarted => crd::FailoverReason::LeaderRestarted,
            FailoverReason::HandedOver => crd::FailoverReason::HandedOver,
            FailoverReason::Bootstrapped => crd::FailoverReason::Bootstrapped,
            FailoverReason::LossAccepted => crd::FailoverReason::LossAccepted,
        },
        detected_at: None,
        promoted_at: None,
        promoted_index: None,
        rescued: number(failover.rescued),
    }
}
