//! What is cut from the log is kept aside, and what is rescued takes effect once.

use percolate_core::log::Place;
use percolate_core::operation::RefusalCode;

use super::*;

const MIB: usize = 1 << 20;

fn cutting(after: Index, append: Vec<SharedEntry>) -> LogChange {
    LogChange {
        promise: Some(2),
        truncate_after: Some(after),
        append,
        ..LogChange::default()
    }
}

fn kept(store: &Store) -> Vec<Place> {
    let piece = store.set_aside(usize::MAX).unwrap();
    assert!(piece.is_last);
    let places = piece.entries.iter().map(|entry| entry.head.place());
    places.collect()
}

fn at(epoch: u64, index: Index) -> Place {
    Place { epoch, index }
}

#[test]
fn what_a_cut_removes_is_kept_aside_until_it_is_forgotten() {
    let mut fixture = Fixture::new();
    let mut entries = Vec::new();
    for n in 0..5 {
        entries.push(match n {
            2 => fixture.payload(Vec::new()),
            4 => fixture.payload(codec::OPENING_AFTER_LOSS.to_vec()),
            _ => fixture.entry(None, vec![put_resource(&format!("{n}"), b"content")]),
        });
    }
    append(&fixture.store, &entries);
    assert!(kept(&fixture.store).is_empty());
    let start = Arc::new(Entry::after(entries[0].head, 2, Vec::new()));
    let change = cutting(1, vec![Arc::clone(&start)]);
    fixture.store.persist(&change).unwrap();
    for _ in 0..2 {
        assert_eq!(fixture.store.durable().last, start.head);
        assert_eq!(kept(&fixture.store), [at(1, 2), at(1, 4)], "no opening");
        fixture = fixture.reopen();
    }
    let piece = fixture.store.set_aside(0).unwrap();
    assert_eq!(piece.entries, [Arc::clone(&entries[1])], "as it stood");
    assert!(!piece.is_last);
    let forget = LogChange {
        forget: vec![at(1, 2)],
        ..LogChange::default()
    };
    fixture.store.persist(&forget).unwrap();
    assert_eq!(kept(&fixture.reopen().store), [at(1, 4)]);
}

#[test]
fn a_long_end_of_the_log_is_cut_in_steps_that_each_hold_little() {
    let mut fixture = Fixture::new();
    let entries: Vec<_> = (0..9).map(|n| fixture.payload(vec![n; 5 * MIB])).collect();
    append(&fixture.store, &entries);
    for (most, cuts) in [
        (usize::MAX, vec![]),
        (16 * MIB, vec![6, 3]),
        (10 * MIB, vec![7, 5, 3]),
        (1, vec![8, 7, 6, 5, 4, 3, 2]),
    ] {
        let steps = super::super::rescue::steps(&fixture.store.db, 1, most).unwrap();
        assert_eq!(steps, cuts, "at most {most}");
    }
    let start = Arc::new(Entry::after(entries[0].head, 2, Vec::new()));
    let change = cutting(1, vec![Arc::clone(&start)]);
    fixture.store.persist(&change).unwrap();
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.durable().last, start.head);
    let all: Vec<_> = (2..=9).map(|index| at(1, index)).collect();
    assert_eq!(kept(&fixture.store), all);
}

/// A replica whose log parted from the leader's after one entry, with the leader's snapshot copied.
/// It has applied and the leader has trimmed so many.
fn replaced(
    leader: &mut Fixture,
    (applied_count, trimmed): (usize, Index),
    given_up: bool,
) -> TempDir {
    let common = leader.entry(None, vec![put_resource("common", b"content")]);
    let parting = leader.last;
    let own: Vec<_> = (0..3)
        .map(|n| leader.entry(None, vec![put_resource(&format!("{n}"), b"replaced")]))
        .collect();
    leader.last = parting;
    append(&leader.store, &[Arc::clone(&common)]);
    for n in 0..3 {
        let other = leader.entry(None, vec![put_resource(&format!("other-{n}"), b"content")]);
        append(&leader.store, &[other]);
    }
    let entries = leader.store.read(1, MIB).unwrap();
    leader.store.apply(&entries).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), ReplicaId(8)).unwrap();
    let incarnation = LogChange {
        incarnation: Some(HISTORY),
        ..LogChange::default()
    };
    store.persist(&incarnation).unwrap();
    append(&store, &[Arc::clone(&common)]);
    append(&store, &own);
    let applied: Vec<_> = [&[common][..], &own].concat();
    store.apply(&applied[..applied_count]).unwrap();
    store.persist(&cutting(3, Vec::new())).unwrap();
    // What the leader itself keeps aside is none of the other's business.
    let unacknowledged = leader.entry(None, vec![put_resource("cut", b"content")]);
    append(&leader.store, &[unacknowledged]);
    leader.store.persist(&cutting(4, Vec::new())).unwrap();
    assert_eq!(kept(&leader.store), [at(1, 5)]);
    let trim = LogChange {
        trim: Some(trimmed),
        ..LogChange::default()
    };
    leader.store.persist(&trim).unwrap();
    std::fs::create_dir_all(store.incoming().parent().unwrap()).unwrap();
    leader.store.checkpoint(&store.incoming()).unwrap();
    store.mark_incoming_complete(given_up).unwrap();
    directory
}

