//! What readers of snapshots get, and what they cost the leader.

use percolate_core::identity::ReplicaId;
use tempfile::TempDir;

use super::*;

const FAST: u64 = 1 << 40;
const FIRST: Name = [1; 16];
const SECOND: Name = [2; 16];
const THIRD: Name = [3; 16];

fn outgoing() -> (TempDir, Outgoing) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path(), ReplicaId(1)).expect("a store");
    (directory, Outgoing::new(Arc::new(store), FAST))
}

fn new(fresh: Name) -> Wanted {
    Wanted {
        reader: None,
        resumed: None,
        fresh,
    }
}

fn content(
    outgoing: &Outgoing,
    name: Name,
    file: &str,
    part: (u64, u64),
) -> Result<Vec<u8>, SnapshotError> {
    let range = outgoing.begin(name, file, part, 0)?;
    let mut all = Vec::new();
    for offset in range.chunks() {
        let (chunk, hash) = outgoing.chunk(&range, offset)?;
        assert_eq!(hash, *blake3::hash(&chunk).as_bytes());
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// A snapshot with a file of three chunks and a bit.
fn with_large_file(outgoing: &Outgoing) -> Vec<u8> {
    let large: Vec<u8> = (0..3 * CHUNK_BYTES + 5)
        .map(|place| u8::try_from(place / 1_000 % 251).expect("small"))
        .collect();
    outgoing.open(new(FIRST)).expect("a snapshot");
    let path = outgoing.path(FIRST).join("large.sst");
    fs::write(path, &large).expect("written");
    let mut opened = outgoing.lock();
    let snapshot = opened.get_mut(&FIRST).expect("opened");
    snapshot.files = Files::Ready(Arc::new(vec![SnapshotFile {
        name: "large.sst".to_owned(),
        bytes: large.len() as u64,
        hashes: Mutex::new(vec![None; 4]),
    }]));
    large
}

#[test]
fn every_file_reads_as_its_size_and_hashes_say() {
    let (_directory, outgoing) = outgoing();
    let (name, files) = outgoing.open(new(FIRST)).expect("a snapshot");
    assert_eq!(name, FIRST);
    assert!(files.iter().any(|file| file.name == "CURRENT"));
    for file in files.iter() {
        let whole = content(&outgoing, name, &file.name, (0, 0)).expect("readable");
        assert_eq!(whole.len() as u64, file.bytes, "{}", file.name);
        let hashes: Vec<Hash> = whole
            .chunks(CHUNK_BYTES)
            .map(|chunk| blake3::hash(chunk).into())
            .collect();
        let announced = outgoing.hashes(name, &file.name).expect("readable");
        assert_eq!(announced, hashes, "{}", file.name);
        let hash = outgoing.whole_hash(name, &file.name).expect("readable");
        assert_eq!(hash, *blake3::hash(&whole).as_bytes(), "{}", file.name);
    }
}

#[test]
fn a_range_is_that_part_of_the_file() {
    let (_directory, outgoing) = outgoing();
    let large = with_large_file(&outgoing);
    let chunk = CHUNK_BYTES;
    for (offset, length, expected) in [
        (0, 0, &large[..]),
        (0, chunk, &large[..chunk]),
        (chunk, 2 * chunk, &large[chunk..3 * chunk]),
        (2 * chunk, 0, &large[2 * chunk..]),
        (3 * chunk, chunk, &large[3 * chunk..]),
        (3 * chunk, usize::MAX, &large[3 * chunk..]),
    ] {
        let part = (offset as u64, length as u64);
        let read = content(&outgoing, FIRST, "large.sst", part).expect("readable");
        assert!(read == expected, "{length} bytes from {offset}");
    }
    for offset in [1, chunk - 1, 4 * chunk, usize::MAX] {
        let refused = content(&outgoing, FIRST, "large.sst", (offset as u64, 0));
        assert!(matches!(refused, Err(SnapshotError::Range)), "{offset}");
    }
    assert_eq!(
        outgoing.hashes(FIRST, "large.sst").expect("readable").len(),
        4
    );
}

#[test]
fn nothing_but_files_of_the_manifest_is_read() {
    let (_directory, outgoing) = outgoing();
    let (name, _) = outgoing.open(new(FIRST)).expect("a snapshot");
    for file in ["../../store/CURRENT", "/etc/hostname", "", "."] {
        let refused = content(&outgoing, name, file, (0, 0));
        assert!(matches!(refused, Err(SnapshotError::Unknown)), "{file:?}");
        let refused = outgoing.hashes(name, file);
        assert!(matches!(refused, Err(SnapshotError::Unknown)), "{file:?}");
    }
    let unknown = content(&outgoing, SECOND, "CURRENT", (0, 0));
    assert!(matches!(unknown, Err(SnapshotError::Unknown)));
}

#[test]
fn one_that_is_there_is_gone_on_with_and_one_that_was_closed_is_made_anew() {
    let (_directory, outgoing) = outgoing();
    outgoing.open(new(FIRST)).expect("a snapshot");
    let again = Wanted {
        resumed: Some(FIRST),
        ..new(SECOND)
    };
    assert_eq!(outgoing.open(again).expect("the same").0, FIRST);
    outgoing.close(FIRST);
    assert!(!outgoing.path(FIRST).exists(), "its files are gone");
    assert_eq!(outgoing.open(again).expect("another").0, SECOND);
}

#[test]
fn a_third_reader_waits_until_one_is_done() {
    let (_directory, outgoing) = outgoing();
    outgoing.open(new(FIRST)).expect("a snapshot");
    outgoing.open(new(SECOND)).expect("a snapshot");
    let third = outgoing.open(new(THIRD));
    assert!(matches!(third, Err(SnapshotError::TooMany)));
    outgoing.close(FIRST);
    outgoing.open(new(THIRD)).expect("there is room again");
}

#[test]
fn who_begins_anew_gives_up_what_it_had_begun() {
    let (_directory, outgoing) = outgoing();
    for name in [FIRST, SECOND, THIRD] {
        let wanted = Wanted {
            reader: Some(ReplicaId(9)),
            ..new(name)
        };
        outgoing.open(wanted).expect("room for one reader");
    }
    assert!(!outgoing.path(FIRST).exists(), "its files are gone");
    assert_eq!(outgoing.progress(), [(ReplicaId(9), 0)]);
}

#[test]
fn the_log_is_kept_until_a_reader_had_time_to_join() {
    let (_directory, outgoing) = outgoing();
    assert_eq!(outgoing.pinned(), None);
    outgoing.open(new(FIRST)).expect("a snapshot");
    outgoing.close(FIRST);
    assert_eq!(outgoing.pinned(), Some(0));
    outgoing.expire(Instant::now() + 2 * KEPT_UNREAD);
    assert_eq!(outgoing.pinned(), None);
}

#[test]
fn one_that_the_log_went_on_without_is_dropped_with_its_readers() {
    let (_directory, outgoing) = outgoing();
    with_large_file(&outgoing);
    let range = outgoing
        .begin(FIRST, "large.sst", (0, 0), 0)
        .expect("readable");
    outgoing.trimmed(0);
    outgoing
        .chunk(&range, 0)
        .expect("the log reaches back to it");
    outgoing.trimmed(1);
    assert_eq!(outgoing.pinned(), None);
    assert!(!outgoing.path(FIRST).exists(), "its files are gone");
    let refused = outgoing.chunk(&range, 0);
    assert!(matches!(refused, Err(SnapshotError::Unknown)));
}

#[test]
fn a_reader_that_never_ends_what_it_begins_gets_no_more_places() {
    let (_directory, outgoing) = outgoing();
    with_large_file(&outgoing);
    let begin = || outgoing.begin(FIRST, "large.sst", (0, 0), 0);
    let mut held: Vec<Range> = (0..RANGES).map(|_| begin().expect("a place")).collect();
    assert!(matches!(begin(), Err(SnapshotError::TooManyRanges)));
    held.pop();
    begin().expect("a place again");
}

#[test]
fn people_are_told_how_much_a_reader_has() {
    let (_directory, outgoing) = outgoing();
    with_large_file(&outgoing);
    outgoing.lock().get_mut(&FIRST).expect("opened").reader = Some(ReplicaId(9));
    assert_eq!(outgoing.progress(), [(ReplicaId(9), 0)]);
    let range = outgoing
        .begin(FIRST, "large.sst", (0, 0), CHUNK_BYTES as u64)
        .expect("readable");
    assert_eq!(outgoing.progress(), [(ReplicaId(9), 30)], "as it says");
    outgoing.chunk(&range, 0).expect("readable");
    assert_eq!(
        outgoing.progress(),
        [(ReplicaId(9), 60)],
        "and what it read since"
    );
    outgoing.close(FIRST);
    assert_eq!(outgoing.progress(), [(ReplicaId(9), 100)]);
}
