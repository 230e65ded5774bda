//! Answers already given under an idempotency key, in the `idempotency` family.
//!
//! ```text
//! 'k' key   -> place, record       what the first transaction under this key came to
//! 'o' place -> hlc, key            the same records in order of arrival, for forgetting
//! ```
//! Part of the replicated state: kept, looked up and forgotten by the same rules on every replica,
//! from nothing but the log, so that a retry gets the first answer under any leader. The rules are
//! [`percolate_core::operation`]'s; this module keeps the records.

use percolate_core::clock::Hlc;
use percolate_core::operation::{IdempotencyKey, IdempotencyRecord, expired};

use super::codec;
use super::error::StoreError;
use super::keys::{Family, Fields};
use super::meta::{self, Fact};
use super::pending::Pending;

const FORMAT: u8 = 1;
const BY_KEY: u8 = b'k';
const BY_ORDER: u8 = b'o';

/// The places in use: from `first` up to before `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Places {
    pub(super) first: u64,
    pub(super) next: u64,
}

impl Fact for Places {
    fn encode(&self) -> Vec<u8> {
        [self.first.to_be_bytes(), self.next.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let places = Self {
            first: fields.u64()?,
            next: fields.u64()?,
        };
        fields.end(places)
    }
}

/// What was answered under `key`, if it is remembered.
pub(super) fn find(
    pending: &Pending,
    key: &IdempotencyKey,
) -> Result<Option<IdempotencyRecord>, StoreError> {
    let at = by_key(key.as_str());
    let Some(bytes) = pending.get(Family::Idempotency, &at)? else {
        return Ok(None);
    };
    let Some((FORMAT, record)) = split_record(&bytes) else {
        return Err(unreadable(&at));
    };
    codec::decode_record(&at, record).map(Some)
}

/// Remember `record` under `key`, and forget what is too old or too much.
pub(super) fn remember(
    pending: &mut Pending,
    key: &IdempotencyKey,
    record: &IdempotencyRecord,
) -> Result<(), StoreError> {
    let mut places: Places = pending.fact(meta::IDEMPOTENCY)?.unwrap_or_default();
    let value = [&[FORMAT][..], &codec::encode_record(record)].concat();
    // Whoever remembers has looked for the key and found nothing.
    pending.put(Family::Idempotency, by_key(key.as_str()), None, value);
    let order = encode_order(record.hlc, key.as_str());
    pending.put(Family::Idempotency, by_order(places.next), None, order);
    places.next += 1;
    for place in places.first..places.first + forgettable(pending, places, record.hlc)? {
        forget(pending, place)?;
        places.first += 1;
    }
    pending.put_fact(meta::IDEMPOTENCY, &places);
    Ok(())
}

fn forget(pending: &mut Pending, place: u64) -> Result<(), StoreError> {
    let (hlc, key) = read_order(pending, place)?;
    let at = by_key(&key);
    let record = pending.get(Family::Idempotency, &at)?;
    let record = record.ok_or_else(|| unreadable(&at))?;
    pending.delete(Family::Idempotency, at, &record);
    let order = encode_order(hlc, &key);
    pending.delete(Family::Idempotency, by_order(place), &order);
    Ok(())
}

/// How many of the oldest records are to go.
fn forgettable(pending: &Pending, places: Places, now: Hlc) -> Result<u64, StoreError> {
    let mut failure = None;
    let times = (places.first..places.next).map_while(|place| match read_order(pending, place) {
        Ok((hlc, _)) => Some(hlc),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let kept = usize::try_from(places.next - places.first).unwrap_or(usize::MAX);
    let count = expired(times, kept, now);
    failure.map_or(Ok(count as u64), Err)
}

fn read_order(pending: &Pending, place: u64) -> Result<(Hlc, String), StoreError> {
    let at = by_order(place);
    let bytes = pending.get(Family::Idempotency, &at)?;
    bytes
        .and_then(|bytes| decode_order(&bytes))
        .ok_or_else(|| unreadable(&at))
}

fn by_key(key: &str) -> Vec<u8> {
    [&[BY_KEY], key.as_bytes()].concat()
}

fn by_order(place: u64) -> Vec<u8> {
    [&[BY_ORDER][..], &place.to_be_bytes()].concat()
}

fn split_record(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (format, record) = bytes.split_first()?;
    Some((*format, record))
}

fn encode_order(hlc: Hlc, key: &str) -> Vec<u8> {
    [&hlc.packed().to_be_bytes(), key.as_bytes()].concat()
}

fn decode_order(bytes: &[u8]) -> Option<(Hlc, String)> {
    let mut fields = Fields(bytes);
    let hlc = fields.u64().map(Hlc::from_packed)?;
    Some((hlc, String::from_utf8(fields.rest().to_vec()).ok()?))
}

fn unreadable(key: &[u8]) -> StoreError {
    StoreError::undecodable(
        Family::Idempotency,
        key,
        "it is missing, cut short or of another format",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn orders_read_back_as_written(packed: u64, key: String, place: u64) {
            let hlc = Hlc::from_packed(packed);
            prop_assert_eq!(decode_order(&encode_order(hlc, &key)), Some((hlc, key.clone())));
            prop_assert_ne!(by_key(&key)[0], by_order(place)[0], "the two kinds of key never meet");
        }

        #[test]
        fn places_sort_in_order_of_arrival(a: u64, b: u64) {
            prop_assert_eq!(by_order(a).cmp(&by_order(b)), a.cmp(&b));
        }
    }
}
