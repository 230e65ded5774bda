//! Copying a snapshot over real links and disks: resumed where it ended, from a leader that lies, to a
//! disk that is full, and beside a reader that stalls.

#[path = "cluster/group.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod group;
#[path = "snapshots/leader.rs"]
mod leader;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leader::{CHUNK, Leader, Lie, noise};
use percolate_api::proto::replication::v1::{OpenSnapshotRequest, ReadSnapshotRequest};
use percolate_core::identity::ReplicaId;
use percolate_node::snapshot::incoming::{FetchError, Place, fetch};
use percolate_node::snapshot::progress::Progress;
use percolate_node::store::Store;
use tempfile::TempDir;

/// How long anything may take before a test gives up; generous, for busy machines.
const PATIENCE: Duration = Duration::from_mins(1);

/// An empty data directory.
fn place() -> (TempDir, Place) {
    let directory = tempfile::tempdir().expect("a directory");
    let place = Place {
        files: directory.path().join("incoming/files"),
        store: directory.path().join("store"),
    };
    (directory, place)
}

async fn copy(leader: &Leader, place: &Place) -> Result<(), FetchError> {
    let progress = Arc::new(Progress::default());
    let (source, network) = (Leader::source(), leader.network());
    let copying = fetch(&source, &network, place.clone(), progress);
    tokio::time::timeout(PATIENCE, copying)
        .await
        .expect("it ends")
}

