use std::time::Duration;

use percolate_api::proto::data::v1::watch_event::Event;

use crate::tenant::Role;

use super::*;

async fn open(replica: &Replica, from: &str) -> Streaming<proto::WatchEvent> {
    let request = proto::WatchRequest {
        from: from.to_owned(),
        ..proto::WatchRequest::default()
    };
    client(replica)
        .watch(asked(request))
        .await
        .unwrap()
        .into_inner()
}

async fn next(events: &mut Streaming<proto::WatchEvent>) -> (String, Event) {
    let event = events.message().await.unwrap().expect("an event");
    (event.id, event.event.expect("says something"))
}

fn is_put(event: &Event, id: &str) -> bool {
    let Event::Put(item) = event else {
        return false;
    };
    matches!(&item.item, Some(proto::item_view::Item::Resource(resource)) if resource.id == id)
}

#[tokio::test]
async fn a_watch_says_what_changes_and_goes_on_after_an_id() {
    let leader = Replica::leader();
    leader.put("/resources/a", r#"{"content":"x"}"#).await;
    let mut events = open(&leader, "").await;
    let (first, event) = next(&mut events).await;
    assert!(is_put(&event, "a"), "{event:?}");
    let (_, event) = next(&mut events).await;
    let Event::Reached(reached) = event else {
        panic!("{event:?}")
    };
    assert!(reached.session.ends_with(".1"), "{}", reached.session);
    leader.put("/resources/b", r#"{"content":"y"}"#).await;
    leader.call("DELETE", "/resources/a", "").await;
    let mut later = open(&leader, &first).await;
    for events in [&mut events, &mut later] {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match next(events).await {
                (_, Event::Reached(_)) => {}
                (_, event) => seen.push(event),
            }
        }
        assert!(is_put(&seen[0], "b"), "{seen:?}");
        let Event::Deleted(deleted) = &seen[1] else {
            panic!("{seen:?}")
        };
        assert_eq!(deleted.key, get("a").key);
    }
}

#[tokio::test]
async fn a_watch_from_another_history_or_of_no_kind_is_refused() {
    let leader = Replica::leader();
    leader.put("/resources/a", r#"{"content":"x"}"#).await;
    let other = format!("1.0@{:032x}", u128::MAX);
    for (from, kind, session, expected) in [
        (
            other.as_str(),
            0,
            "",
            (Code::FailedPrecondition, "resync_required"),
        ),
        ("now", 0, "", (Code::InvalidArgument, "bad_request")),
        ("", 5, "", (Code::InvalidArgument, "bad_request")),
        ("", 0, "nonsense", (Code::InvalidArgument, "bad_request")),
    ] {
        let request = proto::WatchRequest {
            from: from.to_owned(),
            kind,
            session: session.to_owned(),
        };
        let refused = client(&leader).watch(asked(request)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            expected,
            "{from} {kind} {session}"
        );
    }
}

#[tokio::test]
async fn a_watch_ends_when_the_node_stops_or_hears_no_leader() {
    let stopped = Replica::leader();
    let stale = Replica::leader();
    for replica in [&stopped, &stale] {
        replica.put("/resources/a", r#"{"content":"x"}"#).await;
    }
    let mut watches = [open(&stopped, "").await, open(&stale, "").await];
    for events in &mut watches {
        assert!(is_put(&next(events).await.1, "a"));
        assert!(matches!(next(events).await.1, Event::Reached(_)));
    }
    stopped.stopping.cancel();
    stale.status.send_modify(|status| {
        (status.serving, status.role) = (false, Role::Follower);
    });
    for mut events in watches {
        let end = tokio::time::timeout(Duration::from_secs(10), events.message()).await;
        let end = end.expect("it ends").unwrap_err();
        assert_eq!(
            (end.code(), reason(&end).as_str()),
            (Code::Unavailable, "no_leader")
        );
    }
}