#[test]
fn a_snapshot_keeps_aside_what_the_log_it_replaces_has_not_applied() {
    let mut leader = Fixture::new();
    let directory = replaced(&mut leader, (1, 0), false);
    let path = directory.path();
    // Interrupted after it was prepared, and begun anew.
    super::super::replacing::prepare(&path.join("store"), &path.join("incoming/files"), false)
        .unwrap();
    let store = Store::open(path, ReplicaId(9)).unwrap();
    assert_eq!(store.applied(), leader.store.applied());
    let cut_and_replaced = [at(1, 2), at(1, 3), at(1, 4)];
    assert_eq!(kept(&store), cut_and_replaced);
}

#[test]
fn what_was_applied_and_given_up_is_kept_aside_from_where_the_logs_part() {
    let parted = [at(1, 2), at(1, 3), at(1, 4)];
    for (given_up, trimmed, expected) in [
        (false, 0, vec![at(1, 4)]),
        (true, 0, parted.to_vec()),
        (true, 1, parted.to_vec()),
        // Where they part cannot be told any more, so everything is.
        (true, 3, [&[at(1, 1)][..], &parted].concat()),
    ] {
        let mut leader = Fixture::new();
        let directory = replaced(&mut leader, (3, trimmed), given_up);
        let store = Store::open(directory.path(), ReplicaId(9)).unwrap();
        assert_eq!(store.applied(), leader.store.applied());
        assert_eq!(kept(&store), expected, "{given_up}, trimmed {trimmed}");
    }
}

/// Format 1 had one family less. The store is made here as that version made it.
#[test]
fn a_store_of_the_first_format_opens_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = ["oplog", "items", "changes", "idempotency", "meta"];
        let db = DB::open_cf(&options, directory.path().join("store"), families).unwrap();
        let entry = Entry::after(Head::default(), 3, Vec::new());
        let (epoch, index) = (3_u64.to_be_bytes(), 1_u64.to_be_bytes());
        let value = [&[1][..], &epoch, &index, &entry.head.chain.0].concat();
        let family = db.cf_handle("oplog").unwrap();
        db.put_cf(family, index, value).unwrap();
        let family = db.cf_handle("meta").unwrap();
        for (fact, value) in [
            ("format", 1_u32.to_be_bytes().to_vec()),
            ("replica_id", 5_u128.to_be_bytes().to_vec()),
            ("incarnation", HISTORY.0.to_be_bytes().to_vec()),
            ("promised_epoch", epoch.to_vec()),
        ] {
            db.put_cf(family, fact, value).unwrap();
        }
    }
    for _ in 0..2 {
        let store = open(directory.path());
        let durable = store.durable();
        assert_eq!(
            (
                durable.replica_id,
                durable.promised_epoch,
                durable.last.index
            ),
            (ReplicaId(5), 3, 1)
        );
        assert!(kept(&store).is_empty());
        let family = engine::family(&store.db, Family::Meta);
        let format = store.db.get_cf(family, meta::FORMAT).unwrap();
        assert_eq!(format, Some(2_u32.encode()));
    }
}

/// A log whose second epoch begins after one entry of the first, and some time later.
struct Rescue {
    fixture: Fixture,
    /// When the leader of the first epoch accepted what was cut.
    accepted: Hlc,
}

impl Rescue {
    fn new() -> Self {
        let mut rescue = Self {
            fixture: Fixture::new(),
            accepted: Hlc::ZERO,
        };
        rescue.begin_epoch(1);
        rescue.accepted = Hlc::from_wall_ms(rescue.fixture.now_ms + 1);
        rescue.fixture.now_ms += 10;
        rescue.begin_epoch(2);
        rescue
    }

