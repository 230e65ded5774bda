//! Condition types and reasons of a tenant: the vocabulary of status, events, alerts and docs.
//!
//! `crdgen conditions` prints [`TABLE`] for the documentation, so a reason that is not here does not
//! exist. `Ready`, `Reconciling` and `Stalled` follow kstatus, so that `kubectl wait`, Argo CD and
//! Flux read a tenant's health without being taught.

/// Serves reads and writes.
pub const READY: &str = "Ready";
/// Is being changed towards what its spec says.
pub const RECONCILING: &str = "Reconciling";
/// Needs a person, or a change elsewhere, to get any further.
pub const STALLED: &str = "Stalled";
/// Has a leader that is ready.
pub const LEADER_ELECTED: &str = "LeaderElected";
/// Every desired replica is in sync.
pub const REPLICATION_HEALTHY: &str = "ReplicationHealthy";
/// Every volume is bound and as large as desired.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// Is left alone by the operator.
pub const SUSPENDED: &str = "Suspended";

/// Every condition type, in the order status lists them.
pub const TYPES: [&str; 7] = [
    READY,
    RECONCILING,
    STALLED,
    LEADER_ELECTED,
    REPLICATION_HEALTHY,
    STORAGE_HEALTHY,
    SUSPENDED,
];

/// A reason a condition can have, and what it tells a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// CamelCase name in `reason`.
    pub name: &'static str,
    /// Condition types it occurs on, each with the status it has there.
    pub on: &'static [(&'static str, &'static str)],
    /// What it means and what to do.
    pub meaning: &'static str,
}

impl Reason {
    /// The status this reason gives a condition type, when it belongs to that type.
    pub fn status_on(&self, condition_type: &str) -> Option<&'static str> {
        self.on
            .iter()
            .find(|(on, _)| *on == condition_type)
            .map(|(_, status)| *status)
    }
}

macro_rules! reasons {
    ($($constant:ident = $name:literal on [$(($type:ident, $status:literal)),+] : $meaning:literal;)+) => {
        $(
            #[doc = $meaning]
            pub const $constant: Reason = Reason {
                name: $name,
                on: &[$(($type, $status)),+],
                meaning: $meaning,
            };
        )+
        /// Every reason, in the order of the documentation.
        pub const TABLE: &[Reason] = &[$($constant),+];
    };
}

