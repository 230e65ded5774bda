//! Opening, and the log: what is durable, what is refused.

use std::error::Error;

use super::*;

fn entries_of(size: usize, count: usize) -> (Fixture, Vec<SharedEntry>) {
    let mut fixture = Fixture::new();
    let entries = (0..count)
        .map(|n| fixture.payload(vec![u8::try_from(n).unwrap(); size]))
        .collect();
    (fixture, entries)
}

fn appending<const N: usize>(entries: [Entry; N]) -> LogChange {
    LogChange {
        append: entries.map(Arc::new).into(),
        ..LogChange::default()
    }
}

fn cutting(after: Index) -> LogChange {
    LogChange {
        truncate_after: Some(after),
        ..LogChange::default()
    }
}

/// Entries of 100 bytes that are never applied.
fn entries(count: usize) -> (Fixture, Vec<SharedEntry>) {
    entries_of(100, count)
}

/// An error with its causes, as it would be logged.
fn text(error: &dyn Error) -> String {
    error.source().map_or(error.to_string(), |source| {
        format!("{error}: {}", text(source))
    })
}

#[test]
fn a_disk_keeps_the_identity_of_its_first_use() {
    let fixture = Fixture::new();
    let Fixture {
        directory, store, ..
    } = fixture;
    drop(store);
    let store = Store::open(directory.path(), ReplicaId(99)).unwrap();
    assert_eq!(store.durable().replica_id, DISK);
}

#[test]
fn what_was_persisted_is_there_after_a_restart() {
    let (fixture, entries) = entries(5);
    let change = LogChange {
        promise: Some(9),
        append: entries.clone(),
        ..LogChange::default()
    };
    fixture.store.persist(&change).unwrap();
    let before = fixture.store.durable();
    assert_eq!((before.promised_epoch, before.last), (9, entries[4].head));
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.durable(), before);
    assert_eq!(fixture.store.durable().incarnation, Some(HISTORY));
    assert_eq!(fixture.store.read(1, usize::MAX).unwrap(), entries);
    assert_eq!(fixture.store.head(3).unwrap(), Some(entries[2].head));
    assert_eq!(fixture.store.head(0).unwrap(), Some(Head::default()));
    assert_eq!(fixture.store.head(6).unwrap(), None);
}

#[test]
fn reads_are_bounded_by_bytes_but_never_empty_handed() {
    let (fixture, entries) = entries(5);
    append(&fixture.store, &entries);
    for (from, max_bytes, expected) in [
        (1, 0, 1),
        (1, 99, 1),
        (2, 100, 1),
        (1, 200, 2),
        (1, 299, 2),
        (4, 10_000, 2),
        (6, 10_000, 0),
    ] {
        let read = fixture.store.read(from, max_bytes).unwrap();
        assert_eq!(read.len(), expected, "from {from}, {max_bytes} bytes");
        assert_eq!(
            read.first().map(|entry| entry.head.index),
            (expected > 0).then_some(from)
        );
    }
}

#[test]
fn a_cut_and_what_follows_it_happen_at_once() {
    let (fixture, entries) = entries(5);
    append(&fixture.store, &entries);
    let replacement = Arc::new(Entry::after(entries[1].head, 4, b"new".to_vec()));
    let change = LogChange {
        truncate_after: Some(2),
        append: vec![Arc::clone(&replacement)],
        ..LogChange::default()
    };
    fixture.store.persist(&change).unwrap();
    {
        let fixture = fixture.reopen();
        assert_eq!(fixture.store.durable().last, replacement.head);
        assert_eq!(
            fixture.store.read(1, usize::MAX).unwrap(),
            [entries[0].clone(), entries[1].clone(), replacement.clone()]
        );
        assert_eq!(fixture.store.head(4).unwrap(), None);
        // Beyond the end there is nothing to cut.
        fixture
            .store
            .persist(&LogChange {
                truncate_after: Some(9),
                ..LogChange::default()
            })
            .unwrap();
        assert_eq!(fixture.store.durable().last, replacement.head);
    }
}

#[test]
fn a_cut_may_leave_nothing() {
    let (fixture, entries) = entries(3);
    append(&fixture.store, &entries);
    fixture
        .store
        .persist(&LogChange {
            truncate_after: Some(0),
            ..LogChange::default()
        })
        .unwrap();
    assert_eq!(fixture.reopen().store.durable().last, Head::default());
}

