//! Facts about this replica, in the `meta` family: one key per fact, see [`super::keys`].

use percolate_core::identity::{Epoch, Incarnation, ReplicaId};
use percolate_core::log::{Chain, Head};

use super::keys::Fields;

pub(super) const FORMAT: &[u8] = b"format";
pub(super) const REPLICA_ID: &[u8] = b"replica_id";
pub(super) const INCARNATION: &[u8] = b"incarnation";
pub(super) const PROMISED_EPOCH: &[u8] = b"promised_epoch";
pub(super) const LOSS: &[u8] = b"loss";
pub(super) const APPLIED: &[u8] = b"applied";
pub(super) const BASE: &[u8] = b"base";
pub(super) const IDEMPOTENCY: &[u8] = b"idempotency";
pub(super) const STATE_HASH: &[u8] = b"state_hash";

/// A fact with a fixed width on disk.
pub(super) trait Fact: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Fact for u32 {
    fn encode(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let value = fields.u32()?;
        fields.end(value)
    }
}

impl Fact for Epoch {
    fn encode(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let value = fields.u64()?;
        fields.end(value)
    }
}

impl Fact for ReplicaId {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let value = fields.u128().map(Self)?;
        fields.end(value)
    }
}

impl Fact for Incarnation {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let value = fields.u128().map(Self)?;
        fields.end(value)
    }
}

impl Fact for Head {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.index.to_be_bytes());
        bytes.extend_from_slice(&self.chain.0);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let head = Self {
            epoch: fields.u64()?,
            index: fields.u64()?,
            chain: Chain(fields.array()?),
        };
        fields.end(head)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::super::idempotency::Places;
    use super::*;

    fn check<T: Fact + PartialEq + Debug>(fact: &T) {
        let bytes = fact.encode();
        assert_eq!(T::decode(&bytes).as_ref(), Some(fact));
        assert_eq!(T::decode(&bytes[1..]), None, "a fact cut short was read");
        assert_eq!(
            T::decode(&[bytes, vec![0]].concat()),
            None,
            "a fact with something behind it was read"
        );
    }

    proptest! {
        #[test]
        fn facts_read_back_as_written(small: u32, a: u64, b: u64, wide: u128, chain: [u8; 16]) {
            check(&small);
            check(&a);
            check(&ReplicaId(wide));
            check(&Incarnation(wide));
            check(&Head { epoch: a, index: b, chain: Chain(chain) });
            check(&Places { first: a, next: b });
        }
    }
}