reasons! {
    SERVING = "Serving" on [(READY, "True")]:
        "The leader and every desired replica are ready.";
    DEGRADED = "Degraded" on [(READY, "True")]:
        "Reads and writes are served, with fewer ready replicas than desired. See `ReplicationHealthy`.";
    STOPPED = "Stopped" on [(READY, "False"), (LEADER_ELECTED, "False"), (REPLICATION_HEALTHY, "True")]:
        "spec.replicas is 0: no pods run, volumes and register are kept. Raise spec.replicas to go on.";
    STARTING = "Starting" on [(READY, "False"), (LEADER_ELECTED, "False"), (REPLICATION_HEALTHY, "False")]:
        "Pods are being created and have no leader yet.";
    NO_LEADER = "NoLeader" on [(READY, "False"), (LEADER_ELECTED, "False")]:
        "No ready pod leads. An in-sync replica takes over by itself; if this lasts, look at the pods.";
    NO_IN_SYNC_REPLICA = "NoInSyncReplica" on [(READY, "False"), (STALLED, "True"), (LEADER_ELECTED, "False"), (REPLICATION_HEALTHY, "False")]:
        "The register is empty while volumes exist, or no in-sync replica is left: promoting any other could lose acknowledged writes. Restore the register or an in-sync volume; or give up what only that held, as the condition's message says.";
    LEADER_READY = "LeaderReady" on [(LEADER_ELECTED, "True")]:
        "The register names a leader and its pod is ready.";
    ALL_IN_SYNC = "AllInSync" on [(REPLICATION_HEALTHY, "True")]:
        "Every desired replica is in sync.";
    CATCHING_UP = "CatchingUp" on [(REPLICATION_HEALTHY, "False")]:
        "Some replicas are not in sync yet. They catch up by themselves.";
    BELOW_MIN_IN_SYNC = "BelowMinInSync" on [(READY, "False"), (REPLICATION_HEALTHY, "False")]:
        "Fewer replicas are in sync than replication.minInSync, so writes are refused until one is back.";
    SCALE_DOWN_REFUSED = "ScaleDownRefused" on [(STALLED, "True"), (REPLICATION_HEALTHY, "False")]:
        "Removing replicas would leave fewer in sync than replication.minInSync. Wait for the others to be in sync, raise spec.replicas, or lower minInSync.";
    AS_DESIRED = "AsDesired" on [(RECONCILING, "False"), (STALLED, "False")]:
        "Everything is as the spec says, and nothing hinders.";
    PROGRESSING = "Progressing" on [(STALLED, "False")]:
        "Work is under way and nothing hinders it.";
    CREATING = "Creating" on [(RECONCILING, "True")]:
        "Objects of the tenant are being created.";
    SCALING_UP = "ScalingUp" on [(RECONCILING, "True")]:
        "Replicas are being added and brought in sync.";
    SCALING_DOWN = "ScalingDown" on [(RECONCILING, "True")]:
        "Replicas are being taken out of the in-sync set and removed.";
    STOPPING = "Stopping" on [(RECONCILING, "True")]:
        "Pods are being stopped because spec.replicas is 0.";
    ROLLING_UPDATE = "RollingUpdate" on [(RECONCILING, "True")]:
        "Pods are being replaced, followers first, the leader last after a handover.";
    REPAIRING = "Repairing" on [(RECONCILING, "True")]:
        "A pod or volume was lost and is being replaced from a replica that is in sync.";
    EXPANDING_VOLUMES = "ExpandingVolumes" on [(RECONCILING, "True"), (STORAGE_HEALTHY, "False")]:
        "Volumes are being enlarged.";
    WAITING_FOR_PODS = "WaitingForPods" on [(RECONCILING, "True")]:
        "Pods are not ready yet.";
    WAITING_FOR_OLD_TENANT = "WaitingForOldTenant" on [(RECONCILING, "True"), (READY, "False")]:
        "Objects of a deleted tenant of the same name are still being removed.";
    DELETION_PROTECTED = "DeletionProtected" on [(RECONCILING, "True")]:
        "The tenant was deleted while spec.deletionProtection is true: it stays until that is set to false.";
    RETRYING = "Retrying" on [(RECONCILING, "True")]:
        "A call to the Kubernetes API failed and is tried again.";
    IMAGE_PULL_FAILED = "ImagePullFailed" on [(STALLED, "True")]:
        "A pod's image cannot be pulled. Correct spec.image, or give the nodes access to the registry.";
    POD_CRASHING = "PodCrashing" on [(STALLED, "True")]:
        "A pod's container keeps ending. Look at its log with kubectl logs --previous.";
    POD_UNSCHEDULABLE = "PodUnschedulable" on [(STALLED, "True")]:
        "No machine can take a pod. See the message for what the scheduler misses.";
    STORAGE_CLASS_NOT_FOUND = "StorageClassNotFound" on [(STALLED, "True"), (STORAGE_HEALTHY, "False")]:
        "spec.storage.storageClassName names a class the cluster does not have. Create the class, or create the tenant anew with another.";
    EXPANSION_NOT_SUPPORTED = "ExpansionNotSupported" on [(STORAGE_HEALTHY, "False")]:
        "The storage class does not allow volumes to grow. The tenant goes on with the present size.";
    VOLUME_UNAVAILABLE = "VolumeUnavailable" on [(STORAGE_HEALTHY, "False")]:
        "A volume is missing, lost or being deleted. It is replaced once another replica in sync is ready.";
    VOLUME_PENDING = "VolumePending" on [(STORAGE_HEALTHY, "False")]:
        "A volume is not bound yet.";
    DISK_FULL = "DiskFull" on [(STORAGE_HEALTHY, "False")]:
        "A replica's volume has no room left. Its process waits until there is some, and the others go on without it where they can. Raise spec.storage.size, or make the volume larger.";
    DISK_FAILED = "DiskFailed" on [(STORAGE_HEALTHY, "False")]:
        "A replica's disk did not carry out a write. Its process starts anew and goes on if the disk does; nothing acknowledged is lost. If this lasts, replace the volume: delete its claim.";
    DAMAGED = "Damaged" on [(STORAGE_HEALTHY, "False")]:
        "Bytes on a replica's volume are not those that were written. Where another replica leads, it is filled anew by itself. If it is the only one in sync, its data are kept and not served: restore the volume from a snapshot of it.";
    DIVERGED = "Diverged" on [(STORAGE_HEALTHY, "False")]:
        "A replica came to another state than the leader. It is filled anew by itself where another replica leads. Tell the developers: the message says where.";
    OUTDATED_VOLUME = "OutdatedVolume" on [(STORAGE_HEALTHY, "False")]:
        "A replica's volume lacks writes that it had made durable, as after going back to an older snapshot of it. It is filled anew by itself where another replica leads. Otherwise bring back the latest volume.";
    CLONED_VOLUME = "ClonedVolume" on [(STORAGE_HEALTHY, "False")]:
        "A pod has a copy of another pod's volume. It is filled anew by itself, as a replica of its own.";
    VOLUMES_BOUND = "VolumesBound" on [(STORAGE_HEALTHY, "True")]:
        "Every volume is bound and as large as desired.";
    INVALID_SPEC = "InvalidSpec" on [(STALLED, "True")]:
        "The spec cannot be turned into objects. See the message for the field to correct.";
    NAME_TAKEN = "NameTaken" on [(STALLED, "True")]:
        "An object the tenant needs exists and belongs to somebody else. Remove it, or choose another name for the tenant.";
    FORBIDDEN = "Forbidden" on [(STALLED, "True")]:
        "The operator may not do what the tenant needs. Give its role the permission named in the message.";
    SUSPENDED_BY_SPEC = "SuspendedBySpec" on [(SUSPENDED, "True"), (RECONCILING, "False"), (STALLED, "False")]:
        "spec.suspend is true: the operator changes nothing, the nodes go on serving.";
    ACTIVE = "Active" on [(SUSPENDED, "False")]:
        "The operator looks after the tenant.";
}

