//! Many clients that write at once, each as a careful app would, and remember what they were told.
//!
//! ```text
//! Load ─► writers ─► PUT /entities/<writer> with 1, 2, 3, ... (same Idempotency-Key until answered)
//!                 ├► now and then a read at another pod, with the session token
//!                 └► now and then an old request once more ─► History ─► history::check
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng as _;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::api::{Api, Reply, Request};
use crate::history::{self, Event, History, Outcome};
use crate::progress::say;

/// Between two writes of one client: 64 of them must leave two cores room for a cluster.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two tries of one write.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A client that was not answered this long leaves the write unknown and takes a new key.
const GIVE_UP: Duration = Duration::from_mins(1);
/// Every so many writes the client reads its own entity at a pod of chance.
const READ_EVERY: u64 = 5;
/// Every so many writes the client sends the one before the last again.
const REPLAY_EVERY: u64 = 10;
/// How long every replica may take to show what was written last.
const FINAL_READ: Duration = Duration::from_mins(1);

/// Clients at work.
pub struct Load {
    api: Api,
    begun: Instant,
    stop: Arc<AtomicBool>,
    told: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    writers: JoinSet<Ended>,
}

/// What a load did.
pub struct Record {
    /// One per client.
    pub histories: Vec<History>,
    /// Tries that were not answered 2xx.
    pub failed_tries: usize,
    /// The entities of each.
    keys: Vec<Vec<String>>,
}

/// What a client knows at its end.
struct Ended {
    history: History,
    keys: Vec<String>,
}

impl Load {
    /// Sets `writers` clients to work.
    pub fn start(api: &Api, writers: usize) -> Self {
        let mut load = Self {
            api: api.clone(),
            begun: Instant::now(),
            stop: Arc::default(),
            told: Arc::default(),
            failed: Arc::default(),
            writers: JoinSet::new(),
        };
        // The same tenant may see many loads: each has entities and idempotency keys of its own.
        let run: u32 = rand::rng().random();
        for number in 0..writers {
            let writer = Writer {
                api: api.clone(),
                begun: load.begun,
                name: format!("writer-{run:08x}-{number}"),
                generation: 0,
                session: None,
                keys: Vec::new(),
                history: History::new(),
                told: Arc::clone(&load.told),
                failed: Arc::clone(&load.failed),
                stop: Arc::clone(&load.stop),
            };
            load.writers.spawn(writer.work());
        }
        load
    }

    /// Time since the load began, in which its events are recorded.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }

    /// Waits until `count` more writes were acknowledged.
    pub async fn wait_acknowledged(&self, count: usize, limit: Duration) -> Result<()> {
        let (begun, wanted) = (Instant::now(), self.acknowledged() + count);
        while self.acknowledged() < wanted {
            ensure!(
                begun.elapsed() < limit,
                "only {} of {count} writes were acknowledged within {} s",
                count - (wanted - self.acknowledged()),
                limit.as_secs()
            );
            sleep(RETRY_PAUSE).await;
        }
        Ok(())
    }

    /// Lets every client finish its write.
    pub async fn stop(mut self) -> Result<Record> {
        self.stop.store(true, Ordering::Relaxed);
        let mut record = Record {
            histories: Vec::new(),
            failed_tries: 0,
            keys: Vec::new(),
        };
        while let Some(ended) = self.writers.join_next().await {
            let ended = ended.context("a client panicked")?;
            record.histories.push(ended.history);
            record.keys.push(ended.keys);
        }
        record.failed_tries = self.failed.load(Ordering::Relaxed);
        Ok(record)
    }

    /// Stops, reads everything back from every replica, and checks what the clients were told.
    pub async fn stop_and_check(self) -> Result<Record> {
        let api = self.api.clone();
        let mut record = self.stop().await?;
        record.read_back(&api).await?;
        record.check()?;
        Ok(record)
    }
}

