//! Bodies of responses that are not a single item.

use percolate_core::operation::{Effect, Written};
use serde::{Deserialize, Serialize};

use super::precondition::etag;
use super::time::format_hlc;
use super::view::{ItemView, Meta, version_view};

/// Reply to a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPage {
    /// Items in the order of their ids.
    pub items: Vec<ItemView>,
    /// What to send as `after` for the next page; `None` after the last one.
    pub next: Option<String>,
}

/// Reply to a write of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriteReply {
    /// What happened.
    pub effect: EffectWord,
    /// The item's version and time afterwards.
    #[serde(flatten)]
    pub meta: Meta,
}

/// Reply to a batch: one result for each operation, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchReply {
    /// What each operation did.
    pub results: Vec<WriteReply>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectWord {
    /// The item is new.
    Created,
    /// The item was changed.
    Updated,
    /// The item was already so.
    Unchanged,
    /// The item is gone.
    Deleted,
}

/// Reply to `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whose database it is.
    pub tenant_id: String,
    /// The name of the process that answers, such as its pod's.
    pub node: String,
    /// The replica that answers.
    pub replica_id: String,
    /// What it is to the tenant.
    pub role: RoleWord,
    /// The epoch it knows of.
    pub epoch: i64,
    /// The replica that leads, if one is known.
    pub leader: Option<String>,
    /// The replicas without which nothing is acknowledged.
    pub in_sync: Vec<String>,
    /// The history that the data belongs to.
    pub incarnation: String,
    /// The last index known to be committed.
    pub committed: u64,
    /// The last index applied here.
    pub applied: u64,
    /// How many committed entries are not yet applied here.
    pub lag: u64,
    /// How far this replica is: `Probing`, `Streaming`, `Snapshotting 40%`, `InSync`. Empty from an
    /// older version, which says nothing of what follows either.
    #[serde(default)]
    pub state: String,
    /// How old at most what it shows is, in milliseconds; `None` while nothing is proven.
    #[serde(default)]
    pub staleness_ms: Option<u64>,
    /// The snapshot it copies.
    #[serde(default)]
    pub copying: Option<CopyView>,
    /// At the leader, the other replicas.
    #[serde(default)]
    pub followers: Vec<FollowerView>,
}

/// A snapshot that is being copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyView {
    /// Bytes that are here and verified.
    pub bytes: u64,
    /// Bytes of the whole.
    pub total: u64,
    /// How long it still takes, at the pace so far; `None` before there is one.
    pub eta_seconds: Option<u64>,
}

/// A replica as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerView {
    /// The replica.
    pub replica_id: String,
    /// The pod it lives in.
    pub pod: String,
    /// How far it is, in the words of [`Status::state`].
    pub state: String,
}

/// What a node is to its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleWord {
    /// It accepts writes.
    Leader,
    /// It follows and is in sync.
    Follower,
    /// It follows and is not yet in sync.
    Learner,
}

impl From<&Written> for WriteReply {
    fn from(written: &Written) -> Self {
        Self {
            effect: written.effect.into(),
            meta: Meta {
                version: version_view(&written.version),
                etag: etag(&written.version),
                updated_at: format_hlc(written.updated_at),
            },
        }
    }
}

impl From<Effect> for EffectWord {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Created => Self::Created,
            Effect::Updated => Self::Updated,
            Effect::Unchanged => Self::Unchanged,
            Effect::Deleted => Self::Deleted,
        }
    }
}
