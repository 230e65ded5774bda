//! What watches are opened at: the APIs of replicas that lose their leaders while clients write.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use percolate_core::model::{ItemId, ItemKey, Json, Name};
use percolate_core::operation::{Action, Operation, PutEntity};
use percolate_node::metrics::Metrics;
use percolate_node::server::{App, Forward, ForwardError, Limits, TokenSource, Watches, router};
use percolate_node::store::keys::Position;
use percolate_node::store::{Change, FeedQuery};
use percolate_node::tenant::Handle;
use tokio_util::sync::CancellationToken;

use crate::group::{Group, put};

pub(crate) const REPLICAS: usize = 3;

/// How long anything may take before the test gives up; generous, for busy machines.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The APIs of the replicas that run.
#[derive(Clone, Default)]
pub(crate) struct Nodes(Arc<Mutex<[Option<Router>; REPLICAS]>>);

impl Nodes {
    /// All of `group`, which is in sync.
    pub(crate) async fn of(group: &Group) -> Self {
        group.wait_in_sync(REPLICAS).await;
        let nodes = Self::default();
        (0..REPLICAS).for_each(|ordinal| nodes.serve(group, ordinal));
        nodes
    }

    /// The API of a replica, if it runs.
    pub(crate) fn get(&self, ordinal: usize) -> Option<Router> {
        self.lock()[ordinal].clone()
    }

    /// Nobody is served any more.
    pub(crate) fn close(&self) {
        self.lock().fill(None);
    }

    /// Write while one leader after the other is killed and comes back.
    pub(crate) async fn lose_leaders(&self, group: &mut Group, times: usize) {
        let mut writes = Writes::default();
        for round in 0..times {
            writes.make(group, 20).await;
            let leader = group.leader().await;
            // On its way when the leader dies: it may take effect or not.
            let handle = group.handle(leader);
            let lost =
                tokio::spawn(async move { handle.write(vec![entity(20, round)], None).await });
            tokio::task::yield_now().await;
            self.lock()[leader] = None;
            group.kill(leader).await;
            let _ = lost.await;
            writes.make(group, 10).await;
            group.revive(leader).await;
            self.serve(group, leader);
            group.wait_in_sync(REPLICAS).await;
        }
    }

    fn serve(&self, group: &Group, ordinal: usize) {
        self.lock()[ordinal] = Some(api(group.handle(ordinal)));
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Router>; REPLICAS]> {
        self.0.lock().expect("no panic")
    }
}

/// All changes that the feed of one replica holds in the end.
pub(crate) fn final_changes(handle: &Handle) -> Vec<Change> {
    let query = FeedQuery {
        after: Position::default(),
        kind: None,
        limit: usize::MAX,
    };
    let page = handle.store.feed(&query).expect("readable");
    assert!(page.at_end, "it fits on one page");
    page.changes
}

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

/// How many writes were made.
#[derive(Default)]
struct Writes(usize);

impl Writes {
    async fn make(&mut self, group: &Group, count: usize) {
        for _ in 0..count {
            let n = self.0;
            group.write_as(&format!("write-{n}"), write(n)).await;
            self.0 += 1;
        }
    }
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
