//! The feed of changes.

use std::collections::{BTreeMap, BTreeSet};

use percolate_core::model::Kind;
use proptest::prelude::*;

use super::super::keys::Position;
use super::*;

fn query(after: Position) -> FeedQuery {
    FeedQuery {
        after,
        kind: None,
        limit: 100,
    }
}

fn at(index: Index, ordinal: u32) -> Position {
    Position { index, ordinal }
}

/// What a page shows, as `index.ordinal name`, a deleted item with a minus.
fn shown(page: &FeedPage) -> Vec<String> {
    let line = |change: &Change| {
        let sign = if change.item.is_deleted() { "-" } else { "" };
        let Position { index, ordinal } = change.position;
        format!("{index}.{ordinal} {sign}{}", change.key)
    };
    page.changes.iter().map(line).collect()
}

#[test]
fn each_item_is_in_the_feed_once_where_it_last_changed() {
    let mut fixture = Fixture::new();
    assert_eq!(
        shown(&fixture.store.feed(&query(at(0, 0))).unwrap()),
        [""; 0]
    );
    fixture.write(vec![put_entity("a", "1", &[]), put_entity("b", "1", &[])]);
    fixture.write(vec![put_resource("c", b"text")]);
    fixture.write(vec![put_entity("b", "2", &[]), delete(entity_key("a"))]);
    // Nothing changes: no place in the feed, but one in the log.
    fixture.write(vec![put_entity("b", "2", &[])]);
    let check = |after, expected: &[&str]| {
        let page = fixture.store.feed(&query(after)).unwrap();
        assert_eq!(shown(&page), expected, "after {after:?}");
        assert_eq!((page.applied, page.at_end), (4, true));
        let last = page.changes.last().map(|change| change.position);
        assert_eq!(page.next, last.unwrap_or(after));
    };
    // Within an entry, in the order of keys: an entry has one effect, whatever its order.
    let [c, a, b] = ["2.0 resource c", "3.0 -entity a", "3.1 entity b"];
    check(at(0, 0), &[c, a, b]);
    check(Position::after_entry(1), &[c, a, b]);
    check(at(2, 0), &[a, b]);
    check(Position::after_entry(2), &[a, b]);
    check(at(3, 0), &[b]);
    check(at(3, 1), &[]);
    check(Position::after_entry(3), &[]);
    check(Position::after_entry(4), &[]);
    check(at(u64::MAX, u32::MAX), &[]);
}

#[test]
fn a_kind_is_read_past_the_others() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put_entity("a", "1", &[]), put_resource("b", b"x")]);
    fixture.write(vec![put_resource("c", b"x"), put_entity("d", "1", &[])]);
    let only = |kind, limit, after| {
        let query = FeedQuery {
            after,
            kind: Some(kind),
            limit,
        };
        fixture.store.feed(&query).unwrap()
    };
    let resources = only(Kind::Resource, 100, at(0, 0));
    assert_eq!(shown(&resources), ["1.0 resource b", "2.0 resource c"]);
    assert_eq!((resources.next, resources.at_end), (at(2, 1), true));
    let first = only(Kind::Resource, 1, at(0, 0));
    assert_eq!(shown(&first), ["1.0 resource b"]);
    assert_eq!((first.next, first.at_end), (at(1, 0), false));
    let none = only(Kind::Moment, 100, at(0, 0));
    assert_eq!(shown(&none), [""; 0]);
    assert_eq!((none.next, none.at_end), (at(2, 1), true));
}

#[test]
fn an_edge_is_in_the_feed_though_an_end_of_it_is_deleted() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put_entity("a", "1", &[])]);
    fixture.write(vec![put_edge("a", "b")]);
    fixture.write(vec![delete(entity_key("a"))]);
    let page = fixture.store.feed(&query(at(0, 0))).unwrap();
    assert_eq!(shown(&page), ["2.0 edge a/knows/b", "3.0 -entity a"]);
}

