//! The contract's codecs, with errors that say where in the store the bytes stood.

use percolate_api::codec;
use percolate_core::identity::Index;
use percolate_core::model::Item;
use percolate_core::operation::{IdempotencyRecord, Transaction};

use super::error::StoreError;
use super::keys::Family;

pub(super) use percolate_api::codec::{encode_item, encode_record, fingerprint, is_opening};

pub(super) fn decode_item(key: &[u8], bytes: &[u8]) -> Result<Item, StoreError> {
    codec::decode_item(bytes).map_err(undecodable(Family::Items, key))
}

pub(super) fn decode_record(key: &[u8], bytes: &[u8]) -> Result<IdempotencyRecord, StoreError> {
    codec::decode_record(bytes).map_err(undecodable(Family::Idempotency, key))
}

/// The transaction in the payload of the entry at `index`. One that cannot be read stops this
/// replica: leaving it out would make it differ from the others for good.
pub(super) fn decode_transaction(index: Index, payload: &[u8]) -> Result<Transaction, StoreError> {
    codec::decode_transaction(payload).map_err(|error| StoreError::UnknownTransaction {
        index,
        reason: error.to_string(),
    })
}

fn undecodable(family: Family, key: &[u8]) -> impl FnOnce(codec::DecodeError) -> StoreError {
    move |error| StoreError::undecodable(family, key, error.to_string())
}
