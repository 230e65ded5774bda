//! The handle through which the API reaches the tenant: propose a write, wait until a read is
//! fresh enough, ask for status. Behind it stands the [`crate::driver`].
//!
//! ```text
//! server -> Handle::write -> driver -> core::replica -> oplog + followers -> apply -> Written
//! server -> Handle::freshen -> (wait) -> server reads the Store
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use percolate_core::identity::{Epoch, Incarnation, Index, ReplicaId};
use percolate_core::operation::{IdempotencyKey, Operation, Outcome};
use percolate_core::register::{Member, ReplicaState};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admission::{Admission, Bounds, Place};
use crate::snapshot::progress::Copying;
use crate::store::Store;

/// Where a client stands in a tenant's history. Opaque to clients; sent with every reply and
/// sent back with the next request, at any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionToken {
    /// The history the client read from.
    pub incarnation: Incarnation,
    /// Epoch under which it was served.
    pub epoch: Epoch,
    /// Everything up to this index is visible to the client.
    pub index: Index,
}

/// A session token that this node cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a session token has the form <incarnation>.<epoch>.<index>, as a reply's Percolate-Session header gave it"
)]
pub struct ParseTokenError;

impl fmt::Display for SessionToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}.{}.{}",
            self.incarnation, self.epoch, self.index
        )
    }
}

impl FromStr for SessionToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some(incarnation), Some(epoch), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParseTokenError);
        };
        Ok(Self {
            incarnation: incarnation.parse().map_err(|_| ParseTokenError)?,
            epoch: epoch.parse().map_err(|_| ParseTokenError)?,
            index: index.parse().map_err(|_| ParseTokenError)?,
        })
    }
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Not older than the session token sent along; without one, whatever this replica has.
    #[default]
    Session,
    /// Sees every write acknowledged before the read began; asked of the leader, confirmed by all in sync.
    Linearizable,
    /// Whatever this replica has applied.
    Local,
}

/// A write that is durable on every in-sync replica and applied here.
#[derive(Debug, Clone)]
pub struct Written {
    /// What the write did, or why it was refused (a refusal is durable too).
    pub outcome: Outcome,
    /// Send it with the next request to see this write anywhere.
    pub token: SessionToken,
}

/// Why a request could not be served here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Another replica leads: the request can be forwarded to its API.
    #[error("this replica does not lead, {leader_url:?} does")]
    NotLeader {
        /// Base URL of the leader's API, if it is known.
        leader_url: Option<String>,
    },
    /// Nobody leads that this replica knows of.
    #[error("no leader is known")]
    NoLeader,
    /// Fewer replicas are in sync than the tenant demands.
    #[error("{in_sync} replicas in sync and reachable, {min_in_sync} are needed to write")]
    NotEnoughReplicas {
        /// In sync and reachable.
        in_sync: usize,
        /// Demanded by the tenant.
        min_in_sync: usize,
    },
    /// Too much is waiting already.
    #[error("too many requests are waiting")]
    Overloaded,
    /// The write was proposed, then leadership was lost or the node stopped: it may or may not
    /// take effect. A retry with the same idempotency key is safe.
    #[error("the outcome is unknown")]
    UnknownOutcome,
    /// What the session token demands was not reached in time.
    #[error("this replica has applied up to {applied}, the session asks for {wanted}")]
    TooStale {
        /// Applied here.
        applied: Index,
        /// Demanded by the token.
        wanted: Index,
    },
    /// What this follower shows is not proven to be as young as asked.
    #[error("what this replica shows is not proven to be younger than {bound:?}")]
    TooOld {
        /// What was asked.
        bound: Duration,
    },
    /// The token is of another history (the tenant was restored or recreated).
    #[error("the session token belongs to another history of this tenant")]
    OtherIncarnation,
}

/// What this replica is to its tenant right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Has not found out yet.
    Joining,
    /// Acknowledges writes.
    Leader,
    /// Copies the leader's log and is in sync.
    Follower,
    /// Copies the leader's log and is not in sync yet.
    Learner,
}

