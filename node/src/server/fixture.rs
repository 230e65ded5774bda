//! A tenant of one replica for tests: the real API over a real store, with a driver of a few lines
//! that commits every write at once, or fails as told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use percolate_api::codec::encode_transaction;
use percolate_core::clock::Hlc;
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::log::{Entry, Head};
use percolate_core::operation::{Outcome, Transaction};
use percolate_core::register::ReplicaState;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{App, Forward, ForwardError, Limits, TokenSource, Watches, router};
use crate::metrics::Metrics;
use crate::store::{LogChange, Store};
use crate::tenant::{Command, Handle, Role, SessionToken, Status, Unavailable, Written};

pub(crate) const TOKEN: &str = "secret";
pub(crate) const HISTORY: Incarnation = Incarnation(7);

/// What the driver does with a command.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Commit it.
    Lead,
    /// Refuse it.
    Refuse(Unavailable),
    /// Commit it and lose the answer.
    Forget,
    /// Never answer.
    Hang,
}

/// One replica at work.
pub(crate) struct Replica {
    pub(crate) router: Router,
    pub(crate) handle: Handle,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) metrics: Arc<Metrics>,
    /// Says that the node stops.
    pub(crate) stopping: CancellationToken,
    behaviour: Arc<Mutex<Behaviour>>,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The APIs of other replicas by their URL, within this process.
#[derive(Clone, Default)]
pub(crate) struct Network {
    routers: Arc<Mutex<HashMap<String, Router>>>,
    /// How many answers are still lost on their way back.
    pub(crate) lost_answers: Arc<Mutex<usize>>,
    /// Every request that went over this network.
    pub(crate) seen: Arc<Mutex<Vec<HeaderMap>>>,
}

pub(crate) fn quick_limits() -> Limits {
    Limits {
        deadline: Duration::from_millis(400),
        retry_pause: Duration::from_millis(5),
        watch_unserved: Duration::from_millis(50),
        ..Limits::default()
    }
}

impl Replica {
    /// A leader of its own tenant.
    pub(crate) fn leader() -> Self {
        Self::new(Behaviour::Lead, Network::default(), quick_limits())
    }

    pub(crate) fn new(behaviour: Behaviour, forwarder: impl Forward, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path(), ReplicaId(1)).unwrap());
        let (commands, received) = mpsc::channel(64);
        let (status, watched) = watch::channel(status());
        let handle = Handle::new(Arc::clone(&store), commands.clone(), commands, watched);
        let behaviour = Arc::new(Mutex::new(behaviour));
        tokio::spawn(drive(
            store,
            received,
            status.clone(),
            Arc::clone(&behaviour),
        ));
        let (metrics, stopping) = (Arc::new(Metrics::new()), CancellationToken::new());
        let app = App {
            handle: handle.clone(),
            tenant_id: "acme".to_owned(),
            node: "acme-0".to_owned(),
            tokens: TokenSource::fixed(TOKEN),
            forwarder: Arc::new(forwarder),
            limits,
            watches: Watches::new(limits.watches, Arc::clone(&metrics), stopping.clone()),
        };
        Self {
            router: router(app),
            handle,
            status,
            metrics,
            stopping,
            behaviour,
            _folder: folder,
        }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Say that the replica at `url` leads.
    pub(crate) fn follow(&self, url: &str) {
        self.behave(Behaviour::Refuse(Unavailable::NotLeader {
            leader_url: Some(url.to_owned()),
        }));
        self.status.send_modify(|status| {
            status.role = Role::Follower;
            status.leader_url = Some(url.to_owned());
        });
    }

    /// Lead from now on.
    pub(crate) fn lead(&self) {
        self.behave(Behaviour::Lead);
        self.status.send_modify(|status| {
            status.role = Role::Leader;
            status.leader_url = None;
        });
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.call("PUT", path, body).await
    }
}

/// A request with the token.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    let builder = Request::builder()
        .method(method.parse::<Method>().unwrap())
        .uri(format!("/api/v1{path}"));
    builder
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
        .body(Body::from(body.to_owned()))
        .unwrap()
}

