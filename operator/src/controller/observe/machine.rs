//! Whether the machine a pod runs on still answers.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

/// Label that names the zone of a machine.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A machine, as the control plane sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Machine {
    /// Nothing is known: the pod has none yet, or the operator may not look.
    #[default]
    Unknown,
    /// It answers.
    Answering {
        /// Where it stands.
        zone: Option<String>,
    },
    /// It has not answered since.
    Silent {
        /// When the control plane noticed.
        since: Timestamp,
    },
    /// It has been removed from the cluster.
    Gone,
}

impl Machine {
    /// Judges a machine by its node object.
    pub fn of(node: Option<&Node>) -> Self {
        let Some(node) = node else {
            return Self::Gone;
        };
        let ready = node
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| {
                conditions
                    .iter()
                    .find(|condition| condition.type_ == "Ready")
            });
        match ready {
            // "False" is a kubelet that says so itself and is still in charge of its pods;
            // only "Unknown" is silence.
            Some(condition) if condition.status == "Unknown" => Self::Silent {
                since: condition
                    .last_transition_time
                    .as_ref()
                    .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            },
            _ => Self::Answering {
                zone: node
                    .metadata
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(ZONE_LABEL).cloned()),
            },
        }
    }

    /// Whether nothing on it can be counted on.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Gone)
    }
}