/// What a node's process can end for because of its disk or what is on it.
pub const STORAGE_FAULTS: [Reason; 6] = [
    DISK_FULL,
    DISK_FAILED,
    DAMAGED,
    DIVERGED,
    OUTDATED_VOLUME,
    CLONED_VOLUME,
];

/// Of these, those of the disk alone: what it took is as good as before.
pub const DISK_FAULTS: [Reason; 2] = [DISK_FULL, DISK_FAILED];

/// The last word of a node's process that ended because of its disk, as its pod's status carries it:
/// the reason's name, a colon, a sentence.
pub fn termination_message(reason: Reason, sentence: &str) -> String {
    format!("{}: {sentence}", reason.name)
}

/// The reason and the sentence of such a last word; nothing if a process ended for anything else.
pub fn read_termination_message(message: &str) -> Option<(Reason, &str)> {
    let (name, sentence) = message.split_once(": ")?;
    let reason = STORAGE_FAULTS
        .into_iter()
        .find(|reason| reason.name == name)?;
    Some((reason, sentence))
}

/// The table of [`TABLE`] in Markdown, one row per reason and condition type.
pub fn markdown() -> String {
    use std::fmt::Write as _;

    let mut text = String::from("| Condition | Status | Reason | Meaning |\n|---|---|---|---|\n");
    for condition_type in TYPES {
        for reason in TABLE {
            if let Some(status) = reason.status_on(condition_type) {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "| {condition_type} | {status} | {} | {} |",
                    reason.name, reason.meaning
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reasons_are_unique_camel_case_words_with_a_meaning() {
        let mut seen = BTreeSet::new();
        for reason in TABLE {
            assert!(seen.insert(reason.name), "{} twice", reason.name);
            assert!(
                reason.name.chars().all(char::is_alphanumeric),
                "{}",
                reason.name
            );
            assert!(
                reason.name.starts_with(char::is_uppercase),
                "{}",
                reason.name
            );
            assert!(reason.meaning.ends_with('.'), "{}", reason.name);
            for (condition_type, status) in reason.on {
                assert!(TYPES.contains(condition_type), "{}", reason.name);
                assert!(["True", "False"].contains(status), "{}", reason.name);
            }
        }
    }

    #[test]
    fn a_node_s_last_word_reads_back_as_written() {
        for reason in STORAGE_FAULTS {
            assert_eq!(reason.status_on(STORAGE_HEALTHY), Some("False"));
            let message = termination_message(reason, "the file x: is gone");
            let expected = Some((reason, "the file x: is gone"));
            assert_eq!(read_termination_message(&message), expected);
        }
        for other in [
            "",
            "panicked",
            "AsDesired: all is well",
            "Error: DiskFull: no",
        ] {
            assert_eq!(read_termination_message(other), None, "{other}");
        }
    }

    #[test]
    fn every_condition_type_can_be_true_and_false() {
        for condition_type in TYPES {
            for status in ["True", "False"] {
                assert!(
                    TABLE
                        .iter()
                        .any(|reason| reason.status_on(condition_type) == Some(status)),
                    "no reason makes {condition_type} {status}"
                );
            }
        }
    }
}
