//! Watches over gRPC at real replicas: their clients go from replica to replica while leaders are
//! killed, and see what everybody else sees.

#[path = "cluster/group.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod group;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use group::{Group, put};
use http::{Request, Response};
use percolate_api::grpc;
use percolate_api::http::EventId;
use percolate_api::proto::data::v1::data_client::DataClient;
use percolate_api::proto::data::v1::watch_event::Event;
use percolate_api::proto::data::v1::{WatchEvent, WatchRequest};
use percolate_core::model::{ItemId, ItemKey, Name};
use percolate_core::operation::{Action, Operation, PutEntity};
use percolate_node::metrics::Metrics;
use percolate_node::server::{App, Forward, ForwardError, Limits, TokenSource, Watches, router};
use percolate_node::store::FeedQuery;
use percolate_node::store::keys::Position;
use percolate_node::tenant::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use tower::ServiceExt;

const REPLICAS: usize = 3;

/// How long anything may take before the test gives up; generous, for busy machines.
const PATIENCE: Duration = Duration::from_mins(2);

/// The APIs of the replicas that run.
type Nodes = Arc<Mutex<[Option<Router>; REPLICAS]>>;

/// Watches are served where they arrive: nothing is ever forwarded here.
struct Nowhere;

impl Forward for Nowhere {
    fn forward(
        &self,
        _: &str,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Bytes>, ForwardError>> {
        panic!("forwarded: {}", request.uri());
    }
}

fn api(handle: Handle) -> Router {
    router(App {
        handle,
        tenant_id: "acme".to_owned(),
        node: "acme-0".to_owned(),
        tokens: TokenSource::fixed("secret"),
        forwarder: Arc::new(Nowhere),
        limits: Limits::default(),
        watches: Watches::new(
            Limits::default().watches,
            Arc::new(Metrics::new()),
            CancellationToken::new(),
        ),
    })
}

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
        let node = self.nodes.lock().expect("no panic")[self.next % REPLICAS].clone()?;
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
    let query = FeedQuery {
        after: Position::default(),
        kind: None,
        limit: usize::MAX,
    };
    let page = handle.store.feed(&query).expect("readable");
    assert!(page.at_end, "it fits on one page");
    let changes = page.changes.into_iter();
    changes
        .map(|change| {
            let id = EventId {
                index: change.position.index,
                ordinal: Some(change.position.ordinal),
                incarnation: handle.status().incarnation,
            };
            (
                change.key.to_string(),
                grpc::event_of(id, &change.key, &change.item),
            )
        })
        .collect()
}

fn entity(number: usize) -> Operation {
    Action::PutEntity(PutEntity {
        id: ItemId::new(format!("entity-{number}")).expect("a valid id"),
        entity_type: Name::new("thing").expect("a valid name"),
        properties: BTreeMap::new(),
        labels: None,
    })
    .into()
}

/// The `n`th write: new items and old ones, several at once, and from time to time a delete.
fn write(n: usize) -> Vec<Operation> {
    match n % 4 {
        0 => vec![put(&format!("resource-{n}"))],
        1 => vec![entity(n % 7), put(&format!("resource-{n}"))],
        2 => {
            let id = ItemId::new(format!("entity-{}", n % 5)).expect("a valid id");
            vec![entity(n % 5), Action::Delete(ItemKey::Entity(id)).into()]
        }
        _ => vec![entity(n % 9)],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_over_grpc_miss_nothing_and_see_nothing_twice_across_failovers() {
    let mut group = Group::start(REPLICAS, 1).await;
    group.wait_in_sync(REPLICAS).await;
    let nodes = Nodes::default();
    let serve = |group: &Group, ordinal: usize| {
        nodes.lock().expect("no panic")[ordinal] = Some(api(group.handle(ordinal)));
    };
    (0..REPLICAS).for_each(|ordinal| serve(&group, ordinal));
    let (end, ended) = tokio::sync::watch::channel(u64::MAX);
    let watchers = [(0, None), (1, None), (2, Some(3)), (1, Some(1))].map(|(next, restless)| {
        let watcher = Watcher {
            nodes: Arc::clone(&nodes),
            next,
            restless,
            last: String::new(),
            position: Position::default(),
            items: BTreeMap::new(),
            streams: 0,
        };
        tokio::spawn(tokio::time::timeout(PATIENCE, watcher.run(ended.clone())))
    });
    let mut n = 0;
    for _ in 0..2 {
        for _ in 0..20 {
            group.write_as(&format!("write-{n}"), write(n)).await;
            n += 1;
        }
        let leader = group.leader().await;
        nodes.lock().expect("no panic")[leader] = None;
        group.kill(leader).await;
        for _ in 0..10 {
            group.write_as(&format!("write-{n}"), write(n)).await;
            n += 1;
        }
        group.revive(leader).await;
        serve(&group, leader);
        group.wait_in_sync(REPLICAS).await;
    }
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
    nodes.lock().expect("no panic").fill(None);
    group.stop().await;
}
