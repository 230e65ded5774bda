//! One watch at work: pages of the feed as they come to be, as what its protocol sends.
//!
//! ```text
//! Store::feed -> page -> Render: put, delete … [reached] -> (sent) -> next page
//!                                       at the end: wait for Status.applied to rise
//! ```
//! A page is read once the last event of the one before has been taken: a reader that is slow holds
//! one page and nothing else waits for it. The driver knows nothing of watches.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use percolate_api::http::EventId;
use percolate_core::identity::{Incarnation, Index};
use percolate_core::model::{Item, ItemKey, Kind};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::places::Place;
use crate::server::App;
use crate::server::problem::Causes;
use crate::store::keys::Position;
use crate::store::{Change, FeedPage, FeedQuery, Store, StoreError};
use crate::tenant::{SessionToken, Status};

/// Changes in one page: enough that reading costs little beside sending.
const PAGE_CHANGES: usize = 256;

/// From so many bytes on a page, as it is sent, is large: it is one large item, for the feed's pages are
/// smaller.
const LARGE_PAGE_BYTES: usize = 1 << 20;

/// Watches that hold a large page, at a time; others wait until these have been sent. All of them at
/// once could fill the memory.
static LARGE_PAGES: Semaphore = Semaphore::const_new(4);

/// How a protocol says what happened.
pub(in crate::server) trait Render: Send + 'static {
    /// What it sends.
    type Event: Send + 'static;

    /// The item under `key`, as its latest change at `id` left it, and how many bytes that is.
    fn change(id: EventId, key: &ItemKey, item: &Item) -> Result<(Self::Event, usize), PageError>;

    /// All up to `id` has been sent, to a client that stands at `session` now.
    fn reached(id: EventId, session: SessionToken) -> Result<Self::Event, PageError>;
}

/// The changes after a position, without end.
pub(in crate::server) struct Changes<R> {
    store: Arc<Store>,
    status: watch::Receiver<Status>,
    /// The history it belongs to; in another one positions mean something else.
    incarnation: Incarnation,
    kind: Option<Kind>,
    after: Position,
    /// Everything up to here was said to be sent.
    reached: Option<Index>,
    /// How long to go on without being told what the leader has.
    unserved: Duration,
    place: Place,
    /// While a large page is held.
    large: Option<SemaphorePermit<'static>>,
    render: PhantomData<fn() -> R>,
}

/// Why a page could not be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum PageError {
    #[error("cannot read the feed")]
    Read(#[from] StoreError),
    #[error("cannot write an event")]
    Write(#[source] serde_json::Error),
    #[error("the node stops")]
    Stopped(#[from] tokio::task::JoinError),
}

impl<R: Render> Changes<R> {
    pub(in crate::server) fn new(
        app: &App,
        incarnation: Incarnation,
        after: Position,
        kind: Option<Kind>,
        place: Place,
    ) -> Self {
        Self {
            store: Arc::clone(&app.handle.store),
            status: app.handle.watch_status(),
            incarnation,
            kind,
            after,
            reached: None,
            unserved: app.limits.watch_unserved,
            place,
            large: None,
            render: PhantomData,
        }
    }

    /// The events, until the node stops or can tell no more.
    pub(in crate::server) fn into_stream(self) -> impl Stream<Item = R::Event> {
        stream::unfold((self, VecDeque::new()), |(mut changes, mut events)| async {
            while events.is_empty() {
                events = changes.next_page().await?;
            }
            let event = events.pop_front()?;
            Some((event, (changes, events)))
        })
    }

    /// The events of the next page, possibly none; `None` at the end of the stream.
    async fn next_page(&mut self) -> Option<VecDeque<R::Event>> {
        self.large = None; // the page before has been taken
        if self
            .reached
            .is_some_and(|reached| reached >= self.applied())
            && !self.wait().await
        {
            return None;
        }
        if self.place.stopping().is_cancelled() {
            return None;
        }
        match self.read().await {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::error!(error = %Causes(&error), "a watch ends");
                None
            }
        }
    }

    async fn read(&mut self) -> Result<VecDeque<R::Event>, PageError> {
        loop {
            let (events, page) = self.read_page().await?;
            let bytes: usize = events.iter().map(|(_, bytes)| bytes).sum();
            if bytes < LARGE_PAGE_BYTES || self.large.is_some() {
                return self.take(events.into_iter().map(|(event, _)| event).collect(), &page);
            }
            drop((events, page));
            self.large = tokio::select! {
                permit = LARGE_PAGES.acquire() => permit.ok(),
                () = self.place.stopping().cancelled() => return Ok(VecDeque::new()),
            };
        }
    }

    /// The events after where the stream is, each with its bytes.
    async fn read_page(&self) -> Result<(Vec<(R::Event, usize)>, FeedPage), PageError> {
        let (store, incarnation) = (Arc::clone(&self.store), self.incarnation);
        let query = FeedQuery {
            after: self.after,
            kind: self.kind,
            limit: PAGE_CHANGES,
        };
        // Items may be megabytes: reading them must not hold up other requests.
        let reading = tokio::task::spawn_blocking(move || {
            let page = store.feed(&query)?;
            let events = page
                .changes
                .iter()
                .map(|change| put::<R>(incarnation, change));
            Ok::<_, PageError>((events.collect::<Result<_, _>>()?, page))
        });
        reading.await?
    }

    /// Go on after `page`.
    fn take(
        &mut self,
        mut events: VecDeque<R::Event>,
        page: &FeedPage,
    ) -> Result<VecDeque<R::Event>, PageError> {
        self.after = page.next;
        if page.at_end {
            self.after = self.after.max(Position::after_entry(page.applied));
            self.reached = Some(page.applied);
            events.push_back(self.reached_event(page.applied)?);
        }
        Ok(events)
    }

    fn reached_event(&self, applied: Index) -> Result<R::Event, PageError> {
        let id = EventId {
            index: applied,
            ordinal: None,
            incarnation: Some(self.incarnation),
        };
        let session = SessionToken {
            incarnation: self.incarnation,
            epoch: self.status.borrow().epoch,
            index: applied,
        };
        R::reached(id, session)
    }

    fn applied(&self) -> Index {
        self.status.borrow().applied
    }

    /// Wait for more to be applied; `false` when this replica will not do for the client any longer.
    async fn wait(&mut self) -> bool {
        let (known, incarnation) = (self.reached, self.incarnation);
        let is_other = move |status: &Status| status.history() != Some(incarnation);
        let news = |status: &Status| Some(status.applied) > known || is_other(status);
        let mut readiness = self.status.clone();
        tokio::select! {
            biased;
            () = self.place.stopping().cancelled() => false,
            // The driver is gone, or what it applied is of another history.
            status = self.status.wait_for(news) => status.is_ok_and(|status| !is_other(&status)),
            () = unserved(&mut readiness, self.unserved) => false,
        }
    }
}

/// Returns once the replica has not served for `patience`, all that time.
async fn unserved(status: &mut watch::Receiver<Status>, patience: Duration) {
    while status.wait_for(|status| !status.serving).await.is_ok() {
        let serving = status.wait_for(|status| status.serving);
        let Ok(Ok(_)) = tokio::time::timeout(patience, serving).await else {
            return;
        };
    }
}

fn put<R: Render>(
    incarnation: Incarnation,
    change: &Change,
) -> Result<(R::Event, usize), PageError> {
    let id = EventId {
        index: change.position.index,
        ordinal: Some(change.position.ordinal),
        incarnation: Some(incarnation),
    };
    R::change(id, &change.key, &change.item)
}