#[test]
fn a_page_of_the_feed_ends_before_it_grows_too_large() {
    let mut fixture = Fixture::new();
    let (small, large) = (vec![b'x'; 100 * 1024], vec![b'x'; 1024 * 1024]);
    for (name, content) in [
        ("a", &large),
        ("b", &small),
        ("c", &small),
        ("d", &small),
        ("e", &large),
    ] {
        fixture.write(vec![put_resource(name, content)]);
    }
    let mut after = at(0, 0);
    let mut pages = vec![];
    loop {
        let page = fixture.store.feed(&query(after)).unwrap();
        pages.push(page.changes.len());
        after = page.next;
        if page.at_end {
            break;
        }
    }
    assert_eq!(
        pages,
        [1, 2, 1, 1],
        "an item that is larger than a page has one to itself"
    );
}

#[test]
fn a_feed_that_names_what_is_not_so_is_damage() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put_entity("a", "1", &[])]);
    let put = |store: &Store, value: Option<&[u8]>| {
        let items = engine::family(&store.db, Family::Items);
        let key = entity_key("a").to_bytes();
        match value {
            Some(value) => store.db.put_cf(items, &key, value).unwrap(),
            None => store.db.delete_cf(items, &key).unwrap(),
        }
    };
    let items = engine::family(&fixture.store.db, Family::Items);
    let stored = fixture.store.db.get_cf(items, entity_key("a").to_bytes());
    let stored = stored.unwrap().unwrap();
    put(&fixture.store, None);
    let refused = fixture.store.feed(&query(at(0, 0))).unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Undecodable {
                family: Family::Changes,
                ..
            }
        ),
        "{refused}"
    );
    let mut elsewhere = stored.clone();
    elsewhere[8] += 1; // the last byte of the index
    let fixture = fixture.reopen();
    put(&fixture.store, Some(&elsewhere));
    assert!(fixture.store.feed(&query(at(0, 0))).is_err());
    let fixture = fixture.reopen();
    put(&fixture.store, Some(&stored));
    assert!(fixture.store.feed(&query(at(0, 0))).is_ok());
}

/// One write between two pages: the item's number, and its new value; `None` deletes it.
fn writes() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
    prop::collection::vec((0..6_u8, prop::option::weighted(0.8, 0..3_u8)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A reader that is always some pages behind the writer, and starts anew from its last position
    /// on a store that was closed meanwhile.
    #[test]
    fn who_reads_while_others_write_ends_with_their_state(
        writes in writes(),
        limit in 1..5_usize,
        pages_per_write in 0..3_usize,
    ) {
        let mut fixture = Fixture::new();
        let (mut seen, mut positions) = (BTreeMap::new(), BTreeSet::new());
        let mut after = at(0, 0);
        let mut read = |store: &Store| {
            let page = store.feed(&FeedQuery { limit, ..query(after) }).unwrap();
            assert!(page.changes.len() <= limit);
            for change in page.changes {
                assert!(change.position > after, "{:?} after {after:?}", change.position);
                assert!(positions.insert(change.position), "{:?} twice", change.position);
                after = change.position;
                seen.insert(change.key, change.item);
            }
            assert_eq!(page.next, after);
            page.at_end
        };
        for (n, (item, value)) in writes.iter().enumerate() {
            let name = format!("item-{item}");
            fixture.write(vec![match value {
                Some(value) => put_entity(&name, &value.to_string(), &[]),
                None => delete(entity_key(&name)),
            }]);
            for _ in 0..pages_per_write {
                read(&fixture.store);
            }
            if n == writes.len() / 2 {
                fixture = fixture.reopen();
            }
        }
        while !read(&fixture.store) {}
        let live: Vec<_> = seen.into_iter().filter(|(_, item)| !item.is_deleted()).collect();
        let listed = fixture.store.list(&ListQuery {
            kind: Kind::Entity,
            after: None,
            limit: 100,
            label: None,
            since: None,
        });
        prop_assert_eq!(live, listed.unwrap().items);
    }
}
