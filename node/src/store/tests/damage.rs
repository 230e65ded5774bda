//! Bytes that went wrong on the disk are found, and nothing is read or written after that.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::scrub::{Pacing, Scrubber};
use crate::store::scrub::Pass;

/// A store with some items in files.
fn filled() -> Fixture {
    let mut fixture = Fixture::new();
    for round in 0..3 {
        for n in 0..200 {
            let content = format!("content {n} of round {round}").repeat(20);
            fixture.write(vec![put_resource(
                &format!("{round}-{n}"),
                content.as_bytes(),
            )]);
        }
        flush(&fixture.store);
    }
    fixture
}

fn flush(store: &Store) {
    for family in Family::ALL {
        store
            .db
            .flush_cf(engine::family(&store.db, family))
            .unwrap();
    }
}

/// Changes one byte of a file of items, at `part` hundredths of it.
fn flip(fixture: &Fixture, part: u64) -> PathBuf {
    let files = fixture.store.db.live_files().unwrap();
    let file = files
        .iter()
        .find(|file| file.column_family_name == "items")
        .expect("items are in files");
    let name = file.name.trim_start_matches('/');
    let path = fixture.directory.path().join("store").join(name);
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.len() * usize::try_from(part).unwrap() / 100;
    bytes[place] ^= 1;
    fs::write(&path, bytes).unwrap();
    path
}

fn scrub(store: &Store, verified: &mut crate::store::scrub::Verified) -> Result<Pass, Found> {
    store.scrub(verified, true, |_| true)
}

#[test]
fn a_byte_that_changes_in_any_part_of_a_file_is_found_by_the_next_pass() {
    for part in [0, 30, 60, 90, 99] {
        let fixture = filled();
        let store = &fixture.store;
        let mut verified = store.verified();
        let first = scrub(store, &mut verified);
        assert!(
            matches!(first, Ok(Pass::Whole { bytes }) if bytes > 0),
            "{first:?}"
        );
        assert_eq!(scrub(store, &mut verified), first, "nothing has changed");
        flip(&fixture, part);
        let found = scrub(store, &mut verified).unwrap_err();
        assert_eq!(found.fault, Fault::Damaged, "at {part}%");
        let read = store.get(&ItemKey::Resource(id("0-1")));
        assert!(matches!(read, Err(StoreError::Stopped)), "{read:?}");
        let written = store.persist(&LogChange::default());
        assert!(matches!(written, Err(StoreError::Stopped)), "{written:?}");
        assert_eq!(store.found(), Some(&found));
    }
}

#[test]
fn a_byte_that_changes_while_the_process_is_down_is_found() {
    let fixture = filled();
    scrub(&fixture.store, &mut fixture.store.verified()).unwrap();
    // Among the items: what opening reads of a file is at its end.
    flip(&fixture, 30);
    let fixture = fixture.reopen();
    let found = scrub(&fixture.store, &mut fixture.store.verified()).unwrap_err();
    assert_eq!(found.fault, Fault::Damaged);
}

#[test]
fn a_file_that_is_gone_is_damage_and_one_that_was_compacted_away_is_not() {
    let fixture = filled();
    let mut verified = fixture.store.verified();
    scrub(&fixture.store, &mut verified).unwrap();
    for family in Family::ALL {
        let family = engine::family(&fixture.store.db, family);
        fixture
            .store
            .db
            .compact_range_cf::<&[u8], &[u8]>(family, None, None);
    }
    scrub(&fixture.store, &mut verified).unwrap();
    let path = flip(&fixture, 0);
    fs::remove_file(path).unwrap();
    let found = scrub(&fixture.store, &mut verified).unwrap_err();
    assert_eq!(found.fault, Fault::Damaged);
    assert!(found.what.contains("is gone"), "{found}");
}

#[test]
fn items_that_are_not_what_was_applied_are_found_though_their_checksums_are_right() {
    type Change = fn(&Store);
    let cases: [(&str, Change); 3] = [
        ("a lost item", |store| {
            let family = engine::family(&store.db, Family::Items);
            let key = ItemKey::Resource(id("1-5")).to_bytes();
            store.db.delete_cf(family, key).unwrap();
        }),
        ("a lost line of the feed", |store| {
            let family = engine::family(&store.db, Family::Changes);
            let position = keys::Position {
                index: 7,
                ordinal: 0,
            };
            store.db.delete_cf(family, changes::key(position)).unwrap();
        }),
        ("an answer never given", |store| {
            let family = engine::family(&store.db, Family::Idempotency);
            store.db.put_cf(family, b"kkey", b"record").unwrap();
        }),
    ];
    for (name, change) in cases {
        let fixture = filled();
        fixture.store.recount(|_| true).unwrap();
        change(&fixture.store);
        let error = fixture.store.recount(|_| true).unwrap_err();
        assert!(
            matches!(error, StoreError::OtherState { .. }),
            "{name}: {error}"
        );
        assert_eq!(
            fixture.store.found().map(|found| found.fault),
            Some(Fault::Damaged)
        );
    }
}