impl Record {
    /// Reads every entity from every replica, at a point after all writes.
    pub async fn read_back(&mut self, api: &Api) -> Result<()> {
        let fence = Request::put(
            "/entities/fence",
            &json!({"type": "fence", "properties": {}}),
        )
        .with_idempotency_key(&format!("fence-{:032x}", rand::rng().random::<u128>()));
        let fence = answered(api, None, &fence).await?;
        let session = fence.session().map(str::to_owned);
        ensure!(session.is_some(), "an answer has no Percolate-Session");
        for (history, keys) in self.histories.iter_mut().zip(&self.keys) {
            for key in keys {
                for pod in api.pods() {
                    let request =
                        Request::get(format!("/entities/{key}")).with_session(session.as_deref());
                    let reply = answered(api, Some(&pod), &request).await?;
                    history.push(Event::Read {
                        key: key.clone(),
                        seen: value(&reply),
                        pod: pod.clone(),
                        is_final: true,
                    });
                    if let Some(etag) = reply.etag() {
                        history.push(Event::Version {
                            key: key.clone(),
                            pod: pod.clone(),
                            etag: etag.to_owned(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks what the clients were told and says how much that was.
    ///
    /// # Errors
    /// With every promise that was broken.
    pub fn check(&self) -> Result<()> {
        let acknowledged = history::acknowledgements(&self.histories).len();
        let events: usize = self.histories.iter().map(Vec::len).sum();
        say(&format!(
            "  {acknowledged} writes acknowledged to {} clients, {} unknown, {} tries without success, {events} events checked",
            self.histories.len(),
            history::unknown_writes(&self.histories),
            self.failed_tries,
        ));
        ensure!(acknowledged > 0, "no write was acknowledged at all");
        let violations: Vec<String> = self
            .histories
            .iter()
            .flat_map(|history| history::check(history))
            .map(|violation| violation.to_string())
            .collect();
        ensure!(
            violations.is_empty(),
            "{} promises were broken:\n{}",
            violations.len(),
            violations.join("\n")
        );
        Ok(())
    }
}

/// One client.
struct Writer {
    api: Api,
    begun: Instant,
    name: String,
    generation: usize,
    session: Option<String>,
    keys: Vec<String>,
    history: History,
    told: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn work(mut self) -> Ended {
        'keys: loop {
            let key = format!("{}-{}", self.name, self.generation);
            self.generation += 1;
            self.keys.push(key.clone());
            for sequence in 1.. {
                if self.stop.load(Ordering::Relaxed) {
                    break 'keys;
                }
                if !self.write(&key, sequence).await {
                    // The unknown write may come later and hide those after it: they go elsewhere.
                    continue 'keys;
                }
                if sequence % REPLAY_EVERY == 0 {
                    self.replay(&key, sequence - 1).await;
                }
                if sequence % READ_EVERY == 0 {
                    self.read(&key).await;
                }
                sleep(PAUSE).await;
            }
        }
        Ended {
            history: self.history,
            keys: self.keys,
        }
    }

    /// Whether the outcome is known.
    async fn write(&mut self, key: &str, sequence: u64) -> bool {
        let outcome = match self.until_answered(&write_request(key, sequence)).await {
            Some(reply) if reply.status.is_success() => {
                self.learn(&reply);
                self.told.fetch_add(1, Ordering::Relaxed);
                Outcome::Acknowledged {
                    etag: reply.etag().unwrap_or_default().to_owned(),
                }
            }
            Some(reply) => Outcome::Refused {
                answer: reply.line(),
            },
            None => Outcome::Unknown,
        };
        let is_known = outcome != Outcome::Unknown;
        self.history.push(Event::Write {
            key: key.to_owned(),
            sequence,
            idempotency_key: idempotency_key(key, sequence),
            ended: self.begun.elapsed(),
            outcome,
        });
        is_known
    }

    /// Nothing is learnt from the answer: it may say where the tenant stood at the first time.
    async fn replay(&mut self, key: &str, sequence: u64) {
        let Some(reply) = self.until_answered(&write_request(key, sequence)).await else {
            return;
        };
        self.history.push(Event::Replay {
            idempotency_key: idempotency_key(key, sequence),
            etag: reply.etag().map_or_else(|| reply.line(), str::to_owned),
        });
    }

    async fn read(&mut self, key: &str) {
        let request =
            Request::get(format!("/entities/{key}")).with_session(self.session.as_deref());
        let pod = self.pod_of_chance();
        // A read that is not answered promises nothing.
        let Ok(reply) = self.api.send(&pod, &request).await else {
            return;
        };
        if reply.status.is_success() || reply.status.as_u16() == 404 {
            self.learn(&reply);
            self.history.push(Event::Read {
                key: key.to_owned(),
                seen: value(&reply),
                pod,
                is_final: false,
            });
        }
    }

    /// The answer that says what became of the request; none if nobody gave one in time.
    async fn until_answered(&mut self, request: &Request) -> Option<Reply> {
        let begun = Instant::now();
        let mut pod = self.pod_of_chance();
        while begun.elapsed() < GIVE_UP {
            let request = request.clone().with_session(self.session.as_deref());
            match self.api.send(&pod, &request).await {
                Ok(reply) if !reply.is_retryable() && !reply.status.is_server_error() => {
                    return Some(reply);
                }
                _ => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(RETRY_PAUSE).await;
            pod = self.pod_of_chance();
        }
        None
    }

    fn learn(&mut self, reply: &Reply) {
        if let Some(session) = reply.session() {
            self.session = Some(session.to_owned());
        }
    }

    fn pod_of_chance(&self) -> String {
        let mut pods = self.api.pods_to_send_to();
        if pods.is_empty() {
            return String::new();
        }
        pods.swap_remove(rand::rng().random_range(0..pods.len()))
    }
}

fn write_request(key: &str, sequence: u64) -> Request {
    let body = json!({"type": "counter", "properties": {"sequence": sequence}});
    Request::put(format!("/entities/{key}"), &body)
        .with_idempotency_key(&idempotency_key(key, sequence))
}

fn idempotency_key(key: &str, sequence: u64) -> String {
    format!("{key}-{sequence}")
}

fn value(reply: &Reply) -> Option<u64> {
    reply.body["properties"]["sequence"].as_u64()
}

/// Sends until there is an answer, to one pod or to any.
async fn answered(api: &Api, pod: Option<&str>, request: &Request) -> Result<Reply> {
    let begun = Instant::now();
    loop {
        let reply = match pod {
            Some(pod) => api.send(pod, request).await.map_err(anyhow::Error::new),
            None => api.send_to_any(request).await,
        };
        let failure = match reply {
            Ok(reply) if !reply.is_retryable() => return Ok(reply),
            Ok(reply) => reply.line(),
            Err(error) => format!("{error:#}"),
        };
        if begun.elapsed() >= FINAL_READ {
            bail!(
                "{} was not answered within {} s: {failure}",
                pod.unwrap_or("any pod"),
                FINAL_READ.as_secs()
            );
        }
        sleep(RETRY_PAUSE).await;
    }
}
