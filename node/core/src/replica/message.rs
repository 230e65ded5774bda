//! What replicas say to each other. Every message may be lost, repeated, late or out of order.

use super::StateDigest;
use super::freshness::Proven;
use crate::identity::{Epoch, Index};
use crate::log::{Head, Place, SharedEntry};

/// One message between replicas of the same incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Leader to follower: entries, or none as a heartbeat.
    Append(Append),
    /// Follower to leader: what is durable here.
    Appended(Appended),
    /// Follower to leader: my log does not contain what yours is built on.
    Mismatch(Mismatch),
    /// Anyone to a leader of the past: a higher epoch was promised.
    Rejected {
        /// The epoch promised.
        promised_epoch: Epoch,
    },
    /// A replica that hears no leader tells the one in the register where it is.
    Join(Join),
    /// Follower to leader: my process is about to stop, do not wait for me.
    Leaving,
    /// The register has a new leader: read it.
    LeadershipMoved,
    /// Follower to leader: cut from my log, and to be merged into yours.
    Offer(Offer),
    /// Leader to follower: what became of these is committed, forget them.
    Rescued {
        /// The entries, by their places in the log they were cut from.
        places: Vec<Place>,
    },
    /// Follower to leader: you lack what was committed before your epoch.
    Outrun(Outrun),
    /// Among replicas without a leader, once a person has accepted the loss: I could lead.
    Candidacy(Candidacy),
}

/// Entries that follow `previous`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The leader's epoch.
    pub epoch: Epoch,
    /// Rises with every confirmation asked; echoed in the answer.
    pub round: u64,
    /// The entry just before `entries`.
    pub previous: Head,
    /// In order, without gaps. Empty in a heartbeat.
    pub entries: Vec<SharedEntry>,
    /// Committed up to here.
    pub commit: Index,
    /// The leader's log begins after this index: who has not got what stands there has to be given
    /// a snapshot.
    pub base: Index,
    /// The leader's last index.
    pub last: Index,
    /// Needs no answer of its own: what has become durable by it is told once it is.
    pub quiet: bool,
    /// The latest mark of this follower that is proven.
    pub proven: Option<Proven>,
    /// Index of the entry that began the epoch: all that was committed before it is below.
    pub start: Index,
    /// Whether the receiver is in sync, as far as the leader knows: it holds all that is committed.
    pub counted: bool,
    /// A state the leader has come to, now and then.
    pub digest: Option<StateDigest>,
}

/// What a follower has durably at `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The epoch both are in.
    pub epoch: Epoch,
    /// The latest round heard.
    pub round: u64,
    /// Equal to the leader's log up to here.
    pub matched: Index,
    /// Of that, durable up to here.
    pub durable: Index,
    /// To be proven: names the time at which this, or an earlier answer with it, was sent.
    pub mark: u64,
}

/// Where a follower's log may agree with the leader's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The epoch both are in.
    pub epoch: Epoch,
    /// Heads of the follower's log from its last backwards, ever wider spaced, ending with its
    /// base: the leader finds a common one in a single round trip.
    pub heads: Vec<Head>,
}

/// Proof that a leader's disk is an older copy of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outrun {
    /// The leader's epoch.
    pub epoch: Epoch,
    /// Committed at an earlier epoch, where the leader has something else or nothing.
    pub committed: Head,
}

/// Where a replica is and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The pod it lives in.
    pub pod: String,
    /// The last entry of its log.
    pub last: Head,
    /// The epoch it has promised.
    pub promised_epoch: Epoch,
}

/// Entries that were cut from a follower's log, a piece at a time. Repeated until it is told that they
/// are rescued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The epoch both are in.
    pub epoch: Epoch,
    /// As they stood in the follower's log, in the order of their places.
    pub entries: Vec<SharedEntry>,
    /// Whether the follower keeps no more than these.
    pub is_last: bool,
}

/// What a replica could lead with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidacy {
    /// The epoch whose loss was accepted.
    pub epoch: Epoch,
    /// Where the answer goes.
    pub pod: String,
    /// The end of its log.
    pub last: Head,
}
