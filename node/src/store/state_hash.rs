//! A hash over what replicas hold in common: equal at an equal applied head, or one of them is wrong.

use percolate_core::log::Head;
use rocksdb::{DB, IteratorMode, ReadOptions};

use super::engine;
use super::error::StoreError;
use super::keys::Family;
use super::meta::{self, Fact};

pub(super) fn compute(db: &DB) -> Result<(Head, [u8; 32]), StoreError> {
    let snapshot = db.snapshot();
    let mut hasher = blake3::Hasher::new();
    for family in Family::REPLICATED {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        // Lengths and names keep neighbours apart: no two contents give the same bytes.
        hasher.update(family.name().as_bytes()).update(&[0]);
        for row in
            snapshot.iterator_cf_opt(engine::family(db, family), options, IteratorMode::Start)
        {
            let (key, value) = row.map_err(StoreError::engine("hash the state"))?;
            for part in [&key, &value] {
                hasher
                    .update(&(part.len() as u64).to_be_bytes())
                    .update(part);
            }
        }
    }
    let applied = snapshot
        .get_cf(engine::family(db, Family::Meta), meta::APPLIED)
        .map_err(StoreError::engine("read a fact"))?;
    let head = match applied {
        None => Head::default(),
        Some(bytes) => Head::decode(&bytes).ok_or_else(|| {
            StoreError::undecodable(Family::Meta, meta::APPLIED, "it has another width")
        })?,
    };
    Ok((head, hasher.finalize().into()))
}
