//! Replicas whose disks are not what they were: found, quarantined and filled anew, with real stores,
//! real disks and real links, while the others go on.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "cluster/group.rs"]
mod group;

use std::fs;
use std::path::{Path, PathBuf};

use group::Group;
use percolate_core::identity::ReplicaId;
use percolate_core::model::ItemKey;
use percolate_node::fault::Fault;
use percolate_node::store::Store;

/// Puts what was written into files, as every start does with what only the write-ahead log holds.
async fn restart(group: &mut Group, ordinal: usize) {
    group.kill(ordinal).await;
    group.revive(ordinal).await;
}

async fn write(group: &Group, from: u32, to: u32) {
    for n in from..to {
        group.write(&n.to_string()).await;
    }
}

/// Whose place it is does not matter once nobody has it open.
async fn when_free(group: &Group, ordinal: usize) -> PathBuf {
    let disk = group.disk(ordinal);
    let free = || std::future::ready(Store::open(&disk, ReplicaId(1)).ok().map(drop));
    group::until(std::time::Duration::from_mins(1), "the disk is free", free).await;
    disk
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn replica(group: &Group, ordinal: usize) -> ReplicaId {
    group.handle(ordinal).status().replica_id
}

/// The replica `ordinal` has ended for `fault`; the others go on, and it is filled anew by itself.
async fn check_rebuilt(
    group: &mut Group,
    ordinal: usize,
    fault: Fault,
    replicas: usize,
    written: u32,
) {
    let found = group.ended(ordinal).await.expect("a mark");
    assert_eq!(found.fault, fault, "{found}");
    group.revive(ordinal).await;
    write(group, written, written + 50).await;
    group.wait_in_sync(replicas).await;
    group.wait_equal_states().await;
    let aside = group.disk(ordinal).join("aside");
    group::until(
        std::time::Duration::from_mins(1),
        "the old store is gone",
        || std::future::ready((!aside.exists()).then_some(())),
    )
    .await;
    let store = group.handle(ordinal).store;
    for n in 0..written + 50 {
        let key: ItemKey = group::key(&n.to_string());
        assert!(
            store.get(&key).expect("readable").is_some(),
            "{n} is missing"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_file_is_damaged_is_filled_anew_while_the_other_goes_on() {
    for damaged_leads in [false, true] {
        let mut group = Group::start(2, 1).await;
        write(&group, 0, 50).await;
        group.wait_in_sync(2).await;
        for ordinal in 0..2 {
            restart(&mut group, ordinal).await;
            group.wait_in_sync(2).await;
        }
        let leader = group.leader().await;
        let damaged = if damaged_leads { leader } else { 1 - leader };
        let before = replica(&group, damaged);
        let store = group.handle(damaged).store;
        let mut verified = store.verified();
        store.scrub(&mut verified, true, |_| true).expect("whole");
        let files = fs::read_dir(group.disk(damaged).join("store")).expect("readable");
        let mut files = files.map(|file| file.expect("readable").path());
        let file = files
            .find(|file| file.extension().is_some_and(|end| end == "sst"))
            .expect("a file");
        let mut bytes = fs::read(&file).expect("readable");
        bytes[10] ^= 1;
        fs::write(&file, bytes).expect("writable");
        store
            .scrub(&mut verified, true, |_| true)
            .expect_err("damaged");
        drop(store);
        check_rebuilt(&mut group, damaged, Fault::Damaged, 2, 50).await;
        assert_ne!(replica(&group, damaged), before, "a new replica");
        group.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_came_to_another_state_is_filled_anew() {
    let mut group = Group::start(2, 1).await;
    write(&group, 0, 50).await;
    group.wait_in_sync(2).await;
    let follower = 1 - group.leader().await;
    group.kill(follower).await;
    let disk = when_free(&group, follower).await;
    {
        let families = [
            "default",
            "oplog",
            "items",
            "changes",
            "idempotency",
            "rescue",
            "meta",
        ];
        let options = rocksdb::Options::default();
        let db = rocksdb::DB::open_cf(&options, disk.join("store"), families).expect("opened");
        let meta = db.cf_handle("meta").expect("a family");
        let mut kept = db
            .get_cf(meta, "state_hash")
            .expect("readable")
            .expect("kept");
        kept[20] ^= 1;
        db.put_cf(meta, "state_hash", kept).expect("written");
    }
    group.revive(follower).await;
    check_rebuilt(&mut group, follower, Fault::Diverged, 2, 50).await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counted_on_replica_on_an_old_copy_of_its_disk_is_recognised_and_filled_anew() {
    // With two in sync demanded, nobody is left out while it is down: it is still counted on.
    let mut group = Group::start(2, 2).await;
    write(&group, 0, 20).await;
    group.wait_in_sync(2).await;
    let follower = 1 - group.leader().await;
    group.kill(follower).await;
    let disk = when_free(&group, follower).await;
    let old = disk.with_extension("old");
    copy(&disk, &old);
    group.revive(follower).await;
    write(&group, 20, 50).await;
    group.kill(follower).await;
    let disk = when_free(&group, follower).await;
    fs::remove_dir_all(&disk).expect("removable");
    copy(&old, &disk);
    group.revive(follower).await;
    check_rebuilt(&mut group, follower, Fault::Outdated, 2, 50).await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_only_disk_serves_once_a_person_accepted_what_it_lacks() {
    let mut group = Group::start(1, 1).await;
    write(&group, 0, 20).await;
    group.kill(0).await;
    let disk = when_free(&group, 0).await;
    let old = disk.with_extension("old");
    copy(&disk, &old);
    group.revive(0).await;
    write(&group, 20, 50).await;
    restart(&mut group, 0).await; // the register learns how far it was
    write(&group, 50, 51).await;
    group.kill(0).await;
    let disk = when_free(&group, 0).await;
    fs::remove_dir_all(&disk).expect("removable");
    copy(&old, &disk);
    group.revive(0).await;
    let found = group.ended(0).await.expect("a mark");
    assert_eq!(found.fault, Fault::Outdated, "{found}");
    group.accept_loss();
    group.revive(0).await;
    write(&group, 100, 120).await;
    let store = group.handle(0).store;
    let there = |n: u32| {
        let item = store.get(&group::key(&n.to_string()));
        item.expect("readable").is_some()
    };
    assert!((0..20).all(there) && !(20..51).any(there) && (100..120).all(there));
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_a_copy_of_another_s_disk_becomes_a_replica_of_its_own() {
    let mut group = Group::start(3, 1).await;
    write(&group, 0, 50).await;
    group.wait_in_sync(3).await;
    let leader = group.leader().await;
    let (original, clone) = ((leader + 1) % 3, (leader + 2) % 3);
    group.kill(original).await;
    group.kill(clone).await;
    let disk = when_free(&group, original).await;
    let target = when_free(&group, clone).await;
    fs::remove_dir_all(&target).expect("removable");
    copy(&disk, &target);
    group.revive(original).await;
    group.revive(clone).await;
    check_rebuilt(&mut group, clone, Fault::Cloned, 3, 50).await;
    let ids = [0, 1, 2].map(|ordinal| replica(&group, ordinal));
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
    group.stop().await;
}
