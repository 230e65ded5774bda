//! What readers see.

use percolate_core::model::Kind;

use super::*;

fn query(kind: Kind) -> ListQuery {
    ListQuery {
        kind,
        after: None,
        limit: 100,
        label: None,
        since: None,
    }
}

fn names(page: &Page) -> Vec<String> {
    page.items.iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_list_is_in_the_order_of_ids_and_of_one_kind() {
    let mut fixture = Fixture::new();
    fixture.write(vec![
        put_entity("b", "1", &[]),
        put_entity("a", "1", &[]),
        put_resource("c", b"text"),
        put_edge("a", "b"),
    ]);
    let list = |kind| names(&fixture.store.list(&query(kind)).unwrap());
    assert_eq!(list(Kind::Entity), ["entity a", "entity b"]);
    assert_eq!(list(Kind::Resource), ["resource c"]);
    assert_eq!(list(Kind::Edge), ["edge a/knows/b"]);
    assert_eq!(list(Kind::Moment), [""; 0]);
}

#[test]
fn pages_join_up_to_the_whole_whatever_their_size() {
    let mut fixture = Fixture::new();
    let all: Vec<String> = (0..25).map(|n| format!("item-{n:02}")).collect();
    for name in &all {
        fixture.write(vec![put_entity(name, "1", &[])]);
    }
    fixture.write(vec![
        delete(entity_key("item-07")),
        delete(entity_key("item-24")),
    ]);
    let expected: Vec<String> = all
        .iter()
        .filter(|name| !["item-07", "item-24"].contains(&name.as_str()))
        .map(|name| format!("entity {name}"))
        .collect();
    for limit in [1, 7, 23, 24, 100] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = fixture
                .store
                .list(&ListQuery {
                    after,
                    limit,
                    ..query(Kind::Entity)
                })
                .unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(names(&page));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "pages of {limit}");
    }
}

#[test]
fn filters_leave_out_what_was_not_asked_for() {
    let mut fixture = Fixture::new();
    fixture.write(vec![
        put_entity("old", "1", &["x"]),
        put_entity("plain", "1", &[]),
    ]);
    fixture.now_ms += 1000;
    let since = Some(Hlc::from_wall_ms(fixture.now_ms));
    fixture.write(vec![
        put_entity("new", "1", &["x", "y"]),
        put_resource("doc", b"text"),
    ]);
    let check = |kind, label: Option<&str>, since, expected: &[&str]| {
        let label = label.map(|label| Name::new(label).unwrap());
        let query = ListQuery {
            label,
            since,
            ..query(kind)
        };
        let page = fixture.store.list(&query).unwrap();
        assert_eq!(names(&page), expected, "{query:?}");
    };
    check(Kind::Entity, Some("x"), None, &["entity new", "entity old"]);
    check(Kind::Entity, Some("y"), None, &["entity new"]);
    check(Kind::Entity, Some("z"), None, &[]);
    check(Kind::Resource, Some("x"), None, &[]);
    check(Kind::Entity, None, since, &["entity new"]);
    check(Kind::Entity, Some("x"), since, &["entity new"]);
    check(Kind::Resource, None, since, &["resource doc"]);
}

#[test]
fn an_edge_is_hidden_while_an_end_of_it_is_deleted() {
    let edge = ItemKey::Edge {
        src: id("a"),
        edge_type: id("knows"),
        dst: id("b"),
    };
    for end in ["a", "b"] {
        let mut fixture = Fixture::new();
        let shown = |fixture: &Fixture| {
            let listed = !fixture
                .store
                .list(&query(Kind::Edge))
                .unwrap()
                .items
                .is_empty();
            assert_eq!(
                fixture.store.get(&edge).unwrap().is_some(),
                listed,
                "get and list differ"
            );
            listed
        };
        fixture.write(vec![put_edge("a", "b")]);
        assert!(shown(&fixture), "ends that nobody knows of do not hide it");
        fixture.write(vec![put_entity("a", "1", &[]), put_entity("b", "1", &[])]);
        assert!(shown(&fixture));
        fixture.write(vec![delete(entity_key(end))]);
        assert!(!shown(&fixture), "{end} is deleted");
        fixture.write(vec![put_entity(end, "2", &[])]);
        assert!(shown(&fixture), "{end} is back");
        fixture.write(vec![delete(edge.clone())]);
        assert!(!shown(&fixture), "deleted itself");
    }
}

#[test]
fn a_page_ends_before_it_grows_too_large() {
    let mut fixture = Fixture::new();
    let large = vec![b'x'; 1024 * 1024];
    for name in ["a", "b", "c", "d", "e", "f"] {
        fixture.write(vec![put_resource(name, &large)]);
    }
    let page = fixture.store.list(&query(Kind::Resource)).unwrap();
    assert_eq!(names(&page), ["resource a", "resource b", "resource c"]);
    assert_eq!(page.next, Some(ItemKey::Resource(id("c"))));
}
