//! Watches over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use percolate_api::http::{EventId, WatchEvent};
use percolate_node::store::keys::Position;
use percolate_node::tenant::Handle;
use serde_json::Value;
use tower::ServiceExt;

use crate::group::Group;
use crate::nodes::{Nodes, PATIENCE, REPLICAS, final_changes};

/// The item that is written last.
const END: &str = "end";

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
            nodes: nodes.clone(),
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
        let node = self.nodes.get(self.next % REPLICAS)?;
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

/// All items at one replica in the end, and where they changed last.
fn final_state(handle: &Handle) -> BTreeMap<String, (Position, Value)> {
    let changes = final_changes(handle).into_iter();
    changes
        .map(|change| {
            let event = WatchEvent::of_item(&change.key, &change.item);
            let item = serde_json::to_value(event).expect("JSON");
            (change.key.to_string(), (change.position, item))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_move_between_replicas_miss_nothing_and_see_nothing_twice() {
    let mut group = Group::start(REPLICAS, 1).await;
    let nodes = Nodes::of(&group).await;
    let watchers = [(0, None), (1, None), (2, None), (0, Some(3)), (1, Some(1))];
    let watchers = watchers.map(|(next, restless)| {
        let watcher = Watcher::new(&nodes, next, restless);
        tokio::spawn(tokio::time::timeout(PATIENCE, watcher.run()))
    });
    nodes.lose_leaders(&mut group, 3).await;
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
    nodes.close();
    group.stop().await;
}