fn check_equal(place: &Path, leader: &Leader) {
    let mut names: Vec<String> = fs::read_dir(place)
        .expect("readable")
        .map(|found| {
            found
                .expect("readable")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .collect();
    names.sort();
    let mut expected: Vec<String> = leader.files().keys().cloned().collect();
    expected.sort();
    assert_eq!(names, expected);
    for (name, content) in leader.files() {
        let copied = fs::read(place.join(&name)).expect("readable");
        assert!(copied == content, "{name} is not equal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_is_copied_whatever_its_size() {
    let leader = Leader::start(&[0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK + 7]).await;
    let (_directory, place) = place();
    copy(&leader, &place).await.expect("copied");
    check_equal(&place.files, &leader);
    assert!(leader.most_at_once() > 1, "one file in one stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_interrupted_fetches_only_the_chunks_it_lacks() {
    let leader = Leader::start(&[40 * CHUNK, 3 * CHUNK + 9]).await;
    let (_directory, place) = place();
    // The process is killed when some of it is there, more than once.
    for fetched in [8, 20] {
        let progress = Arc::new(Progress::default());
        let (source, network) = (Leader::source(), leader.network());
        let (to, counted) = (place.clone(), Arc::clone(&progress));
        let task = tokio::spawn(async move { fetch(&source, &network, to, counted).await });
        let began = Instant::now();
        while progress
            .at(Instant::now())
            .is_none_or(|now| now.bytes < fetched * CHUNK as u64)
        {
            assert!(began.elapsed() < PATIENCE, "it does not get on");
            if task.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        task.abort();
        let _ = task.await;
    }
    // What was being written when it was killed may yet arrive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = leader.chunks_sent();
    let held = held_chunks(&place.files, &leader);
    assert!(held > 0, "nothing was there, so nothing is tested");
    copy(&leader, &place).await.expect("copied");
    check_equal(&place.files, &leader);
    let lacked = 44 - held;
    assert_eq!(leader.chunks_sent() - before, lacked, "{held} were there");
}

/// Chunks of the leader's files that are here.
fn held_chunks(place: &Path, leader: &Leader) -> usize {
    let held = |name: &String, content: &[u8]| {
        let copied = fs::read(place.join(name)).unwrap_or_default();
        let pairs = copied.chunks(CHUNK).zip(content.chunks(CHUNK));
        pairs.filter(|(copied, content)| copied == content).count()
    };
    let files = leader.files();
    files
        .iter()
        .map(|(name, content)| held(name, content))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_has_damaged_since_is_fetched_again_and_nothing_else() {
    let leader = Leader::start(&[20 * CHUNK, 5]).await;
    let (_directory, place) = place();
    copy(&leader, &place).await.expect("copied");
    let before = leader.chunks_sent();
    copy(&leader, &place).await.expect("there already");
    assert_eq!(leader.chunks_sent(), before, "all of it was there");
    let damaged = place.files.join(Leader::name(0));
    let mut content = fs::read(&damaged).expect("readable");
    content[7 * CHUNK + 3] ^= 1;
    fs::write(&damaged, &content[..19 * CHUNK]).expect("written");
    copy(&leader, &place).await.expect("copied");
    check_equal(&place.files, &leader);
    assert_eq!(leader.chunks_sent() - before, 2, "one flipped, one cut off");
}

/// The leader was killed: its snapshot is another, most of whose files are the same.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_earlier_snapshot_and_of_the_own_store_are_used() {
    let leader = Leader::start(&[6 * CHUNK, 6 * CHUNK, 2 * CHUNK]).await;
    let (_directory, place) = place();
    copy(&leader, &place).await.expect("copied");
    leader.restart_with(&[(Leader::name(1), noise(6 * CHUNK, 99))]);
    // The third is in this replica's own store, under another name, and no longer in the copy.
    fs::create_dir_all(&place.store).expect("made");
    fs::rename(
        place.files.join(Leader::name(2)),
        place.store.join("000777.sst"),
    )
    .expect("moved");
    let before = leader.chunks_sent();
    copy(&leader, &place).await.expect("copied");
    check_equal(&place.files, &leader);
    assert_eq!(leader.chunks_sent() - before, 6, "the one that is new");
    assert!(
        place.store.join("000777.sst").exists(),
        "the store keeps it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_an_older_version_is_copied_whole_files_at_a_time() {
    let leader = Leader::start(&[0, 5 * CHUNK + 1, 17]).await;
    leader.lie(Lie::OlderVersion);
    let (_directory, place) = place();
    copy(&leader, &place).await.expect("copied");
    check_equal(&place.files, &leader);
    let before = leader.chunks_sent();
    copy(&leader, &place).await.expect("there already");
    assert_eq!(leader.chunks_sent(), before);
}

/// Whether an error is the one expected.
type Expected = fn(&FetchError) -> bool;

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_found_out_and_never_installed() {
    let cases: [(Lie, Expected); 7] = [
        (Lie::Name("../escaped".to_owned()), is_manifest),
        (Lie::Name("/tmp/escaped".to_owned()), is_manifest),
        (Lie::Larger, is_damaged),
        (Lie::Content, is_damaged),
        (Lie::ShortChunks, is_damaged),
        (Lie::LongChunks, is_damaged),
        (Lie::OlderVersionWithWrongHash, is_damaged),
    ];
    for (lie, expected) in cases {
        let leader = Leader::start(&[3 * CHUNK, 20]).await;
        leader.lie(lie.clone());
        let (directory, place) = place();
        let error = copy(&leader, &place).await.expect_err("found out");
        assert!(expected(&error), "{lie:?}: {error:?}");
        assert!(
            !directory.path().join("incoming/escaped").exists(),
            "{lie:?}"
        );
        leader.lie(Lie::None);
        copy(&leader, &place)
            .await
            .expect("an honest leader is copied");
        check_equal(&place.files, &leader);
    }
}

fn is_manifest(error: &FetchError) -> bool {
    matches!(error, FetchError::Manifest { .. })
}

fn is_damaged(error: &FetchError) -> bool {
    matches!(error, FetchError::Damaged { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_arrives_damaged_once_is_asked_for_again_alone() {
    let leader = Leader::start(&[20 * CHUNK]).await;
    leader.lie(Lie::OneChunkOnce);
    let (_directory, place) = place();
    copy(&leader, &place).await.expect("copied");
    check_equal(&place.files, &leader);
    assert_eq!(leader.chunks_sent(), 21);
}

/// `/dev/full` is a disk that is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_from_a_broken_one_and_the_store_stays_as_it_is() {
    let leader = Leader::start(&[2 * CHUNK]).await;
    let (directory, place) = place();
    let store = Store::open(directory.path(), ReplicaId(5)).expect("a store");
    let durable = store.durable();
    drop(store);
    fs::create_dir_all(&place.files).expect("made");
    std::os::unix::fs::symlink("/dev/full", place.files.join(Leader::name(0))).expect("linked");
    let error = copy(&leader, &place).await.expect_err("there is no room");
    assert!(matches!(error, FetchError::Full(_)), "{error:?}");
    let store = Store::open(directory.path(), ReplicaId(6)).expect("the store that was there");
    assert_eq!(store.durable(), durable);
}

/// A reader that takes no more, and lets its connections stand.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_holds_nothing_up() {
    let mut group = group::Group::keeping(4 << 10, 2, 1).await;
    group.wait_in_sync(2).await;
    for number in 0..24 {
        let content = String::from_utf8(leader::text(1 << 20, number)).expect("letters");
        let id = format!("large-{number}");
        group
            .write_as(&id, vec![group::put_content(&id, content)])
            .await;
    }
    let leader = group.leader().await;
    let (mut client, to, incarnation) = group.link_to(leader).await;
    let durable = || group.handle(leader).store.durable();
    let pinned = durable().applied.index;
    let manifest = client
        .open_snapshot(OpenSnapshotRequest {
            to,
            incarnation,
            chunked: true,
            ..OpenSnapshotRequest::default()
        })
        .await
        .expect("a snapshot")
        .into_inner();
    let largest = manifest
        .files
        .iter()
        .max_by_key(|file| file.bytes)
        .expect("files");
    let read = || ReadSnapshotRequest {
        snapshot: manifest.snapshot.clone(),
        name: largest.name.clone(),
        ..ReadSnapshotRequest::default()
    };
    let mut stalled = Vec::new();
    for _ in 0..4 {
        // Each on a connection of its own: they would share its window.
        let (mut reader, ..) = group.link_to(leader).await;
        let mut chunks = reader
            .read_snapshot(read())
            .await
            .expect("read")
            .into_inner();
        chunks.message().await.expect("a chunk");
        stalled.push(chunks);
    }
    // Writes go on, and so does the log: it is not kept for the reader for ever.
    let mut number = 0;
    while durable().base.index <= pinned + 1 {
        group.write(&format!("meanwhile-{number}")).await;
        number += 1;
        assert!(number < 20_000, "the log is kept for ever");
    }
    // Nor is the snapshot that it was kept for.
    let refused = client.read_snapshot(read()).await.expect_err("dropped");
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
    drop(stalled);
    group.stop().await;
}
