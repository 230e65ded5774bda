//! The store on a real disk.

mod applying;
mod crash;
mod damage;
mod faults;
mod feed;
mod log;
mod reading;
mod replacing;
mod rescue;

use std::path::Path;
use std::sync::Arc;

use percolate_api::codec;
use percolate_core::clock::Hlc;
use percolate_core::log::Entry;
use percolate_core::model::{ItemId, ItemKey, Json, Name};
use percolate_core::operation::{
    Action, IdempotencyKey, Operation, PutEdge, PutEntity, PutResource, Transaction,
};
use tempfile::TempDir;

use super::*;

/// The disk of most tests.
const DISK: ReplicaId = ReplicaId(7);

const HISTORY: Incarnation = Incarnation(0xabc);

/// A store in a directory of its own, and a log that grows as a leader's would.
struct Fixture {
    directory: TempDir,
    store: Store,
    last: Head,
    /// Milliseconds at which the next transaction is accepted.
    now_ms: u64,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store
            .persist(&LogChange {
                incarnation: Some(HISTORY),
                ..LogChange::default()
            })
            .unwrap();
        Self {
            directory,
            store,
            last: Head::default(),
            now_ms: 1_000_000,
        }
    }

    fn reopen(self) -> Self {
        let Self {
            directory,
            store,
            last,
            now_ms,
        } = self;
        drop(store);
        let store = open(directory.path());
        Self {
            directory,
            store,
            last,
            now_ms,
        }
    }

    /// The next entry, not yet stored.
    fn entry(&mut self, key: Option<&str>, operations: Vec<Operation>) -> SharedEntry {
        self.now_ms += 1;
        let key = key.map(|key| IdempotencyKey::new(key).unwrap());
        let transaction =
            Transaction::new(Hlc::from_wall_ms(self.now_ms), key, operations).unwrap();
        self.payload(codec::encode_transaction(&transaction))
    }

    fn payload(&mut self, payload: Vec<u8>) -> SharedEntry {
        let entry = Entry::after(self.last, self.last.epoch.max(1), payload);
        self.last = entry.head;
        Arc::new(entry)
    }

    /// Store and apply one transaction.
    fn write(&mut self, operations: Vec<Operation>) -> Outcome {
        self.write_as(None, operations)
    }

    fn write_as(&mut self, key: Option<&str>, operations: Vec<Operation>) -> Outcome {
        let entries = [self.entry(key, operations)];
        append(&self.store, &entries);
        self.store.apply(&entries).unwrap().remove(0)
    }
}

fn open(directory: &Path) -> Store {
    Store::open(directory, DISK).unwrap()
}

fn append(store: &Store, entries: &[SharedEntry]) {
    store
        .persist(&LogChange {
            append: entries.to_vec(),
            ..LogChange::default()
        })
        .unwrap();
}

fn id(text: &str) -> ItemId {
    ItemId::new(text).unwrap()
}

fn entity_key(text: &str) -> ItemKey {
    ItemKey::Entity(id(text))
}

fn put_entity(name: &str, value: &str, labels: &[&str]) -> Operation {
    let properties = [(
        Name::new("value").unwrap(),
        Json::parse(&format!("{value:?}")).unwrap(),
    )]
    .into();
    let labels = Some(
        labels
            .iter()
            .map(|label| Name::new(*label).unwrap())
            .collect(),
    );
    Action::PutEntity(PutEntity {
        id: id(name),
        entity_type: Name::new("thing").unwrap(),
        properties,
        labels,
    })
    .into()
}

fn put_resource(name: &str, content: &[u8]) -> Operation {
    Action::PutResource(PutResource {
        id: id(name),
        content: content.to_vec(),
        content_type: None,
        metadata: None,
    })
    .into()
}

fn put_edge(src: &str, dst: &str) -> Operation {
    Action::PutEdge(PutEdge {
        src: id(src),
        edge_type: id("knows"),
        dst: id(dst),
        properties: [].into(),
    })
    .into()
}

fn delete(key: ItemKey) -> Operation {
    Action::Delete(key).into()
}