/// What `GET /api/v1/status`, readiness and metrics show. Changes are pushed by the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This disk.
    pub replica_id: ReplicaId,
    /// What the disks of this tenant belong to; `None` before the first contact with it.
    pub incarnation: Option<Incarnation>,
    /// Of what is applied, the latest epoch before which entries were given up; 0 without any.
    pub loss: Epoch,
    /// What this replica is.
    pub role: Role,
    /// Highest epoch known.
    pub epoch: Epoch,
    /// Who leads, as far as known.
    pub leader: Option<ReplicaId>,
    /// The leader's pod.
    pub leader_pod: Option<String>,
    /// Base URL of the leader's API (`https://host:8000`), for forwarding.
    pub leader_url: Option<String>,
    /// The in-sync set of the register version held.
    pub in_sync: Vec<ReplicaId>,
    /// Last index in the log.
    pub last: Index,
    /// Highest index known to be committed.
    pub committed: Index,
    /// Highest index applied to the visible store.
    pub applied: Index,
    /// Entries this replica is behind the leader, as far as it knows.
    pub lag: Index,
    /// Whether the replica serves: the readiness probe's answer.
    pub serving: bool,
    /// How far it is.
    pub state: ReplicaState,
    /// The snapshot it copies.
    pub copying: Option<Copying>,
    /// A leader's replicas and how far they are; empty elsewhere.
    pub members: Vec<Member>,
    /// Everything acknowledged before this is visible here; `None` while nothing is proven.
    pub as_of: Option<Instant>,
    /// Whether no leader was heard for so long that waiting for one is no use.
    pub cut_off: bool,
}

/// Where a session has come to, as seen from a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The replica has no history yet.
    Unknown,
    /// What it shows is as new.
    Reached,
    /// Further than it is.
    Ahead,
    /// In entries that were given up, or in another tenant's.
    OfAnotherHistory,
}

impl Status {
    /// The history that tokens and places of events are of.
    pub fn history(&self) -> Option<Incarnation> {
        Some(self.incarnation?.history_since(self.loss))
    }

    fn reach_of(&self, token: SessionToken) -> Reach {
        let Some(incarnation) = self.incarnation else {
            return Reach::Unknown;
        };
        match incarnation.loss_before(token.incarnation) {
            Some(loss) if loss > self.loss => Reach::Ahead,
            Some(loss) if loss < self.loss => Reach::OfAnotherHistory,
            Some(_) if token.index > self.applied => Reach::Ahead,
            Some(_) => Reach::Reached,
            None => Reach::OfAnotherHistory,
        }
    }

    /// Of a replica that has not found out anything yet.
    pub fn joining(replica_id: ReplicaId) -> Self {
        Self {
            replica_id,
            incarnation: None,
            loss: 0,
            role: Role::Joining,
            epoch: 0,
            leader: None,
            leader_pod: None,
            leader_url: None,
            in_sync: Vec::new(),
            last: 0,
            committed: 0,
            applied: 0,
            lag: 0,
            serving: false,
            state: ReplicaState::Probing,
            copying: None,
            members: Vec::new(),
            as_of: None,
            cut_off: false,
        }
    }
}

/// A request to the driver. Sent through [`Handle`].
#[derive(Debug)]
pub enum Command {
    /// Write these operations as one transaction.
    Write {
        /// All or nothing.
        operations: Vec<Operation>,
        /// The same key again gets the first answer.
        idempotency_key: Option<IdempotencyKey>,
        /// Where the answer goes.
        reply: WriteReply,
    },
    /// Answer once everything acknowledged before now is applied here and leadership is confirmed.
    Confirm {
        /// Where the answer goes: the index applied.
        reply: oneshot::Sender<Result<Index, Unavailable>>,
    },
    /// Give the lead to another replica, if there is one; answered when it is done or impossible.
    HandOver {
        /// Where the answer goes: whether somebody else leads now.
        reply: oneshot::Sender<bool>,
    },
}

/// Where the answer to a write goes, and its place among those that wait, which is free once this is
/// gone.
#[derive(Debug)]
pub struct WriteReply {
    sender: oneshot::Sender<Result<Written, Unavailable>>,
    _place: Place,
}

impl WriteReply {
    /// Answer; nobody may be waiting any more.
    pub fn send(self, answer: Result<Written, Unavailable>) {
        let _ = self.sender.send(answer);
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Cheap to clone; one per connection is fine.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The visible store: read it after [`Handle::freshen`].
    pub store: Arc<Store>,
    /// Of [`Command::Write`] alone: they may be left waiting while the disk is busy.
    writes: mpsc::Sender<Command>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    admission: Admission,
}

/// How long a read waits for this replica to reach its session token before it is sent to the
/// leader instead: a few heartbeats, so that a healthy follower always makes it.
pub const FRESHEN_TIMEOUT: Duration = Duration::from_secs(2);

impl Handle {
    /// A handle to the driver behind `writes` and, for all other commands, `commands`, which
    /// publishes `status`.
    pub fn new(
        store: Arc<Store>,
        writes: mpsc::Sender<Command>,
        commands: mpsc::Sender<Command>,
        status: watch::Receiver<Status>,
    ) -> Self {
        Self {
            store,
            writes,
            commands,
            status,
            admission: Admission::new(Bounds::default()),
        }
    }

