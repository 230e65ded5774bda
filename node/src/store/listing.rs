//! What readers see: single items and pages of them. Tombstones are left out, and edges with a
//! deleted endpoint.

use std::collections::HashMap;

use percolate_core::clock::Hlc;
use percolate_core::model::{Item, ItemId, ItemKey, Kind, Name, edge_is_visible};
use rocksdb::{DB, Direction, IteratorMode, ReadOptions, Snapshot};

use super::engine;
use super::error::StoreError;
use super::items;
use super::keys::Family;

/// Items looked at for one page. A selective filter gives short or empty pages with a `next`
/// rather than one request that reads the whole tenant.
const SCANNED_PER_PAGE: usize = 10_000;

/// Stored bytes in one page: an item may have 16 MiB, a page of a thousand of them may not.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Which items to list, in the order of their keys.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Only items of this kind.
    pub kind: Kind,
    /// Only items after this key; of the same kind.
    pub after: Option<ItemKey>,
    /// At most so many.
    pub limit: usize,
    /// Only entities that have this label; no other kind has labels.
    pub label: Option<Name>,
    /// Only items changed at this time or later.
    pub since: Option<Hlc>,
}

/// Some of the items a query asks for.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The items, in the order of their keys. May be fewer than the limit though more follow.
    pub items: Vec<(ItemKey, Item)>,
    /// Ask again with this as `after` to go on; `None` at the end.
    pub next: Option<ItemKey>,
}

/// A consistent view of the items, as of one applied index.
pub(super) struct View<'a> {
    db: &'a DB,
    snapshot: Snapshot<'a>,
    /// What [`View::shows`] found: the edges of a page share endpoints.
    shown_ends: HashMap<ItemId, bool>,
}

impl<'a> View<'a> {
    pub(super) fn new(db: &'a DB) -> Self {
        Self {
            db,
            snapshot: db.snapshot(),
            shown_ends: HashMap::new(),
        }
    }

    /// The item, if readers see it.
    pub(super) fn get(&mut self, key: &ItemKey) -> Result<Option<Item>, StoreError> {
        let Some(item) = self.stored(key)? else {
            return Ok(None);
        };
        Ok(self.is_visible(key, &item)?.then_some(item))
    }

    pub(super) fn list(&mut self, query: &ListQuery) -> Result<Page, StoreError> {
        let start = match &query.after {
            // The zero byte makes the smallest key above it.
            Some(after) => [after.to_bytes(), vec![0]].concat(),
            None => vec![query.kind.byte()],
        };
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(vec![query.kind.byte() + 1]);
        // Scans read each block once: they must not push the hot ones out of a small cache.
        options.fill_cache(false);
        options.set_snapshot(&self.snapshot);
        let items_family = engine::family(self.db, Family::Items);
        let rows = self.db.iterator_cf_opt(
            items_family,
            options,
            IteratorMode::From(&start, Direction::Forward),
        );
        let mut page = Page::default();
        let mut bytes = 0;
        let mut last = None;
        for (scanned, row) in rows.enumerate() {
            let (key, value) = row.map_err(StoreError::reading("list items"))?;
            let full = page.items.len() >= query.limit
                || bytes + value.len() > PAGE_BYTES && !page.items.is_empty();
            if full || scanned >= SCANNED_PER_PAGE {
                page.next = last;
                break;
            }
            let item = items::decode(&key, &value)?.item;
            let key = items::key(&key)?;
            if matches(query, &item) && self.is_visible(&key, &item)? {
                bytes += value.len();
                page.items.push((key.clone(), item));
            }
            last = Some(key);
        }
        Ok(page)
    }

    fn is_visible(&mut self, key: &ItemKey, item: &Item) -> Result<bool, StoreError> {
        let ItemKey::Edge { src, dst, .. } = key else {
            return Ok(!item.is_deleted());
        };
        Ok(!item.is_deleted() && self.shows(item, src)? && self.shows(item, dst)?)
    }

    /// Whether `edge` is visible as far as its endpoint `id` goes.
    fn shows(&mut self, edge: &Item, id: &ItemId) -> Result<bool, StoreError> {
        if let Some(shown) = self.shown_ends.get(id) {
            return Ok(*shown);
        }
        // An endpoint is whatever is stored under its id, of any kind.
        let keys = Kind::ALL
            .into_iter()
            .filter_map(|kind| ItemKey::of(kind, id.clone()));
        let stored: Vec<Item> = keys
            .filter_map(|key| self.stored(&key).transpose())
            .collect::<Result<_, _>>()?;
        let shown = edge_is_visible(edge, &stored.iter().collect::<Vec<_>>(), &[]);
        self.shown_ends.insert(id.clone(), shown);
        Ok(shown)
    }

    fn stored(&self, key: &ItemKey) -> Result<Option<Item>, StoreError> {
        let key = key.to_bytes();
        let value = self
            .snapshot
            .get_cf(engine::family(self.db, Family::Items), &key)
            .map_err(StoreError::reading("read an item"))?;
        value
            .map(|value| items::decode(&key, &value).map(|stored| stored.item))
            .transpose()
    }
}

fn matches(query: &ListQuery, item: &Item) -> bool {
    let labelled = |label: &Name| match item {
        Item::Entity(entity) => entity
            .view()
            .is_some_and(|entity| entity.labels.contains(label.as_str())),
        _ => false,
    };
    query.label.as_ref().is_none_or(labelled)
        && query.since.is_none_or(|since| item.updated_at() >= since)
}