    fn begin_epoch(&mut self, epoch: u64) {
        let start = Arc::new(Entry::after(self.fixture.last, epoch, Vec::new()));
        self.fixture.last = start.head;
        self.apply(start);
    }

    fn apply(&mut self, entry: SharedEntry) -> Outcome {
        append(&self.fixture.store, &[Arc::clone(&entry)]);
        self.fixture.store.apply(&[entry]).unwrap().remove(0)
    }

    /// Applies what was cut from a log at `place`; why it had no effect.
    fn rescue(&mut self, place: Place, key: Option<&str>, value: &str) -> Option<RefusalCode> {
        self.fixture.now_ms += 1;
        let now = Hlc::from_wall_ms(self.fixture.now_ms);
        let key = key.map(|key| IdempotencyKey::new(key).unwrap());
        let operations = vec![put_entity("e", value, &[])];
        let transaction = Transaction::new(self.accepted, key, operations).unwrap();
        let payload = codec::encode_transaction(&transaction.rescued(place, now));
        let entry = self.fixture.payload(payload);
        match self.apply(entry) {
            Outcome::Applied(_) => None,
            Outcome::Refused(refusal) => Some(refusal.code),
        }
    }

    fn value(&self) -> Option<String> {
        let item = self.fixture.store.get(&entity_key("e")).unwrap()?;
        let Item::Entity(state) = item else {
            panic!("{item:?}")
        };
        let view = state.view()?;
        view.properties.get("value").map(Json::to_text)
    }
}

#[test]
fn what_is_rescued_takes_effect_once_however_often_it_is_offered() {
    let mut rescue = Rescue::new();
    let known = Some(RefusalCode::Known);
    // Entry 1 of epoch 1 is in the log, 2 to 4 were cut; epoch 2 is the present one.
    for (place, expected) in [
        (at(1, 1), known),
        (at(1, 2), None),
        (at(1, 2), known),
        (at(1, 3), None),
        (at(1, 2), known),
        (at(1, 4), None),
        (at(2, 3), known),
    ] {
        assert_eq!(rescue.rescue(place, None, "a"), expected, "{place:?}");
    }
    let end = rescue.fixture.last.index;
    rescue.begin_epoch(3);
    assert_eq!(rescue.rescue(at(1, 4), None, "a"), known, "later too");
    assert_eq!(rescue.rescue(at(2, end), None, "a"), known, "in the log");
    assert_eq!(rescue.rescue(at(2, end + 1), None, "a"), None, "cut");
}

#[test]
fn a_rescued_write_and_its_retry_are_one_write_whichever_comes_first() {
    for retried_first in [true, false] {
        let mut rescue = Rescue::new();
        let operations = vec![put_entity("e", "once", &[])];
        let mut first = None;
        for step in 0..2 {
            let is_retry = (step == 0) == retried_first;
            if is_retry {
                let outcome = rescue.fixture.write_as(Some("key"), operations.clone());
                assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
            } else {
                let expected = retried_first.then_some(RefusalCode::Known);
                assert_eq!(rescue.rescue(at(1, 2), Some("key"), "once"), expected);
            }
            first = first.or(Some(rescue.fixture.last.index));
        }
        let item = rescue.fixture.store.get(&entity_key("e")).unwrap().unwrap();
        let written = item.version().iter().next().map(|(_, index)| index);
        assert_eq!(written, first, "retried first: {retried_first}");
    }
}

#[test]
fn an_overtaken_write_leaves_its_key_to_its_retry() {
    let mut rescue = Rescue::new();
    rescue.fixture.write(vec![put_entity("e", "newer", &[])]);
    let overtaken = rescue.rescue(at(1, 2), Some("key"), "late");
    assert_eq!(overtaken, Some(RefusalCode::Overtaken));
    assert_eq!(rescue.value().as_deref(), Some("\"newer\""));
    let retried = vec![put_entity("e", "late", &[])];
    rescue.fixture.write_as(Some("key"), retried);
    assert_eq!(
        rescue.value().as_deref(),
        Some("\"late\""),
        "a write of now"
    );
    let again = rescue.rescue(at(1, 2), Some("key"), "late");
    assert_eq!(again, Some(RefusalCode::Known));
}
