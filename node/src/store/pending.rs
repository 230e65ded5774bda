//! Writes gathered for one atomic batch, readable before they are written: later entries of a batch
//! see what earlier ones did. Each line of the state enters the state's hash, and the line it takes
//! the place of leaves it; whoever writes knows that one already.

use std::collections::HashMap;

use rocksdb::{DB, WriteBatch};

use super::engine;
use super::error::StoreError;
use super::keys::Family;
use super::meta::Fact;
use super::state_hash::StateHash;

pub(super) struct Pending<'a> {
    db: &'a DB,
    batch: WriteBatch,
    /// The latest write to each key of a family; `None` is a delete.
    written: HashMap<Family, HashMap<Vec<u8>, Option<Vec<u8>>>>,
    hash: StateHash,
}

impl<'a> Pending<'a> {
    /// `hash` is that of the state before.
    pub(super) fn new(db: &'a DB, hash: StateHash) -> Self {
        Self {
            db,
            batch: WriteBatch::default(),
            written: HashMap::new(),
            hash,
        }
    }

    /// The hash of the state with all that was written so far.
    pub(super) fn hash(&self) -> StateHash {
        self.hash
    }

    /// The value as it will be once the batch is written.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let written = self.written.get(&family);
        if let Some(value) = written.and_then(|written| written.get(key)) {
            return Ok(value.clone());
        }
        self.db
            .get_cf(engine::family(self.db, family), key)
            .map_err(StoreError::reading("read a value"))
    }

    pub(super) fn fact<T: Fact>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        decode_fact(key, self.get(Family::Meta, key)?)
    }

    /// Write a line of the state in place of `old`, which stood there.
    pub(super) fn put(&mut self, family: Family, key: Vec<u8>, old: Option<&[u8]>, value: Vec<u8>) {
        if let Some(old) = old {
            self.hash.remove(family, &key, old);
        }
        self.hash.add(family, &key, &value);
        self.write(family, key, value);
    }

    /// Remove a line of the state, `old`.
    pub(super) fn delete(&mut self, family: Family, key: Vec<u8>, old: &[u8]) {
        self.hash.remove(family, &key, old);
        self.batch.delete_cf(engine::family(self.db, family), &key);
        self.written.entry(family).or_default().insert(key, None);
    }

    /// Facts are this replica's own, and no part of the state.
    pub(super) fn put_fact<T: Fact>(&mut self, key: &[u8], fact: &T) {
        self.write(Family::Meta, key.to_vec(), fact.encode());
    }

    fn write(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.batch
            .put_cf(engine::family(self.db, family), &key, &value);
        self.written
            .entry(family)
            .or_default()
            .insert(key, Some(value));
    }

    /// All of it, to be written at once.
    pub(super) fn into_batch(self) -> WriteBatch {
        self.batch
    }
}

/// The fact under `key` in the `meta` family.
pub(super) fn read_fact<T: Fact>(db: &DB, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = db
        .get_cf(engine::family(db, Family::Meta), key)
        .map_err(StoreError::reading("read a fact"))?;
    decode_fact(key, value)
}

fn decode_fact<T: Fact>(key: &[u8], value: Option<Vec<u8>>) -> Result<Option<T>, StoreError> {
    let Some(bytes) = value else { return Ok(None) };
    let fact = T::decode(&bytes)
        .ok_or_else(|| StoreError::undecodable(Family::Meta, key, "it has another width"))?;
    Ok(Some(fact))
}
