//! Batches: how many items travel in one transaction, and how a refused one is taken apart.

use serde_json::Value;

use super::source::Record;

/// Items in one batch: few enough that a refused one is found quickly, enough that the round trip
/// to every replica's disk is shared.
pub(super) const ITEMS: usize = 200;

/// Bytes in one batch, except for a single larger item: one replication frame.
const BYTES: usize = 1024 * 1024;

/// Items written as one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Batch {
    records: Vec<Record>,
    bytes: usize,
}

impl Batch {
    /// Whether `record` should rather begin another batch.
    pub(super) fn is_full_for(&self, record: &Record) -> bool {
        self.records.len() >= ITEMS
            || (!self.records.is_empty() && self.bytes + record.bytes > BYTES)
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.bytes;
        self.records.push(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of the items' sources.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The only item, if there is one only.
    pub(super) fn only(&self) -> Option<&Record> {
        match self.records.as_slice() {
            [record] => Some(record),
            _ => None,
        }
    }

    /// The body of `POST /batch`.
    pub(super) fn body(&self) -> Value {
        let operations = self.records.iter().map(|record| {
            let mut operation = record.item.clone();
            operation.insert("op".to_owned(), Value::from("put"));
            Value::Object(operation)
        });
        serde_json::json!({ "ops": operations.collect::<Vec<_>>() })
    }

    /// Two halves, the earlier items first.
    pub(super) fn halves(mut self) -> (Self, Self) {
        let later = self.records.split_off(self.records.len() / 2);
        (
            self.records.into_iter().collect(),
            later.into_iter().collect(),
        )
    }
}

impl FromIterator<Record> for Batch {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut batch = Self::default();
        for record in records {
            batch.push(record);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: usize, bytes: usize) -> Record {
        let item = serde_json::Map::from_iter([("id".to_owned(), Value::from(name))]);
        Record {
            item,
            name: name.to_string(),
            bytes,
        }
    }

    #[test]
    fn a_batch_is_bounded_in_items_and_bytes() {
        let many: Batch = (0..ITEMS).map(|name| record(name, 1)).collect();
        assert!(many.is_full_for(&record(0, 1)));
        let large: Batch = [record(0, BYTES)].into_iter().collect();
        assert!(large.is_full_for(&record(1, 1)));
        assert!(
            !Batch::default().is_full_for(&record(0, 2 * BYTES)),
            "a large item travels alone"
        );
    }

    #[test]
    fn halves_keep_the_order_and_lose_nothing() {
        let batch: Batch = (0..5).map(|name| record(name, 10)).collect();
        let (earlier, later) = batch.halves();
        let names = |batch: &Batch| {
            batch
                .records
                .iter()
                .map(|record| record.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (names(&earlier), names(&later)),
            (
                vec!["0".into(), "1".into()],
                vec!["2".into(), "3".into(), "4".into()]
            )
        );
        assert_eq!((earlier.bytes(), later.bytes()), (20, 30));
    }
}
