//! Watches over gRPC.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use percolate_api::grpc;
use percolate_api::http::EventId;
use percolate_api::proto::data::v1::data_client::DataClient;
use percolate_api::proto::data::v1::watch_event::Event;
use percolate_api::proto::data::v1::{WatchEvent, WatchRequest};
use percolate_core::model::ItemKey;
use percolate_node::store::keys::Position;
use percolate_node::tenant::Handle;
use tonic::{Code, Streaming};
use tower::ServiceExt;

use crate::group::Group;
use crate::nodes::{Nodes, PATIENCE, REPLICAS, final_changes};

/// A client that watches from the beginning.
struct Watcher {
    nodes: Nodes,
    /// The replica it asks next.
    next: usize,
    /// Leaves a replica after so many events, though nothing is wrong.
    restless: Option<usize>,
    last: String,
    position: Position,
    /// The latest event of each item.
    items: BTreeMap<String, WatchEvent>,
    streams: usize,
}

impl Watcher {
    /// Until everything up to `end` was said to be sent.
    async fn run(mut self, end: tokio::sync::watch::Receiver<u64>) -> Self {
        loop {
            if let Some(events) = self.open().await {
                self.streams += 1;
                if self.read(events, &end).await {
                    return self;
                }
            }
            self.next += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn open(&self) -> Option<Streaming<WatchEvent>> {
        let node = self.nodes.get(self.next % REPLICAS)?;
        let direct = tower::service_fn(move |request: Request<tonic::body::Body>| {
            let answered = node.clone().oneshot(request.map(Body::new));
            async move { Ok::<_, Infallible>(answered.await.unwrap_or_else(|never| match never {})) }
        });
        let mut asked = tonic::Request::new(WatchRequest {
            from: self.last.clone(),
            ..WatchRequest::default()
        });
        let token = "Bearer secret".parse().expect("ASCII");
        asked.metadata_mut().insert("authorization", token);
        match DataClient::new(direct).watch(asked).await {
            Ok(events) => Some(events.into_inner()),
            Err(status) if status.code() == Code::Unavailable => None,
            Err(status) => panic!("{status}"),
        }
    }

    /// Whether the end has come.
    async fn read(
        &mut self,
        mut events: Streaming<WatchEvent>,
        end: &tokio::sync::watch::Receiver<u64>,
    ) -> bool {
        let mut count = 0;
        while let Ok(Some(event)) = events.message().await {
            let reached = self.take(event);
            count += 1;
            if reached.is_some_and(|index| index >= *end.borrow()) {
                return true;
            }
            if self.restless.is_some_and(|patience| count >= patience) {
                return false;
            }
        }
        false
    }

    /// How far it has come with everything, if the event says so.
    fn take(&mut self, event: WatchEvent) -> Option<u64> {
        let id: EventId = event.id.parse().expect("an id");
        self.last.clone_from(&event.id);
        let Some(ordinal) = id.ordinal else {
            assert!(matches!(event.event, Some(Event::Reached(_))), "{event:?}");
            assert!(
                id.index >= self.position.index,
                "{id} after {:?}",
                self.position
            );
            return Some(id.index);
        };
        let index = id.index;
        let position = Position { index, ordinal };
        assert!(
            position > self.position,
            "{position:?} after {:?}",
            self.position
        );
        self.position = position;
        self.items.insert(name_of(&event), event);
        None
    }
}

fn name_of(event: &WatchEvent) -> String {
    use percolate_api::proto::data::v1::item_view::Item;
    match event.event.as_ref().expect("says something") {
        Event::Put(item) => match item.item.as_ref().expect("an item") {
            Item::Resource(resource) => format!("resource {}", resource.id),
            Item::Entity(entity) => format!("entity {}", entity.id),
            other => panic!("{other:?}"),
        },
        Event::Deleted(deleted) => ItemKey::from_bytes(&deleted.key)
            .expect("a key")
            .to_string(),
        Event::Reached(_) => panic!("an item's event"),
    }
}

/// The latest events of all items at one replica in the end.
fn final_state(handle: &Handle) -> BTreeMap<String, WatchEvent> {
    let changes = final_changes(handle).into_iter();
    changes
        .map(|change| {
            let id = EventId {
                index: change.position.index,
                ordinal: Some(change.position.ordinal),
                incarnation: handle.status().history(),
            };
            (
                change.key.to_string(),
                grpc::event_of(id, &change.key, &change.item),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_over_grpc_miss_nothing_and_see_nothing_twice_across_failovers() {
    let mut group = Group::start(REPLICAS, 1).await;
    let nodes = Nodes::of(&group).await;
    let (end, ended) = tokio::sync::watch::channel(u64::MAX);
    let watchers = [(0, None), (1, None), (2, Some(3)), (1, Some(1))].map(|(next, restless)| {
        let watcher = Watcher {
            nodes: nodes.clone(),
            next,
            restless,
            last: String::new(),
            position: Position::default(),
            items: BTreeMap::new(),
            streams: 0,
        };
        tokio::spawn(tokio::time::timeout(PATIENCE, watcher.run(ended.clone())))
    });
    nodes.lose_leaders(&mut group, 2).await;
    let last = group.write("end").await;
    end.send(last.index).expect("they listen");
    // News for those who were told that they have everything before the end was known.
    group.write("after-the-end").await;
    group.wait_equal_states().await;
    let expected = final_state(&group.handle(0));
    assert!(expected.len() > 25, "{}", expected.len());
    let mut streams = 0;
    for watcher in watchers {
        let mut watcher = watcher.await.expect("no panic").expect("comes to the end");
        streams += watcher.streams;
        let late = "resource after-the-end".to_owned();
        watcher
            .items
            .entry(late.clone())
            .or_insert_with(|| expected[&late].clone());
        assert_eq!(watcher.items, expected);
    }
    assert!(streams > 20, "{streams}: they went from replica to replica");
    nodes.close();
    group.stop().await;
}
