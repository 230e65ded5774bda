//! Clients that write through faults: each goes on at another member when one fails it.
//!
//! ```text
//! Link::open, Link::write ─► client ─► acknowledged: id, when ─► silences, what must be there at the end
//! ```
//! They are spread over all members, as a Service spreads connections. A member that refuses or breaks
//! a connection is left at once, one that does not answer after a second.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bench::deployment::wait;

/// Enough that somebody asks every few milliseconds, wherever the leader is.
const CLIENTS: usize = 8;
/// Least time between two writes of a client: what is measured is silence, and no rate.
const PACE: Duration = Duration::from_millis(10);
/// Far longer than a write takes. A member that hangs, or waits for another that does, is left after
/// this; at any time some clients wait at each member, so that whoever serves first is noticed.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(10);

/// A connection to one member.
pub(super) trait Link: Send + Sized + 'static {
    /// How members are reached.
    type Way: Clone + Send + Sync + 'static;

    /// Connects to one.
    fn open(way: &Self::Way, member: usize) -> impl Future<Output = Result<Self>> + Send;

    /// Writes under `id`, which may have been written before with the same `sequence`.
    fn write(&mut self, id: &str, sequence: u64) -> impl Future<Output = Result<()>> + Send;
}

/// Clients at work.
pub(super) struct Clients {
    board: Arc<Board>,
    tasks: JoinSet<Vec<Acknowledged>>,
}

/// What all of them see.
struct Board {
    begun: Instant,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// Raised when they are to spread over the members anew.
    generation: AtomicU64,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Under which it is found.
    pub(super) id: String,
    /// When, since the clients began.
    pub(super) at: Duration,
}

impl Clients {
    /// Sets them to work at so many members.
    pub(super) fn start<L: Link>(way: &L::Way, members: usize) -> Self {
        let board = Arc::new(Board {
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client::<L> {
                way: way.clone(),
                number,
                members,
                member: number % members,
                generation: 0,
                link: None,
                board: Arc::clone(&board),
            };
            tasks.spawn(client.work());
        }
        Self { board, tasks }
    }

    /// Time since they began.
    pub(super) fn elapsed(&self) -> Duration {
        self.board.begun.elapsed()
    }

    /// Lets them connect anew, spread over all members.
    pub(super) fn spread(&self) {
        self.board.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until more writes were acknowledged than can have been on their way.
    pub(super) async fn until_served(&self, within: Duration) -> Result<()> {
        let acknowledged = || self.board.acknowledged.load(Ordering::Relaxed);
        let wanted = acknowledged() + 5 * CLIENTS as u64;
        wait("writes are acknowledged again", within, || {
            std::future::ready(acknowledged() >= wanted)
        })
        .await
    }

    /// Lets them end; what each was told.
    pub(super) async fn stop(mut self) -> Result<Vec<Vec<Acknowledged>>> {
        self.board.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            all.push(ended.context("a client panicked")?);
        }
        Ok(all)
    }
}

struct Client<L: Link> {
    way: L::Way,
    number: usize,
    members: usize,
    member: usize,
    generation: u64,
    link: Option<L>,
    board: Arc<Board>,
}

impl<L: Link> Client<L> {
    async fn work(mut self) -> Vec<Acknowledged> {
        let mut acknowledged = Vec::new();
        for sequence in 0.. {
            let id = format!("failover-{}-{sequence:08}", self.number);
            let sent = Instant::now();
            if !self.write(&id, sequence).await {
                break;
            }
            self.board.acknowledged.fetch_add(1, Ordering::Relaxed);
            let at = self.board.begun.elapsed();
            acknowledged.push(Acknowledged { id, at });
            sleep_until(sent + PACE).await;
        }
        acknowledged
    }

    /// Tries until it is acknowledged; not so when the clients are to end.
    async fn write(&mut self, id: &str, sequence: u64) -> bool {
        while !self.board.stop.load(Ordering::Relaxed) {
            let generation = self.board.generation.load(Ordering::Relaxed);
            if generation != self.generation {
                self.generation = generation;
                self.member = self.number % self.members;
                self.link = None;
            }
            let attempt = timeout(ATTEMPT, self.attempt(id, sequence)).await;
            if matches!(attempt, Ok(Ok(()))) {
                return true;
            }
            self.link = None;
            self.member = (self.member + 1) % self.members;
            sleep(RETRY).await;
        }
        false
    }

    async fn attempt(&mut self, id: &str, sequence: u64) -> Result<()> {
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(L::open(&self.way, self.member).await?),
        };
        link.write(id, sequence).await
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    /// Member 0 serves until it is down, member 1 always.
    struct Flaky {
        member: usize,
        down: Arc<AtomicBool>,
    }

    impl Link for Flaky {
        type Way = Arc<AtomicBool>;

        async fn open(way: &Self::Way, member: usize) -> Result<Self> {
            let down = Arc::clone(way);
            Ok(Self { member, down })
        }

        async fn write(&mut self, _id: &str, _sequence: u64) -> Result<()> {
            let down = self.down.load(Ordering::Relaxed);
            ensure!(self.member == 1 || !down, "it is down");
            Ok(())
        }
    }

    #[tokio::test]
    async fn clients_go_on_at_another_member_with_the_same_write() {
        let down = Arc::new(AtomicBool::new(false));
        let clients = Clients::start::<Flaky>(&down, 2);
        let within = Duration::from_mins(1);
        clients.until_served(within).await.expect("served");
        down.store(true, Ordering::Relaxed);
        clients.until_served(within).await.expect("served on");
        clients.spread();
        clients.until_served(within).await.expect("and after that");
        for told in clients.stop().await.expect("ended") {
            for (sequence, acknowledged) in told.iter().enumerate() {
                let ending = format!("-{sequence:08}");
                assert!(acknowledged.id.ends_with(&ending), "none is left out");
            }
        }
    }
}
