//! A pod, reduced to what it does for its tenant and what hinders it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use percolate_crds::{conditions, conditions::Reason, names};

use super::Machine;

/// Label the StatefulSet's controller puts on its pods.
const REVISION_LABEL: &str = "controller-revision-hash";
/// Restarts after which a container that waits is called crashing, not starting.
const CRASHING_RESTARTS: i32 = 3;

/// A pod of a tenant.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Whether it says it can serve.
    pub ready: bool,
    /// Whether its container runs.
    pub running: bool,
    /// What hinders it.
    pub trouble: Option<Trouble>,
    /// What its process last ended for, if that was its disk.
    pub storage_fault: Option<StorageFault>,
    /// Revision of the StatefulSet it was made from.
    pub revision: Option<String>,
    /// Value of the role label.
    pub role: Option<String>,
    /// The machine it is on.
    pub machine: Machine,
    /// Whether it is shutting down.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// Why a process ended that cannot go on with its disk, or with what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageFault {
    /// One of [`conditions::STORAGE_FAULTS`].
    pub reason: Reason,
    /// What the process said.
    pub message: String,
    /// Whether one that began later has been ready: it has got over it.
    pub overcome: bool,
}

/// What hinders a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Its image cannot be had.
    Image {
        /// What the kubelet says.
        message: String,
    },
    /// Its container keeps ending.
    Crashing {
        /// How often it was started again.
        restarts: i32,
    },
    /// No machine can take it.
    Unschedulable {
        /// Since when.
        since: Timestamp,
        /// What the scheduler says.
        message: String,
    },
    /// The kubelet cannot make its container.
    Container {
        /// What the kubelet says.
        message: String,
    },
}

impl Pod {
    /// Whether it can be counted on right now.
    pub fn is_serving(&self) -> bool {
        self.ready && !self.deleting && !self.machine.is_lost()
    }

    /// Reads a pod. `machine` is what is known of the node it names.
    pub fn of(pod: &core::Pod, machine: Machine) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let label = |key: &str| {
            pod.metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(key).cloned())
        };
        let container = status.container_statuses.as_ref().and_then(|all| {
            all.iter()
                .find(|container| container.name == names::CONTAINER)
        });
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            ready: condition(&status, "Ready").is_some_and(|ready| ready.status == "True"),
            running: container
                .and_then(|container| container.state.as_ref())
                .is_some_and(|state| state.running.is_some()),
            trouble: container
                .and_then(container_trouble)
                .or_else(|| unschedulable(&status)),
            storage_fault: container.and_then(|container| storage_fault(container, &status)),
            revision: label(REVISION_LABEL),
            role: label(names::ROLE_LABEL),
            machine,
            deleting: pod.metadata.deletion_timestamp.is_some(),
            created_at: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }
}

fn condition<'a>(status: &'a core::PodStatus, type_: &str) -> Option<&'a core::PodCondition> {
    status
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == type_)
}

fn container_trouble(container: &core::ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some(Trouble::Image { message }),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(Trouble::Container { message })
        }
        "CrashLoopBackOff" if container.restart_count >= CRASHING_RESTARTS => {
            Some(Trouble::Crashing {
                restarts: container.restart_count,
            })
        }
        _ => None,
    }
}

/// The last word of the container's latest process that ended: it ran before, or has just ended.
fn storage_fault(
    container: &core::ContainerStatus,
    status: &core::PodStatus,
) -> Option<StorageFault> {
    let ended = |state: &Option<core::ContainerState>| state.as_ref()?.terminated.clone();
    let latest = ended(&container.state).or_else(|| ended(&container.last_state))?;
    let message = latest.message?;
    let (reason, sentence) = conditions::read_termination_message(message.trim())?;
    Some(StorageFault {
        reason,
        message: sentence.to_owned(),
        overcome: was_ready(container, status),
    })
}

/// The condition changed after the process had started: to ready, or from it.
fn was_ready(container: &core::ContainerStatus, status: &core::PodStatus) -> bool {
    let running = container
        .state
        .as_ref()
        .and_then(|state| state.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref());
    let changed = condition(status, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    started
        .zip(changed)
        .is_some_and(|(started, changed)| changed.0 > started.0)
}

fn unschedulable(status: &core::PodStatus) -> Option<Trouble> {
    let scheduled = condition(status, "PodScheduled")?;
    let refused =
        scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    refused.then(|| Trouble::Unschedulable {
        since: scheduled
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        message: scheduled.message.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_word_of_the_latest_process_that_ended_is_read() {
        let ended = |message: &str| json!({"terminated": {"exitCode": 1, "message": message}});
        let running = json!({"running": {}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        for (name, state, last_state, expected) in [
            (
                "it has just ended",
                ended("DiskFull: no room\n"),
                json!({}),
                Some("DiskFull"),
            ),
            (
                "it runs again",
                running,
                ended("Damaged: the file x"),
                Some("Damaged"),
            ),
            (
                "it is held back",
                waiting,
                ended("Diverged: at 7"),
                Some("Diverged"),
            ),
            (
                "it ended well since",
                ended(""),
                ended("Damaged: the file x"),
                None,
            ),
            (
                "it panicked",
                json!({}),
                ended("thread main panicked: oh"),
                None,
            ),
            ("it never ended", json!({}), json!({}), None),
        ] {
            let pod: core::Pod = serde_json::from_value(json!({
                "metadata": {"name": "acme-0"},
                "status": {"containerStatuses": [{
                    "name": names::CONTAINER, "image": "", "imageID": "", "ready": false,
                    "restartCount": 1, "state": state, "lastState": last_state,
                }]},
            }))
            .unwrap();
            let fault = Pod::of(&pod, Machine::default()).storage_fault;
            let reason = fault.map(|fault| fault.reason.name);
            assert_eq!(reason, expected, "{name}");
        }
    }

    #[test]
    fn a_fault_is_overcome_once_a_later_process_has_been_ready() {
        let fault = |changed: &str| {
            let pod: core::Pod = serde_json::from_value(json!({
                "metadata": {"name": "acme-0"},
                "status": {
                    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": changed}],
                    "containerStatuses": [{
                        "name": names::CONTAINER, "image": "", "imageID": "", "ready": false,
                        "restartCount": 1,
                        "state": {"running": {"startedAt": "2026-01-01T00:01:00Z"}},
                        "lastState": {"terminated": {"exitCode": 1, "message": "Damaged: the file x"}},
                    }],
                },
            }))
            .unwrap();
            Pod::of(&pod, Machine::default()).storage_fault.unwrap()
        };
        assert!(
            !fault("2026-01-01T00:00:50Z").overcome,
            "unready since before"
        );
        assert!(
            fault("2026-01-01T00:02:00Z").overcome,
            "it was ready until then"
        );
    }
}