#[test]
fn what_breaks_the_log_is_refused_and_so_is_everything_after_it() {
    type Refused = fn(&StoreError) -> bool;
    let before = Head {
        index: 3,
        ..Head::default()
    };
    let gap = Head {
        index: 4,
        ..Head::default()
    };
    let cases: [(&str, LogChange, Refused); 5] = [
        (
            "a gap",
            appending([Entry::after(gap, 1, Vec::new())]),
            |error| matches!(error, StoreError::NotNext { index: 5, last: 3 }),
        ),
        (
            "another log",
            appending([Entry::after(before, 1, Vec::new())]),
            |error| matches!(error, StoreError::NotNext { index: 4, last: 3 }),
        ),
        (
            "the past",
            appending([Entry::after(Head::default(), 1, Vec::new())]),
            |error| matches!(error, StoreError::NotNext { index: 1, last: 3 }),
        ),
        (
            "a lower promise",
            LogChange {
                promise: Some(4),
                ..LogChange::default()
            },
            |error| {
                matches!(
                    error,
                    StoreError::PromiseFalls {
                        epoch: 4,
                        promised: 5
                    }
                )
            },
        ),
        ("a cut into the applied", cutting(1), |error| {
            matches!(
                error,
                StoreError::CutsApplied {
                    after: 1,
                    applied: 2
                }
            )
        }),
    ];
    for (name, change, refused) in cases {
        let (fixture, entries) = entries_of(0, 3);
        let promise = Some(5);
        let change_before = LogChange {
            promise,
            append: entries,
            ..LogChange::default()
        };
        check_refused(name, fixture, &change_before, &change, refused);
    }
}

/// `change` is refused after `first`, of which two entries are applied; then so is everything.
fn check_refused(
    name: &str,
    mut fixture: Fixture,
    first: &LogChange,
    change: &LogChange,
    refused: fn(&StoreError) -> bool,
) {
    fixture.store.persist(first).unwrap();
    fixture.store.apply(&first.append[..2]).unwrap();
    let before = fixture.store.durable();
    let error = fixture.store.persist(change).unwrap_err();
    assert!(refused(&error), "{name}: {error}");
    let next = fixture.payload(Vec::new());
    let later = fixture.store.persist(&LogChange {
        append: vec![next],
        ..LogChange::default()
    });
    assert!(
        matches!(later, Err(StoreError::Stopped)),
        "{name}: {later:?}"
    );
    let applied = fixture.store.apply(&first.append[2..]);
    assert!(
        matches!(applied, Err(StoreError::Stopped)),
        "{name}: {applied:?}"
    );
    assert_eq!(fixture.reopen().store.durable(), before, "{name}");
}

#[test]
fn a_missing_or_unreadable_entry_is_an_error_and_never_skipped() {
    type Damage = fn(&Store);
    type Seen = fn(&StoreError) -> bool;
    fn put(store: &Store, index: Index, value: &[u8]) {
        store
            .db
            .put_cf(
                engine::family(&store.db, Family::Oplog),
                oplog::key(index),
                value,
            )
            .unwrap();
    }
    let cases: [(&str, Damage, Seen); 3] = [
        (
            "missing",
            |store| {
                store
                    .db
                    .delete_cf(engine::family(&store.db, Family::Oplog), oplog::key(3))
                    .unwrap();
            },
            |e| matches!(e, StoreError::Gap { missing: 3 }),
        ),
        (
            "unreadable",
            |store| put(store, 3, b"\x01half"),
            |e| matches!(e, StoreError::Undecodable { .. }),
        ),
        (
            "another's",
            |store| {
                let value = oplog::encode(&Entry {
                    head: Head {
                        epoch: 1,
                        index: 3,
                        ..Head::default()
                    },
                    payload: Vec::new(),
                });
                put(store, 3, &value);
            },
            |e| matches!(e, StoreError::Broken { index: 3, last: 2 }),
        ),
    ];
    for (name, damage, seen) in cases {
        let (fixture, entries) = entries(5);
        append(&fixture.store, &entries);
        damage(&fixture.store);
        let error = fixture.store.read(1, usize::MAX).unwrap_err();
        assert!(seen(&error), "{name}: {error}");
        let Fixture {
            directory, store, ..
        } = fixture;
        drop(store);
        let reopened = Store::open(directory.path(), DISK);
        assert!(
            matches!(reopened, Err(OpenError::Damaged { .. })),
            "{name}: {reopened:?}"
        );
    }
}

