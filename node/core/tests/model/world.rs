//! Everything there is at one moment: register, replicas, and what is on its way.

use std::collections::BTreeSet;

use super::disks::{DiskId, Disks};
use super::log::Log;

pub(crate) type Epoch = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Register {
    pub(crate) version: u8,
    pub(crate) epoch: Epoch,
    pub(crate) leader: DiskId,
    pub(crate) in_sync: Disks,
}

/// What survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Durable {
    pub(super) promised: Epoch,
    pub(crate) log: Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Follower {
        epoch: Epoch,
        leader: u8,
        matched: u8,
    },
    Leader {
        epoch: Epoch,
        acked: [u8; DiskId::COUNT],
    },
}

pub(super) const NOBODY: Role = Role::Follower {
    epoch: 0,
    leader: 0,
    matched: 0,
};

/// A change of the register that may yet be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Unsettled {
    pub(super) expected: u8,
    /// The sets it would bring, put together.
    pub(super) proposed: Disks,
    /// Nothing else is tried before a read.
    pub(super) in_flight: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) lost: u8,
    pub(super) up: bool,
    pub(crate) durable: Durable,
    pub(super) now: Durable,
    pub(super) view: Option<Register>,
    pub(super) led: Epoch,
    pub(super) role: Role,
    pub(super) unsettled: Option<Unsettled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    Append {
        to: u8,
        from: u8,
        epoch: Epoch,
        log: Log,
    },
    Appended {
        to: u8,
        from: DiskId,
        epoch: Epoch,
        len: u8,
    },
}

impl Message {
    pub(super) fn to(self) -> usize {
        match self {
            Self::Append { to, .. } | Self::Appended { to, .. } => usize::from(to),
        }
    }
}

/// A change on its way to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Change {
    pub(crate) expected: u8,
    pub(crate) register: Register,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) register: Register,
    pub(crate) nodes: Vec<Node>,
    /// Everything ever sent: what is never delivered is lost, what is delivered twice is repeated.
    pub(crate) messages: BTreeSet<Message>,
    pub(crate) changes: BTreeSet<Change>,
    pub(crate) acknowledged: Log,
    pub(crate) acknowledging: [Option<DiskId>; 6],
    pub(crate) writes: u8,
    pub(crate) crashes: u8,
    pub(crate) lost_disks: u8,
    pub(crate) broken: Option<&'static str>,
}

impl World {
    pub(crate) fn disk_of(&self, pod: usize) -> DiskId {
        DiskId::new(pod, self.nodes[pod].lost)
    }
}
