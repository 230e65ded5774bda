//! The feed of changes: items in the order in which they last changed, read from the `changes` family.
//!
//! ```text
//! FeedQuery (after a position) -> changes -> items -> FeedPage (changes, where to go on)
//! ```
//! An item that changed twice is there once, at the later position: a reader sees the states that
//! items have now, not every state they had. Whoever reads from any position to the end, and applies
//! what it gets in order, has the state of all items that changed since, tombstones included.
//!
//! Edges are shown as they are stored, also while an endpoint is deleted: nothing is written to an
//! edge when its endpoint comes or goes, so the feed could not say that it is back.

use percolate_core::identity::Index;
use percolate_core::log::Head;
use percolate_core::model::{Item, ItemKey, Kind};
use rocksdb::{DB, Direction, IteratorMode, ReadOptions, Snapshot};

use super::error::StoreError;
use super::keys::{Family, Fields, Position};
use super::meta::{self, Fact};
use super::{changes, engine, items};

/// Stored bytes in one page, unless its first item is larger: what each reader of the feed holds at
/// a time, and about what a connection takes in one go.
const PAGE_BYTES: usize = 256 * 1024;

/// Lines looked at for one page: a reader of a rare kind gets an empty page and a place to go on
/// rather than one read of the whole feed.
const SCANNED_PER_PAGE: usize = 10_000;

/// Which changes to read.
#[derive(Debug, Clone, Copy)]
pub struct FeedQuery {
    /// Only changes after this position.
    pub after: Position,
    /// Only items of this kind.
    pub kind: Option<Kind>,
    /// At most so many.
    pub limit: usize,
}

/// An item, as its latest change left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where it changed.
    pub position: Position,
    /// Which item.
    pub key: ItemKey,
    /// The item; possibly a tombstone.
    pub item: Item,
}

/// Some of the changes a query asks for, as of one applied entry.
#[derive(Debug, Clone)]
pub struct FeedPage {
    /// In the order of their positions.
    pub changes: Vec<Change>,
    /// Go on after this position. Never before the query's.
    pub next: Position,
    /// The last entry that the page could have seen.
    pub applied: Index,
    /// Whether the feed ended here: all changes up to `applied` have been read.
    pub at_end: bool,
}

impl Position {
    /// After every write of the entry at `index`, and before any of the next.
    pub fn after_entry(index: Index) -> Self {
        Self {
            index,
            ordinal: u32::MAX,
        }
    }
}

/// A page of the feed, from one snapshot: lines, items and the applied head belong together.
pub(super) fn read(db: &DB, query: &FeedQuery) -> Result<FeedPage, StoreError> {
    let snapshot = db.snapshot();
    let mut page = FeedPage {
        changes: Vec::new(),
        next: query.after,
        applied: applied(db, &snapshot)?,
        at_end: true,
    };
    // The zero byte makes the smallest key above it.
    let start = [changes::key(query.after).as_slice(), &[0]].concat();
    let lines = db.iterator_cf_opt(
        engine::family(db, Family::Changes),
        passing(&snapshot),
        IteratorMode::From(&start, Direction::Forward),
    );
    let mut bytes = 0;
    for (scanned, line) in lines.enumerate() {
        let (line, key) = line.map_err(StoreError::reading("read the feed of changes"))?;
        if page.changes.len() >= query.limit || scanned >= SCANNED_PER_PAGE {
            page.at_end = false;
            break;
        }
        let position = position(&line)?;
        if query
            .kind
            .is_none_or(|kind| key.first() == Some(&kind.byte()))
        {
            let stored = changed_item(db, &snapshot, position, &key)?;
            if bytes + stored.len() > PAGE_BYTES && !page.changes.is_empty() {
                page.at_end = false;
                break;
            }
            bytes += stored.len();
            page.changes.push(Change {
                position,
                key: items::key(&key)?,
                item: items::decode(&key, &stored)?.item,
            });
        }
        page.next = position;
    }
    Ok(page)
}

/// The stored item under `key`, which must have changed last at `position`.
fn changed_item(
    db: &DB,
    snapshot: &Snapshot<'_>,
    position: Position,
    key: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let stored = snapshot
        .get_cf_opt(engine::family(db, Family::Items), key, passing(snapshot))
        .map_err(StoreError::reading("read a changed item"))?;
    // Item and line are written together: a feed that names what is not so is damage, not news.
    match stored {
        Some(stored) if items::decode_position(key, &stored)? == position => Ok(stored),
        _ => Err(StoreError::undecodable(
            Family::Changes,
            &changes::key(position),
            "it names an item that did not change there",
        )),
    }
}

fn position(line: &[u8]) -> Result<Position, StoreError> {
    let mut fields = Fields(line);
    let position = changes::take(&mut fields);
    position
        .and_then(|position| fields.end(position))
        .ok_or_else(|| StoreError::undecodable(Family::Changes, line, "it is no position"))
}

fn applied(db: &DB, snapshot: &Snapshot<'_>) -> Result<Index, StoreError> {
    let head = snapshot
        .get_cf(engine::family(db, Family::Meta), meta::APPLIED)
        .map_err(StoreError::reading("read the applied head"))?;
    let Some(head) = head else { return Ok(0) };
    Head::decode(&head)
        .map(|head| head.index)
        .ok_or_else(|| StoreError::undecodable(Family::Meta, meta::APPLIED, "it is no head"))
}

/// Readers of the feed pass over each block once: they must not push the hot ones out of a small cache.
fn passing(snapshot: &Snapshot<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_snapshot(snapshot);
    options
}