#[test]
fn a_block_with_a_wrong_checksum_stops_the_store_wherever_it_is_read() {
    type Read = fn(&Store) -> Result<(), StoreError>;
    let cases: [(&str, Read); 3] = [
        ("an item", |store| {
            for n in 0..600 {
                let name = format!("{}-{}", n / 200, n % 200);
                store.get(&ItemKey::Resource(id(&name)))?;
            }
            Ok(())
        }),
        ("the whole state", |store| store.recount(|_| true)),
        ("to be examined", |store| {
            store.examine(|_| true).map_err(|_| StoreError::Stopped)
        }),
    ];
    for (name, read) in cases {
        let fixture = filled();
        for part in [5, 20, 40] {
            flip(&fixture, part);
        }
        // What the engine has cached is as it was.
        let fixture = fixture.reopen();
        read(&fixture.store).unwrap_err();
        let found = fixture.store.found().expect(name);
        assert_eq!(found.fault, Fault::Damaged, "{name}: {found}");
    }
}

#[test]
fn the_hash_kept_with_every_change_is_that_of_what_is_stored() {
    let mut fixture = Fixture::new();
    for n in 0..300_u32 {
        let name = format!("{}", n % 40);
        let key = format!("key-{}", n % 70);
        let operations = match n % 5 {
            0 => vec![delete(entity_key(&name))],
            1 => vec![put_edge(&name, "1"), put_edge(&name, "2")],
            2 => vec![put_entity(&name, "a", &["x"]), put_entity(&name, "b", &[])],
            _ => vec![put_entity(&name, &n.to_string(), &[])],
        };
        fixture.write_as((n % 3 == 0).then_some(key.as_str()), operations);
        if n % 50 == 0 {
            assert_eq!(
                kept(&fixture.store),
                fixture.store.state_hash().unwrap().1,
                "{n}"
            );
            fixture = fixture.reopen();
        }
    }
    assert_eq!(kept(&fixture.store), fixture.store.state_hash().unwrap().1);
}

fn kept(store: &Store) -> [u8; 32] {
    store.digest().hash
}

#[test]
fn a_store_of_a_version_without_the_hash_is_counted_once() {
    type Older = fn(&Store);
    let cases: [(&str, Older); 2] = [
        ("none kept", |store| {
            let family = engine::family(&store.db, Family::Meta);
            store.db.delete_cf(family, meta::STATE_HASH).unwrap();
        }),
        ("one of an earlier index", |store| {
            let family = engine::family(&store.db, Family::Meta);
            let stale = Tally::default().encode();
            store.db.put_cf(family, meta::STATE_HASH, stale).unwrap();
        }),
    ];
    for (name, older) in cases {
        let fixture = filled();
        let expected = fixture.store.digest();
        older(&fixture.store);
        let fixture = fixture.reopen();
        assert_eq!(fixture.store.digest(), expected, "{name}");
        fixture.store.recount(|_| true).unwrap();
    }
}

#[test]
fn the_search_for_damage_goes_on_by_itself_and_says_what_it_did() {
    let fixture = filled();
    let directory = fixture.directory;
    let store = Arc::new(fixture.store);
    let metrics = Arc::new(Metrics::new());
    let pacing = Pacing {
        bytes_per_second: 1 << 30,
        every: Duration::from_millis(20),
        recount_every: Duration::from_hours(1),
    };
    let scrubber = Scrubber::start(Arc::clone(&store), pacing, Arc::clone(&metrics)).unwrap();
    let status = crate::tenant::Status::joining(DISK);
    let passes = |result: &str| {
        let text = metrics.encode(&status);
        let line = format!("percolate_node_scrub_passes_total{{result=\"{result}\"}} ");
        let count = text.lines().find_map(|text| text.strip_prefix(&line));
        count.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    until(|| passes("whole") >= 3);
    assert_eq!(store.found(), None);
    let fixture = Fixture {
        directory,
        store: Arc::into_inner({
            drop(scrubber);
            store
        })
        .unwrap(),
        last: Head::default(),
        now_ms: 0,
    };
    flip(&fixture, 99);
    let store = Arc::new(fixture.store);
    let scrubber = Scrubber::start(Arc::clone(&store), pacing, Arc::clone(&metrics)).unwrap();
    until(|| store.found().is_some());
    until(|| passes("damaged") == 1);
    drop(scrubber);
}

fn until(done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_mins(1), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