#[test]
fn a_store_that_cannot_be_used_says_what_to_do() {
    type Spoil = fn(&Store);
    fn put_fact(store: &Store, key: &[u8], value: Vec<u8>) {
        store
            .db
            .put_cf(engine::family(&store.db, Family::Meta), key, value)
            .unwrap();
    }
    let cases: [(&str, Spoil, &str); 4] = [
        (
            "newer",
            |store| put_fact(store, meta::FORMAT, 3_u32.encode()),
            "has storage format 3 and this version of percolate reads up to 2: run a newer version",
        ),
        (
            "no identity",
            |store| {
                store
                    .db
                    .delete_cf(engine::family(&store.db, Family::Meta), meta::REPLICA_ID)
                    .unwrap();
            },
            "is damaged",
        ),
        (
            "no format",
            |store| {
                store
                    .db
                    .delete_cf(engine::family(&store.db, Family::Meta), meta::FORMAT)
                    .unwrap();
            },
            "says nothing of its format",
        ),
        (
            "applied beyond the log",
            |store| {
                put_fact(
                    store,
                    meta::APPLIED,
                    Head {
                        epoch: 1,
                        index: 2,
                        ..Head::default()
                    }
                    .encode(),
                );
            },
            "entry 2 is missing",
        ),
    ];
    for (name, spoil, expected) in cases {
        let Fixture {
            directory, store, ..
        } = Fixture::new();
        spoil(&store);
        drop(store);
        let error = Store::open(directory.path(), DISK).unwrap_err();
        assert!(text(&error).contains(expected), "{name}: {}", text(&error));
    }
}

#[test]
fn a_store_with_families_of_a_newer_version_is_refused_by_its_format() {
    let Fixture {
        directory, store, ..
    } = Fixture::new();
    store
        .db
        .put_cf(
            engine::family(&store.db, Family::Meta),
            meta::FORMAT,
            3_u32.encode(),
        )
        .unwrap();
    let Store { mut db, .. } = store;
    db.create_cf("later", &rocksdb::Options::default()).unwrap();
    drop(db);
    let reopened = Store::open(directory.path(), DISK);
    assert!(
        matches!(
            reopened,
            Err(OpenError::NewerFormat {
                found: 3,
                known: 2,
                ..
            })
        ),
        "{reopened:?}"
    );
}

#[test]
fn a_volume_belongs_to_one_process_at_a_time() {
    let fixture = Fixture::new();
    let error = Store::open(fixture.directory.path(), DISK).unwrap_err();
    assert!(
        matches!(error, OpenError::Locked { .. }),
        "{}",
        text(&error)
    );
}

#[test]
fn what_is_not_applied_is_not_trimmed() {
    let (fixture, entries) = entries(10);
    append(&fixture.store, &entries);
    let trimmed = LogChange {
        trim: Some(4),
        ..LogChange::default()
    };
    let error = fixture
        .store
        .persist(&trimmed)
        .expect_err("nothing is applied");
    assert_eq!(
        error.to_string(),
        "cannot trim the oplog up to 4: only entries up to 0 are applied"
    );
}

#[test]
fn a_trimmed_log_goes_on_from_where_it_was_trimmed() {
    let mut fixture = Fixture::new();
    let entries: Vec<_> = (0..10)
        .map(|n| fixture.entry(None, vec![put_resource(&format!("{n}"), b"content")]))
        .collect();
    append(&fixture.store, &entries);
    fixture.store.apply(&entries[..6]).unwrap();
    let trimmed = LogChange {
        trim: Some(4),
        ..LogChange::default()
    };
    fixture.store.persist(&trimmed).unwrap();
    let fixture = fixture.reopen();
    let store = &fixture.store;
    assert_eq!(store.durable().base, entries[3].head);
    assert_eq!(store.durable().last, entries[9].head);
    assert_eq!(store.head(4).unwrap(), Some(entries[3].head));
    assert_eq!(store.head(3).unwrap(), None);
    assert_eq!(store.head(0).unwrap(), None);
    assert_eq!(store.read(5, usize::MAX).unwrap(), entries[4..]);
    store.apply(&entries[6..]).unwrap();
    let all = LogChange {
        trim: Some(10),
        ..LogChange::default()
    };
    store.persist(&all).unwrap();
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.durable().base, entries[9].head);
    assert_eq!(fixture.store.durable().last, entries[9].head);
    assert!(matches!(
        fixture.store.read(4, usize::MAX),
        Ok(entries) if entries.is_empty()
    ));
}

#[test]
fn what_was_trimmed_cannot_be_read() {
    let mut fixture = Fixture::new();
    for n in 0..5 {
        fixture.write(vec![put_resource(&n.to_string(), b"content")]);
    }
    let trimmed = LogChange {
        trim: Some(2),
        ..LogChange::default()
    };
    fixture.store.persist(&trimmed).unwrap();
    assert!(matches!(
        fixture.store.read(2, usize::MAX),
        Err(StoreError::Gap { missing: 2 })
    ));
}
