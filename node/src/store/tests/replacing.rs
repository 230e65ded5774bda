//! A copied snapshot takes the place of a store, wherever that is interrupted.

use std::fs;

use super::*;

const OTHER: ReplicaId = ReplicaId(8);

/// What is done to a copied snapshot below a data directory.
type Spoil<'a> = &'a dyn Fn(&Path);

/// A leader's store with ten entries, nine of them applied and two trimmed.
fn leader() -> Fixture {
    let mut leader = Fixture::new();
    let entries: Vec<_> = (0..10)
        .map(|n| leader.entry(None, vec![put_resource(&format!("{n}"), b"content")]))
        .collect();
    append(&leader.store, &entries);
    leader.store.apply(&entries[..9]).unwrap();
    let change = LogChange {
        promise: Some(5),
        trim: Some(2),
        ..LogChange::default()
    };
    leader.store.persist(&change).unwrap();
    leader
}

/// A replica that has promised epoch 7, with the leader's snapshot copied and marked complete.
fn follower(leader: &Fixture) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), OTHER).unwrap();
    let change = LogChange {
        promise: Some(7),
        ..LogChange::default()
    };
    store.persist(&change).unwrap();
    fs::create_dir_all(store.incoming().parent().unwrap()).unwrap();
    leader.store.checkpoint(&store.incoming()).unwrap();
    store.mark_incoming_complete(false).unwrap();
    directory
}

fn check_replaced(directory: &Path, leader: &Fixture) {
    let store = Store::open(directory, ReplicaId(99)).unwrap();
    let (durable, original) = (store.durable(), leader.store.durable());
    assert_eq!(durable.replica_id, OTHER, "it keeps its identity");
    assert_eq!(durable.promised_epoch, 7, "it keeps its promise");
    assert_eq!(durable.incarnation, Some(HISTORY));
    assert_eq!(
        (durable.base, durable.applied),
        (original.base, original.applied)
    );
    assert_eq!(
        durable.last, original.applied,
        "what is not applied need not be committed"
    );
    assert_eq!(
        store.state_hash().unwrap(),
        leader.store.state_hash().unwrap()
    );
    let mut left: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    let expected = ["replica", "store"];
    assert_eq!(left, expected, "nothing is left behind");
}

#[test]
fn a_complete_snapshot_takes_the_stores_place_at_the_next_start() {
    let leader = leader();
    let directory = follower(&leader);
    check_replaced(directory.path(), &leader);
    check_replaced(directory.path(), &leader);
}

#[test]
fn wherever_the_exchange_stops_the_next_start_finishes_it() {
    let leader = leader();
    // Stopped after the copy was made this replica's, after it was moved, after the old was removed.
    for steps in 0..=2 {
        let directory = follower(&leader);
        let path = directory.path();
        super::super::replacing::prepare(&path.join("store"), &path.join("incoming/files"), false)
            .unwrap();
        if steps > 0 {
            fs::rename(path.join("incoming/files"), path.join("next")).unwrap();
        }
        if steps > 1 {
            fs::remove_dir_all(path.join("store")).unwrap();
        }
        check_replaced(path, &leader);
    }
}

#[test]
fn what_is_not_a_whole_snapshot_of_this_tenant_changes_nothing() {
    let leader = leader();
    let unmarked = |path: &Path| fs::remove_file(path.join("incoming/complete")).unwrap();
    let without_manifest =
        |path: &Path| fs::remove_file(path.join("incoming/files/CURRENT")).unwrap();
    let of_another_history = |path: &Path| {
        let change = LogChange {
            incarnation: Some(Incarnation(1)),
            ..LogChange::default()
        };
        fs::rename(path.join("incoming"), path.join("aside")).unwrap();
        open(path).persist(&change).unwrap();
        fs::rename(path.join("aside"), path.join("incoming")).unwrap();
    };
    let cases: [(&str, Spoil<'_>); 3] = [
        ("not marked", &unmarked),
        ("not whole", &without_manifest),
        ("of another history", &of_another_history),
    ];
    for (case, spoil) in cases {
        let directory = follower(&leader);
        spoil(directory.path());
        let store = Store::open(directory.path(), ReplicaId(99)).unwrap();
        let durable = store.durable();
        assert_eq!(durable.replica_id, OTHER, "{case}");
        assert_eq!(
            (durable.promised_epoch, durable.applied),
            (7, Head::default()),
            "{case}"
        );
    }
}
