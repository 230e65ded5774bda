//! Writes gathered for one atomic batch, readable before they are written: later entries of a batch
//! see what earlier ones did.

use std::collections::HashMap;

use rocksdb::{DB, WriteBatch};

use super::engine;
use super::error::StoreError;
use super::keys::Family;
use super::meta::Fact;

pub(super) struct Pending<'a> {
    db: &'a DB,
    batch: WriteBatch,
    /// The latest write to each key of a family; `None` is a delete.
    written: HashMap<Family, HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(db: &'a DB) -> Self {
        Self {
            db,
            batch: WriteBatch::default(),
            written: HashMap::new(),
        }
    }

    /// The value as it will be once the batch is written.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let written = self.written.get(&family);
        if let Some(value) = written.and_then(|written| written.get(key)) {
            return Ok(value.clone());
        }
        self.db
            .get_cf(engine::family(self.db, family), key)
            .map_err(StoreError::engine("read a value"))
    }

    pub(super) fn fact<T: Fact>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        decode_fact(key, self.get(Family::Meta, key)?)
    }

    pub(super) fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.batch
            .put_cf(engine::family(self.db, family), &key, &value);
        self.written
            .entry(family)
            .or_default()
            .insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.batch.delete_cf(engine::family(self.db, family), &key);
        self.written.entry(family).or_default().insert(key, None);
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
        .map_err(StoreError::engine("read a fact"))?;
    decode_fact(key, value)
}

fn decode_fact<T: Fact>(key: &[u8], value: Option<Vec<u8>>) -> Result<Option<T>, StoreError> {
    let Some(bytes) = value else { return Ok(None) };
    let fact = T::decode(&bytes)
        .ok_or_else(|| StoreError::undecodable(Family::Meta, key, "it has another width"))?;
    Ok(Some(fact))
}
