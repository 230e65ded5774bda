//! Between the model and its bytes: what the store keeps and the oplog replicates.
//!
//! ```text
//! Item              ◀─▶ value in the store
//! Transaction       ◀─▶ payload of a log entry (an empty payload is a leader's first entry: no transaction)
//! Outcome           ◀─▶ answer to a forwarded write
//! IdempotencyRecord ◀─▶ value in the store
//! ```
//!
//! Encoding is deterministic: equal values have equal bytes, because replicas compare them by hash.
//! Decoding never panics and never returns what breaks the model's rules; an operation of a kind that a
//! newer version introduced is an error, not a silent omission.

mod actors;
mod item;
mod outcome;
mod transaction;

use std::collections::BTreeMap;

use percolate_core::model::{
    InvalidId, InvalidItem, InvalidJson, InvalidKey, InvalidName, Item, Json, Name,
};
use percolate_core::operation::{
    IdempotencyRecord, InvalidIdempotencyKey, InvalidTransaction, Operation, Outcome, Transaction,
    Written,
};
use percolate_core::version::{Dot, VectorClock};
use prost::Message;
use thiserror::Error;

use crate::proto::data::v1 as proto;

/// Why bytes are not what they should be.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// They are not this protobuf message.
    #[error("message is malformed")]
    Message(#[from] prost::DecodeError),
    /// A part that every such message has is not there.
    #[error("message has no {field}")]
    Missing {
        /// The part.
        field: &'static str,
    },
    /// A number stands for nothing known here; a newer version may have written it.
    #[error("message has the unknown {field} {number}")]
    Unknown {
        /// What the number names.
        field: &'static str,
        /// The number.
        number: u32,
    },
    /// An operation that is unknown here; a newer version may have written it.
    #[error("operation {operation} is of an unknown kind")]
    UnknownOperation {
        /// Which operation, from 0.
        operation: usize,
    },
    /// Two parts have the same name.
    #[error("message has the same {field} twice")]
    Repeated {
        /// What kind of part.
        field: &'static str,
    },
    /// An actor is 16 bytes, or 20 with an epoch other than 0.
    #[error("actor has {bytes} bytes or a zero epoch")]
    Actor {
        /// Its length.
        bytes: usize,
    },
    /// A reference to an actor that is not listed.
    #[error("item refers to actor {position} of {actors}")]
    ActorPosition {
        /// The reference.
        position: u32,
        /// How many are listed.
        actors: usize,
    },
    /// Sequence numbers start at 1.
    #[error("message has a write with sequence 0")]
    ZeroSequence,
    /// A part was written after everything that its item has seen.
    #[error("item has a part by {dot} that is beyond its version or its time")]
    BeyondItem {
        /// The write.
        dot: Dot,
    },
    /// A fingerprint is 32 bytes.
    #[error("fingerprint has {bytes} bytes, not 32")]
    Fingerprint {
        /// Its length.
        bytes: usize,
    },
    /// The parts do not make an item.
    #[error(transparent)]
    Item(#[from] InvalidItem),
    /// A text is no id.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A text is no name.
    #[error("name {0}")]
    Name(#[from] InvalidName),
    /// A text is no JSON value.
    #[error(transparent)]
    Json(#[from] InvalidJson),
    /// Bytes are no key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The operations do not make a transaction.
    #[error(transparent)]
    Transaction(#[from] InvalidTransaction),
    /// A text is no idempotency key.
    #[error(transparent)]
    IdempotencyKey(#[from] InvalidIdempotencyKey),
}

/// The bytes of an item.
pub fn encode_item(item: &Item) -> Vec<u8> {
    item::to_proto(item).encode_to_vec()
}

/// The item of some bytes.
pub fn decode_item(bytes: &[u8]) -> Result<Item, DecodeError> {
    item::from_proto(proto::Item::decode(bytes)?)
}

/// The bytes of a transaction.
pub fn encode_transaction(transaction: &Transaction) -> Vec<u8> {
    transaction::to_proto(transaction).encode_to_vec()
}

/// The transaction of some bytes.
pub fn decode_transaction(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    transaction::from_proto(proto::Transaction::decode(bytes)?)
}

/// What stands in the log where an epoch begins before which entries were given up: the field
/// `opens_after_loss`, which is true, and nothing else.
pub const OPENING_AFTER_LOSS: [u8; 2] = [5 << 3, 1];

/// Whether an entry begins an epoch, and is nothing that a client asked for.
pub fn is_opening(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes == OPENING_AFTER_LOSS
}

/// The bytes of an outcome.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    outcome::to_proto(outcome).encode_to_vec()
}

/// The outcome of some bytes.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, DecodeError> {
    outcome::from_proto(proto::Outcome::decode(bytes)?)
}

/// The bytes of what is remembered of a transaction.
pub fn encode_record(record: &IdempotencyRecord) -> Vec<u8> {
    outcome::record_to_proto(record).encode_to_vec()
}

/// What is remembered of a transaction, of some bytes.
pub fn decode_record(bytes: &[u8]) -> Result<IdempotencyRecord, DecodeError> {
    outcome::record_from_proto(proto::IdempotencyRecord::decode(bytes)?)
}

/// A hash of what is asked for, by which a retry is told from another use of its idempotency key.
/// It does not depend on when or where the request was accepted.
pub fn fingerprint(operations: &[Operation]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for operation in operations {
        // The length keeps one operation's end apart from the next one's beginning.
        hasher.update(&transaction::operation_to_proto(operation).encode_length_delimited_to_vec());
    }
    hasher.finalize().into()
}

/// The operation of a message, the `n`th of its transaction.
pub(crate) fn operation_from_proto(
    n: usize,
    operation: proto::Operation,
) -> Result<Operation, DecodeError> {
    transaction::operation_from_proto(n, operation)
}

/// What a transaction's operations did, as a message.
pub(crate) fn applied_to_proto(written: &[Written]) -> proto::Applied {
    outcome::applied_to_proto(written)
}

/// A version as a message.
pub(crate) fn version_to_proto(version: &VectorClock) -> proto::Version {
    actors::version_to_proto(version)
}

pub(crate) fn members_to_proto(members: &BTreeMap<Name, Json>) -> Vec<proto::Member> {
    let member = |(name, value): (&Name, &Json)| proto::Member {
        name: name.to_string(),
        json: value.to_text(),
    };
    members.iter().map(member).collect()
}

fn members_from_proto(members: Vec<proto::Member>) -> Result<BTreeMap<Name, Json>, DecodeError> {
    let members = members
        .into_iter()
        .map(|member| Ok((Name::new(member.name)?, Json::parse(&member.json)?)));
    unique("field", members)
}

/// Collects named parts, of which none may come twice.
fn unique<K: Ord, V>(
    field: &'static str,
    parts: impl Iterator<Item = Result<(K, V), DecodeError>>,
) -> Result<BTreeMap<K, V>, DecodeError> {
    let mut unique = BTreeMap::new();
    for part in parts {
        let (name, value) = part?;
        if unique.insert(name, value).is_some() {
            return Err(DecodeError::Repeated { field });
        }
    }
    Ok(unique)
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
