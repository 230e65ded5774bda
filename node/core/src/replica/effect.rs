//! What goes into the replica machine and what comes out of it.

use super::{Message, RequestId, StateDigest};
use crate::identity::{Epoch, Incarnation, Index, ReplicaId};
use crate::log::{Place, SharedEntry};
use crate::register::{Register, Version, View};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed. Expected a few times per heartbeat.
    Tick,
    /// The register was seen at some version, by a watch.
    Watched(View),
    /// Answer to [`Effect::ReadRegister`]; `None` if the read failed.
    RegisterRead(Option<View>),
    /// Answer to [`Effect::ChangeRegister`].
    RegisterChanged(ChangeOutcome),
    /// A message arrived.
    Received {
        /// Who sent it.
        from: ReplicaId,
        /// What it says.
        message: Message,
    },
    /// The pod of `replica` refused or reset a connection: a hint, never a proof.
    Unreachable(ReplicaId),
    /// The write with this ticket, and all before it, are on disk.
    Persisted(Ticket),
    /// Committed entries were applied; the state after each of them, in order.
    Applied(Vec<StateDigest>),
    /// What [`Effect::FetchSnapshot`] asked for has been copied, whole and verified.
    SnapshotFetched,
    /// How much of this replica's snapshot another one has copied; `None` when it is gone. Expected
    /// when that changes, a few times a second at most.
    SnapshotRead {
        /// Who copies it.
        by: ReplicaId,
        /// Of a hundred.
        percent: Option<u8>,
    },
    /// A client wants this payload in the log.
    Propose {
        /// Names the proposal in the answer.
        id: RequestId,
        /// An encoded transaction.
        payload: Vec<u8>,
    },
    /// Answer to [`Effect::Rescue`]: encoded transactions that say where they come from. Fewer than
    /// were asked for, from the first, if one cannot be read.
    Rescue(Vec<(Place, Vec<u8>)>),
    /// The rescued entry at this index was applied here.
    Decided {
        /// Where it stands now.
        index: Index,
        /// Whether it took effect.
        merged: bool,
    },
    /// A client wants to know that this replica still leads.
    Confirm(RequestId),
    /// This replica's process is about to stop: lead elsewhere, please.
    HandOver(RequestId),
}

/// How a change of the register ended.
#[derive(Debug, Clone)]
pub enum ChangeOutcome {
    /// It was applied; this is the register since.
    Applied(Box<View>),
    /// It was refused, or nobody knows (a timeout): it may even be applied later.
    NotKnownApplied,
}

/// Number of a write to disk; writes are carried out in this order.
pub type Ticket = u64;

/// Something to be done. Effects of one step are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write all of this in one atomic, synced batch, then report [`Input::Persisted`].
    Persist(Persist),
    /// Send `message` to `to`, which lives in `pod`. May be lost.
    Send {
        /// The receiver's identity: another replica in that pod must not take it.
        to: ReplicaId,
        /// Where the receiver lives.
        pod: String,
        /// What to say.
        message: Message,
    },
    /// The leader's log no longer reaches back to this one: copy what `from` has applied, then report
    /// [`Input::SnapshotFetched`]. Repeated until that is done.
    FetchSnapshot {
        /// The leader.
        from: ReplicaId,
        /// Where it lives.
        pod: String,
    },
    /// Stop, put the snapshot in place of this disk's contents but for its identity and its promise,
    /// and begin anew. Nothing may be sent or persisted after this.
    InstallSnapshot {
        /// Entries that this disk has applied may not be in the leader's log, because a person gave them
        /// up. From where the two part they are kept aside, as all that are not applied are.
        given_up: bool,
    },
    /// Read the register linearizably.
    ReadRegister,
    /// Replace the register if it is still at `expected`. Must not be retried by the edge.
    ChangeRegister {
        /// The version the change builds on.
        expected: Version,
        /// The new value.
        register: Register,
    },
    /// Everything up to this index is committed: apply it.
    Commit(Index),
    /// The proposal stands at this index; it is acknowledged once that is applied.
    Proposed {
        /// The proposal.
        id: RequestId,
        /// Where it stands.
        index: Index,
    },
    /// Make proposals of these entries, which a replica had to cut from its log, then report
    /// [`Input::Rescue`]; and [`Input::Decided`] for each once it is applied.
    Rescue(Vec<SharedEntry>),
    /// The proposal was not taken and will never take effect.
    Refused {
        /// The proposal or confirmation.
        id: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// This replica led when asked; a read that sees everything up to `index` is linearizable.
    Confirmed {
        /// The confirmation.
        id: RequestId,
        /// What must be applied before reading.
        index: Index,
    },
    /// A handover ended.
    HandedOver {
        /// The request.
        id: RequestId,
        /// Whether another replica leads now.
        done: bool,
    },
    /// This replica no longer leads: what it proposed and has not committed has an unknown outcome.
    SteppedDown,
}

/// One atomic, synced write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persist {
    /// Reported back when it is on disk.
    pub ticket: Ticket,
    /// The history this disk now belongs to, if that is new.
    pub incarnation: Option<Incarnation>,
    /// The epoch promised from now on.
    pub promised_epoch: Epoch,
    /// First remove every entry after this index, and keep those with a payload aside.
    pub truncate_after: Option<Index>,
    /// Then append these.
    pub append: Vec<SharedEntry>,
    /// Forget these of the entries that are kept aside.
    pub forget: Vec<Place>,
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else leads, or nobody.
    NotLeader,
    /// Fewer replicas in sync and reachable than the tenant demands.
    NotEnoughReplicas {
        /// In sync and reachable.
        in_sync: usize,
        /// Demanded.
        min_in_sync: usize,
    },
    /// Too many proposals wait for a handover to end.
    Overloaded,
}

/// Why a replica stands aside until a person or the operator acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranded {
    /// The register is empty but this disk is not, or bootstrapping is over: a restored etcd.
    RegisterEmpty,
    /// The register belongs to another history than this disk (R7).
    OtherIncarnation,
    /// This replica came to another state than the leader, or committed other entries.
    Diverged {
        /// Where.
        at: Index,
    },
    /// This disk lacks entries that it held: it is an older copy of itself.
    Outdated {
        /// It held entries up to here.
        held: Index,
        /// Its log ends here.
        last: Index,
    },
    /// Another pod holds this replica: this disk is a copy of its.
    Cloned,
}