/// The same request with one more header.
pub(crate) fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn detail(&self) -> String {
        self.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    pub(crate) fn session(&self) -> SessionToken {
        self.header("percolate-session").parse().unwrap()
    }
}

impl Network {
    pub(crate) fn join(&self, url: &str, replica: &Replica) {
        self.routers
            .lock()
            .unwrap()
            .insert(url.to_owned(), replica.router.clone());
    }
}

impl Forward for Network {
    fn forward(
        &self,
        base_url: &str,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Bytes>, ForwardError>> {
        let router = self.routers.lock().unwrap().get(base_url).cloned();
        self.seen.lock().unwrap().push(request.headers().clone());
        let lost_answers = Arc::clone(&self.lost_answers);
        Box::pin(async move {
            let router = router.ok_or(ForwardError::NotSent {
                reason: "nobody listens".to_owned(),
            })?;
            let answer = read(router.oneshot(request.map(Body::from)).await.unwrap()).await;
            let mut lost_answers = lost_answers.lock().unwrap();
            if *lost_answers > 0 {
                *lost_answers -= 1;
                return Err(ForwardError::Broken {
                    reason: "the answer was lost".to_owned(),
                });
            }
            let mut response = Response::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

fn status() -> Status {
    Status {
        replica_id: ReplicaId(1),
        incarnation: Some(HISTORY),
        loss: 0,
        role: Role::Leader,
        epoch: 1,
        leader: Some(ReplicaId(1)),
        leader_pod: None,
        leader_url: None,
        in_sync: vec![ReplicaId(1)],
        last: 0,
        committed: 0,
        applied: 0,
        lag: 0,
        serving: true,
        state: ReplicaState::InSync,
        copying: None,
        members: Vec::new(),
        as_of: None,
        cut_off: false,
    }
}

async fn drive(
    store: Arc<Store>,
    mut commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    behaviour: Arc<Mutex<Behaviour>>,
) {
    let mut last = Head::default();
    let mut hung = Vec::new();
    store
        .persist(&LogChange {
            incarnation: Some(HISTORY),
            ..LogChange::default()
        })
        .unwrap();
    while let Some(command) = commands.recv().await {
        let behaviour = behaviour.lock().unwrap().clone();
        match (command, behaviour) {
            (Command::Write { reply, .. }, Behaviour::Refuse(unavailable)) => {
                reply.send(Err(unavailable));
            }
            (Command::Confirm { reply }, Behaviour::Refuse(unavailable)) => {
                drop(reply.send(Err(unavailable)));
            }
            (Command::Confirm { reply }, _) => drop(reply.send(Ok(last.index))),
            (Command::HandOver { reply }, _) => drop(reply.send(false)),
            (command @ Command::Write { .. }, Behaviour::Hang) => hung.push(command),
            (
                Command::Write {
                    operations,
                    idempotency_key,
                    reply,
                },
                behaviour,
            ) => {
                let hlc = Hlc::from_wall_ms(1_700_000_000_000 + last.index);
                let transaction = Transaction::new(hlc, idempotency_key, operations).unwrap();
                let entry = Arc::new(Entry::after(last, 1, encode_transaction(&transaction)));
                last = entry.head;
                let outcome = commit(&store, entry);
                status.send_modify(|status| {
                    (status.applied, status.committed) = (last.index, last.index);
                });
                let token = SessionToken {
                    incarnation: HISTORY,
                    epoch: 1,
                    index: last.index,
                };
                let answer = match behaviour {
                    Behaviour::Forget => Err(Unavailable::UnknownOutcome),
                    _ => Ok(Written { outcome, token }),
                };
                reply.send(answer);
            }
        }
    }
}

fn commit(store: &Store, entry: Arc<Entry>) -> Outcome {
    store
        .persist(&LogChange {
            append: vec![Arc::clone(&entry)],
            ..LogChange::default()
        })
        .unwrap();
    store.apply(&[entry]).unwrap().remove(0)
}
