//! Volume claims, and the class they are to be of.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1 as storage,
};

/// Label by which a local volume names its machine.
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// Field by which a volume may name its machine instead.
const NAME_FIELD: &str = "metadata.name";
/// Resource name of a volume's size.
const STORAGE: &str = "storage";

/// A pod's claim on a volume.
#[derive(Debug, Clone, Default)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// How it is.
    pub phase: ClaimPhase,
    /// Size it asks for.
    pub requested: Option<String>,
    /// Size it has.
    pub capacity: Option<String>,
    /// Identity of the StatefulSet that will take it along when it is deleted.
    pub owning_set: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The volume behind it.
    pub volume: Option<String>,
    /// Whether its volume can only be used on a machine that is lost.
    pub on_lost_machine: bool,
}

/// How a claim is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClaimPhase {
    /// Waits for a volume.
    #[default]
    Pending,
    /// Has one.
    Bound,
    /// Had one that exists no more.
    Lost,
}

impl Claim {
    /// Reads a claim.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.clone().unwrap_or_default();
        let status = claim.status.clone().unwrap_or_default();
        Self {
            name: claim.metadata.name.clone().unwrap_or_default(),
            uid: claim.metadata.uid.clone().unwrap_or_default(),
            phase: match status.phase.as_deref() {
                Some("Bound") => ClaimPhase::Bound,
                Some("Lost") => ClaimPhase::Lost,
                _ => ClaimPhase::Pending,
            },
            requested: spec
                .resources
                .and_then(|resources| resources.requests)
                .and_then(|requests| requests.get(STORAGE).map(|size| size.0.clone())),
            capacity: status
                .capacity
                .and_then(|capacity| capacity.get(STORAGE).map(|size| size.0.clone())),
            owning_set: claim
                .metadata
                .owner_references
                .iter()
                .flatten()
                .find(|owner| owner.kind == "StatefulSet")
                .map(|owner| owner.uid.clone()),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            volume: spec.volume_name,
            on_lost_machine: false,
        }
    }
}

/// What is known of the class the volumes are to be of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StorageClass {
    /// The cluster's default is used, or the operator may not look.
    #[default]
    Unknown,
    /// There is no class of that name.
    Missing,
    /// It exists.
    Present {
        /// Whether its volumes can grow.
        expandable: bool,
    },
}

impl StorageClass {
    /// Judges a class by its object.
    pub fn of(class: Option<&storage::StorageClass>) -> Self {
        class.map_or(Self::Missing, |class| Self::Present {
            expandable: class.allow_volume_expansion.unwrap_or(false),
        })
    }
}

/// How a volume names a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineName {
    /// By the hostname label of the node.
    Hostname(String),
    /// By the node's own name.
    Node(String),
}

/// The machines a volume can be used on, when it names them; empty when it can move.
pub fn machines_of(volume: &PersistentVolume) -> Vec<MachineName> {
    volume
        .spec
        .iter()
        .filter_map(|spec| spec.node_affinity.as_ref()?.required.as_ref())
        .flat_map(|required| &required.node_selector_terms)
        .flat_map(|term| {
            term.match_expressions
                .iter()
                .flatten()
                .chain(term.match_fields.iter().flatten())
        })
        .filter(|rule| rule.operator == "In")
        .flat_map(|rule| {
            rule.values
                .iter()
                .flatten()
                .filter_map(|value| match rule.key.as_str() {
                    HOSTNAME_LABEL => Some(MachineName::Hostname(value.clone())),
                    NAME_FIELD => Some(MachineName::Node(value.clone())),
                    _ => None,
                })
        })
        .collect()
}
