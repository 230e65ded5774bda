//! A hash over what replicas hold in common: equal at an equal applied head, or one of them is wrong.
//!
//! ```text
//! apply ─▶ lines written, changed, removed ─▶ StateHash kept up to date ─▶ meta, with the same batch
//! scrub ─▶ recount: every line read again  ─▶ StateHash ─▶ equal to the one kept, or damage
//! ```
//! It is a sum over the lines of the state: what one change adds and takes away is known without
//! looking at the rest, so it costs per change, however large a tenant is. A sum does not tell in
//! which order lines were written, nor need it: keys are unique, and the state is what stands under
//! them. It finds accidents; nobody who could forge it needs to.

use percolate_core::identity::Index;
use percolate_core::log::Head;
use percolate_core::replica::StateDigest;
use rocksdb::{DB, IteratorMode, ReadOptions, Snapshot};

use super::engine;
use super::error::StoreError;
use super::keys::{Family, Fields};
use super::meta::{self, Fact};

/// Sum modulo 2^256 of the BLAKE3 hashes of all lines; zero for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct StateHash([u64; 4]);

impl StateHash {
    /// A line that was not there is there.
    pub(super) fn add(&mut self, family: Family, key: &[u8], value: &[u8]) {
        let mut carry = false;
        for (sum, limb) in self.0.iter_mut().zip(limbs(family, key, value)) {
            let (partial, over) = sum.overflowing_add(limb);
            let (total, again) = partial.overflowing_add(u64::from(carry));
            *sum = total;
            carry = over || again;
        }
    }

    /// A line that was there is gone.
    pub(super) fn remove(&mut self, family: Family, key: &[u8], value: &[u8]) {
        let mut borrow = false;
        for (sum, limb) in self.0.iter_mut().zip(limbs(family, key, value)) {
            let (partial, under) = sum.overflowing_sub(limb);
            let (total, again) = partial.overflowing_sub(u64::from(borrow));
            *sum = total;
            borrow = under || again;
        }
    }

    /// As bytes, the least significant first.
    pub(super) fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    fn of_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            *limb = u64::from_le_bytes(eight);
        }
        Self(limbs)
    }
}

fn limbs(family: Family, key: &[u8], value: &[u8]) -> [u64; 4] {
    let mut hasher = blake3::Hasher::new();
    // The name's end and the key's length keep neighbours apart: no two lines give the same bytes.
    hasher.update(family.name().as_bytes()).update(&[0]);
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key).update(value);
    StateHash::of_bytes(hasher.finalize().into()).0
}

/// The hash of the state after the entry at `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) index: Index,
    pub(super) hash: StateHash,
}

impl From<Tally> for StateDigest {
    fn from(tally: Tally) -> Self {
        Self {
            index: tally.index,
            hash: tally.hash.bytes(),
        }
    }
}

impl Fact for Tally {
    fn encode(&self) -> Vec<u8> {
        [&self.index.to_be_bytes()[..], &self.hash.bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let tally = Self {
            index: fields.u64()?,
            hash: StateHash::of_bytes(fields.array()?),
        };
        fields.end(tally)
    }
}

/// What a recount found, all of it as of one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recount {
    /// The last applied entry.
    pub(super) applied: Head,
    /// The hash of the lines that are there.
    pub(super) hash: StateHash,
    /// The hash that was kept; `None` in a store that an older version wrote last.
    pub(super) kept: Option<Tally>,
}

/// Reads every line that replicas hold in common. `pace` is told the bytes of each, may wait, and
/// ends the recount by saying no: then there is no result.
pub(super) fn recount(
    db: &DB,
    mut pace: impl FnMut(usize) -> bool,
) -> Result<Option<Recount>, StoreError> {
    let snapshot = db.snapshot();
    let mut hash = StateHash::default();
    for family in Family::REPLICATED {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let lines =
            snapshot.iterator_cf_opt(engine::family(db, family), options, IteratorMode::Start);
        for line in lines {
            let (key, value) = line.map_err(StoreError::reading("hash the state"))?;
            hash.add(family, &key, &value);
            if !pace(key.len() + value.len()) {
                return Ok(None);
            }
        }
    }
    Ok(Some(Recount {
        applied: fact(db, &snapshot, meta::APPLIED)?.unwrap_or_default(),
        hash,
        kept: fact(db, &snapshot, meta::STATE_HASH)?,
    }))
}

fn fact<T: Fact>(db: &DB, snapshot: &Snapshot<'_>, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = snapshot
        .get_cf(engine::family(db, Family::Meta), key)
        .map_err(StoreError::reading("read a fact"))?;
    value
        .map(|bytes| {
            T::decode(&bytes)
                .ok_or_else(|| StoreError::undecodable(Family::Meta, key, "it has another width"))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Line = (Vec<u8>, Vec<u8>);

    fn sum(lines: &[Line]) -> StateHash {
        let mut hash = StateHash::default();
        for (key, value) in lines {
            hash.add(Family::Items, key, value);
        }
        hash
    }

    proptest! {
        #[test]
        fn the_order_of_lines_does_not_matter(mut lines: Vec<Line>) {
            let forwards = sum(&lines);
            lines.reverse();
            prop_assert_eq!(sum(&lines), forwards);
        }

        #[test]
        fn what_is_added_and_removed_leaves_nothing(lines: Vec<Line>, key: Vec<u8>, value: Vec<u8>) {
            let before = sum(&lines);
            let mut hash = before;
            hash.add(Family::Items, &key, &value);
            prop_assert_ne!(hash, before);
            hash.remove(Family::Items, &key, &value);
            prop_assert_eq!(hash, before);
        }

        #[test]
        fn lines_are_told_apart(key: Vec<u8>, value: Vec<u8>, byte: u8) {
            let moved = ([key.clone(), vec![byte]].concat(), value.clone());
            let whole = (key.clone(), [vec![byte], value.clone()].concat());
            prop_assert_ne!(sum(&[moved]), sum(&[whole]));
            let [mut one, mut other] = [StateHash::default(); 2];
            one.add(Family::Items, &key, &value);
            other.add(Family::Changes, &key, &value);
            prop_assert_ne!(one, other);
        }

        #[test]
        fn a_tally_reads_back_as_written(index: u64, bytes: [u8; 32]) {
            let tally = Tally { index, hash: StateHash::of_bytes(bytes) };
            prop_assert_eq!(Tally::decode(&tally.encode()), Some(tally));
            prop_assert_eq!(tally.hash.bytes(), bytes);
        }
    }
}