    /// What this replica is right now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What this replica is to its tenant right now.
    pub fn role(&self) -> Role {
        self.status.borrow().role
    }

    /// Follow the changes of [`Handle::status`].
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Write `operations` as one transaction; returns when it is durable on every in-sync replica
    /// and visible here. Dropping the future does not undo the write. Overload is told at once: nothing
    /// waits for a place.
    pub async fn write(
        &self,
        operations: Vec<Operation>,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Result<Written, Unavailable> {
        let bytes = operations.iter().map(Operation::size).sum();
        let place = self.admission.admit(bytes, Instant::now());
        let place = place.ok_or(Unavailable::Overloaded)?;
        let (sender, answer) = oneshot::channel();
        let reply = WriteReply {
            sender,
            _place: place,
        };
        let command = Command::Write {
            operations,
            idempotency_key,
            reply,
        };
        self.writes
            .try_send(command)
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => Unavailable::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Unavailable::NoLeader,
            })?;
        answer.await.unwrap_or(Err(Unavailable::UnknownOutcome))
    }

    /// Wait until a read of the store is as fresh as asked; returns the token of what it will see.
    pub async fn freshen(
        &self,
        consistency: Consistency,
        token: Option<SessionToken>,
    ) -> Result<SessionToken, Unavailable> {
        match consistency {
            Consistency::Local => {}
            Consistency::Session => self.reach(token).await?,
            Consistency::Linearizable => {
                let (reply, answer) = oneshot::channel();
                self.commands
                    .try_send(Command::Confirm { reply })
                    .map_err(|_| Unavailable::Overloaded)?;
                answer.await.unwrap_or(Err(Unavailable::NoLeader))?;
            }
        }
        let status = self.status();
        let history = status.history().ok_or(Unavailable::NoLeader)?;
        Ok(SessionToken {
            incarnation: history,
            epoch: status.epoch,
            index: status.applied,
        })
    }

    /// A time, no longer ago than `bound`, before which nothing was acknowledged that is not visible
    /// here. A leader asks all in sync if it knows none; a follower never waits for one, because to
    /// ask the leader takes less.
    pub async fn prove_younger(&self, bound: Duration) -> Result<Instant, Unavailable> {
        let status = self.status();
        if let Some(as_of) = status.as_of.filter(|as_of| as_of.elapsed() <= bound) {
            return Ok(as_of);
        }
        if status.role != Role::Leader {
            return Err(Unavailable::TooOld { bound });
        }
        let asked = Instant::now();
        self.freshen(Consistency::Linearizable, None).await?;
        Ok(asked)
    }

    async fn reach(&self, token: Option<SessionToken>) -> Result<(), Unavailable> {
        let Some(token) = token else { return Ok(()) };
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| status.reach_of(token) != Reach::Ahead);
        let _ = tokio::time::timeout(FRESHEN_TIMEOUT, reached).await;
        let now = self.status();
        match now.reach_of(token) {
            Reach::Reached => return Ok(()),
            Reach::OfAnotherHistory => return Err(Unavailable::OtherIncarnation),
            Reach::Ahead | Reach::Unknown => {}
        }
        Err(Unavailable::TooStale {
            applied: now.applied,
            wanted: token.index,
        })
    }

    /// Ask the leader's process to hand over; `true` when another replica leads.
    pub async fn hand_over(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        if self
            .commands
            .send(Command::HandOver { reply })
            .await
            .is_err()
        {
            return false;
        }
        answer.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_waited_for_unless_what_it_has_seen_was_given_up() {
        let own = Incarnation(1 << 100);
        let status = |loss, applied| Status {
            incarnation: Some(own),
            loss,
            applied,
            ..Status::joining(ReplicaId(1))
        };
        let token = |loss, index| SessionToken {
            incarnation: own.history_since(loss),
            epoch: 9,
            index,
        };
        let foreign = SessionToken {
            incarnation: Incarnation(1 << 101),
            epoch: 1,
            index: 0,
        };
        for (status, token, expected) in [
            (status(0, 5), token(0, 5), Reach::Reached),
            (status(0, 5), token(0, 6), Reach::Ahead),
            (status(0, 5), token(7, 1), Reach::Ahead), // it has yet to apply where that began
            (status(7, 5), token(7, 5), Reach::Reached),
            (status(7, 5), token(0, 1), Reach::OfAnotherHistory),
            (status(8, 5), token(7, 1), Reach::OfAnotherHistory),
            (status(0, 5), foreign, Reach::OfAnotherHistory),
            (Status::joining(ReplicaId(1)), token(0, 0), Reach::Unknown),
        ] {
            assert_eq!(status.reach_of(token), expected, "{token} at {status:?}");
        }
    }
}
