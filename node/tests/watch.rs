//! Watches over real replicas: their clients go from replica to replica while leaders are killed, and
//! see what everybody else sees.

#[path = "cluster/group.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod group;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use group::{Group, put};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use percolate_api::http::{EventId, WatchEvent};
use percolate_core::model::{ItemId, ItemKey, Json, Name};
use percolate_core::operation::{Action, Operation, PutEntity};
use percolate_node::metrics::Metrics;
use percolate_node::server::{App, Forward, ForwardError, Limits, TokenSource, Watches, router};
use percolate_node::store::FeedQuery;
use percolate_node::store::keys::Position;
use percolate_node::tenant::Handle;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const REPLICAS: usize = 3;

/// How long anything may take before the test gives up; generous, for busy machines.
const PATIENCE: Duration = Duration::from_mins(2);

/// The item that is written last.
const END: &str = "end";

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
    last: Option<EventId>,
    position: Position,
    /// What it knows of each item: where it changed last, and how it is.
    items: BTreeMap<String, (Position, Value)>,
    seen_end: bool,
    streams: usize,
}

impl Watcher {
    fn new(nodes: &Nodes, next: usize, restless: Option<usize>) -> Self {
        Self {
            nodes: Arc::clone(nodes),
            next,
            restless,
            last: None,
            position: Position::default(),
            items: BTreeMap::new(),
            seen_end: false,
            streams: 0,
        }
    }

    async fn run(mut self) -> Self {
        loop {
            if let Some(body) = self.open().await {
                self.streams += 1;
                if self.read(body).await {
                    return self;
                }
            }
            self.next += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn open(&self) -> Option<Body> {
        let node = self.nodes.lock().expect("no panic")[self.next % REPLICAS].clone()?;
        let mut asked = Request::get("/api/v1/watch").header("authorization", "Bearer secret");
        if let Some(last) = &self.last {
            asked = asked.header("last-event-id", last.to_string());
        }
        let response = node.oneshot(asked.body(Body::empty()).expect("a request"));
        let response = response.await.expect("infallible");
        match response.status() {
            StatusCode::OK => Some(response.into_body()),
            StatusCode::SERVICE_UNAVAILABLE => None,
            other => panic!("{other}"),
        }
    }

    /// Whether the end has come.
    async fn read(&mut self, mut body: Body) -> bool {
        let mut arrived = String::new();
        let mut count = 0;
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().expect("data");
            arrived += std::str::from_utf8(&data).expect("text");
            while let Some((block, rest)) = arrived.split_once("\n\n") {
                let end = self.take(block);
                arrived = rest.to_owned();
                count += 1;
                if end || self.restless.is_some_and(|patience| count >= patience) {
                    return end;
                }
            }
        }
        false
    }

    fn take(&mut self, block: &str) -> bool {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let Some(id) = field("id") else { return false };
        let id: EventId = id.parse().expect("an id");
        self.last = Some(id);
        let Some(ordinal) = id.ordinal else {
            assert_eq!(field("event"), Some(WatchEvent::REACHED));
            assert!(
                id.index >= self.position.index,
                "{id} after {:?}",
                self.position
            );
            return self.seen_end;
        };
        let position = Position {
            index: id.index,
            ordinal,
        };
        assert!(
            position > self.position,
            "{position:?} after {:?}",
            self.position
        );
        self.position = position;
        let item: Value = serde_json::from_str(field("data").expect("data")).expect("JSON");
        let name = item["id"].as_str().expect("an id").to_owned();
        self.seen_end |= name == END;
        let name = format!("{} {name}", item["kind"].as_str().expect("a kind"));
        self.items.insert(name, (position, item));
        false
    }
}

/// All that the feed of one replica holds in the end.
fn final_state(handle: &Handle) -> BTreeMap<String, (Position, Value)> {
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
            let event = WatchEvent::of_item(&change.key, &change.item);
            let item = serde_json::to_value(event).expect("JSON");
            (change.key.to_string(), (change.position, item))
        })
        .collect()
}

fn entity(number: usize, value: usize) -> Operation {
    Action::PutEntity(PutEntity {
        id: ItemId::new(format!("entity-{number}")).expect("a valid id"),
        entity_type: Name::new("thing").expect("a valid name"),
        properties: [(
            Name::new("value").expect("a valid name"),
            Json::parse(&value.to_string()).expect("a number"),
        )]
        .into(),
        labels: None,
    })
    .into()
}

fn delete(number: usize) -> Operation {
    let id = ItemId::new(format!("entity-{number}")).expect("a valid id");
    Action::Delete(ItemKey::Entity(id)).into()
}

/// The `n`th write: new items and old ones, several at once, and from time to time a delete.
fn write(n: usize) -> Vec<Operation> {
    match n % 5 {
        0 => vec![put(&format!("resource-{n}"))],
        1 => vec![
            entity(n % 7, n),
            entity(7 + n % 3, n),
            put(&format!("resource-{n}")),
        ],
        // A batch that deletes what may be gone is refused; a put before it makes it valid.
        2 => vec![entity(n % 4, n), delete(n % 4)],
        _ => vec![entity(n % 11, n)],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_move_between_replicas_miss_nothing_and_see_nothing_twice() {
    let mut group = Group::start(REPLICAS, 1).await;
    group.wait_in_sync(REPLICAS).await;
    let nodes = Nodes::default();
    let serve = |group: &Group, ordinal: usize| {
        nodes.lock().expect("no panic")[ordinal] = Some(api(group.handle(ordinal)));
    };
    (0..REPLICAS).for_each(|ordinal| serve(&group, ordinal));
    let watchers = [(0, None), (1, None), (2, None), (0, Some(3)), (1, Some(1))];
    let watchers = watchers.map(|(next, restless)| {
        let watcher = Watcher::new(&nodes, next, restless);
        tokio::spawn(tokio::time::timeout(PATIENCE, watcher.run()))
    });
    let mut n = 0;
    for round in 0..3 {
        for _ in 0..20 {
            group.write_as(&format!("write-{n}"), write(n)).await;
            n += 1;
        }
        let leader = group.leader().await;
        // On its way when the leader dies: it may take effect or not.
        let handle = group.handle(leader);
        let lost = tokio::spawn(async move { handle.write(vec![entity(20, round)], None).await });
        tokio::task::yield_now().await;
        nodes.lock().expect("no panic")[leader] = None;
        group.kill(leader).await;
        let _ = lost.await;
        for _ in 0..10 {
            group.write_as(&format!("write-{n}"), write(n)).await;
            n += 1;
        }
        group.revive(leader).await;
        serve(&group, leader);
        group.wait_in_sync(REPLICAS).await;
    }
    group.write(END).await;
    group.wait_equal_states().await;
    let expected = final_state(&group.handle(0));
    assert!(expected.len() > 40, "{}", expected.len());
    let mut streams = 0;
    for watcher in watchers {
        let watcher = watcher.await.expect("no panic").expect("comes to the end");
        streams += watcher.streams;
        assert_eq!(watcher.items, expected);
    }
    assert!(streams > 50, "{streams}: they went from replica to replica");
    nodes.lock().expect("no panic").fill(None);
    group.stop().await;
}
