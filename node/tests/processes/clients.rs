//! Clients of the API: what they send, what they may be told, and what they remember.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::replicas::{Replicas, TOKEN};
use crate::until;

/// Longer than the longest any request may take by the node's own limits.
const NO_ANSWER: Duration = Duration::from_secs(50);

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it says that the node has too much to do, and when to come back.
    pub(crate) fn is_refusal(&self) -> bool {
        let codes = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        codes.contains(&self.status) && self.headers.contains_key(RETRY_AFTER)
    }

    /// Epoch and index of the session it names.
    pub(crate) fn place(&self) -> (u64, u64) {
        let session = self.headers["percolate-session"].to_str().expect("text");
        let mut parts = session.split('.').skip(1);
        let mut number = || {
            parts
                .next()
                .expect("three parts")
                .parse()
                .expect("a number")
        };
        (number(), number())
    }
}

/// What clients were told of their writes: the content of each that was acknowledged.
#[derive(Default)]
pub(crate) struct Acknowledged {
    contents: BTreeMap<String, String>,
    /// By index, the epoch.
    places: BTreeMap<u64, u64>,
}

/// A connection pool of its own.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(replicas: &Replicas) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(replicas.tls.client(&["http/1.1"]))
            .timeout(NO_ANSWER)
            .no_proxy()
            .build();
        Self {
            http: http.expect("a client"),
        }
    }

    /// Ask a replica; an error is a connection that broke.
    pub(crate) fn ask(
        &self,
        replicas: &Replicas,
        ordinal: usize,
        request: Request,
    ) -> impl Future<Output = Result<Answer, reqwest::Error>> + Send + use<> {
        let url = format!("https://{}/api/v1{}", replicas.api(ordinal), request.path);
        let mut asked = self.http.request(request.method, url).bearer_auth(TOKEN);
        for (name, value) in request.headers {
            asked = asked.header(name, value);
        }
        let asked = asked.body(request.body).send();
        async move {
            let mut answer = asked.await?;
            Ok(Answer {
                status: answer.status(),
                headers: std::mem::take(answer.headers_mut()),
                body: answer.bytes().await?,
            })
        }
    }

    /// Write under a key until it is acknowledged, at one replica after the other.
    pub(crate) async fn write(
        &self,
        replicas: &Replicas,
        acknowledged: &mut Acknowledged,
        id: &str,
        content: &str,
    ) -> Answer {
        let mut turn = 0..;
        let answer = until(&format!("{id} is acknowledged"), || {
            let ordinal = turn.next().expect("endless") % replicas.shims.len();
            let request = Request::put(id, content).with("idempotency-key", &format!("key-{id}"));
            async move {
                let answer = self.ask(replicas, ordinal, request).await.ok()?;
                answer.status.is_success().then_some(answer)
            }
        })
        .await;
        acknowledged.add(id, content, &answer);
        answer
    }
}

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Request {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A resource that is new.
    pub(crate) fn put(id: &str, content: &str) -> Self {
        Self::put_body(id, json!({ "content": content }).to_string().into())
    }

    /// The same with a body made elsewhere.
    pub(crate) fn put_body(id: &str, body: Bytes) -> Self {
        Self {
            method: Method::PUT,
            body,
            ..Self::get(&format!("/resources/{id}"))
        }
    }

    pub(crate) fn put_entity(id: &str, body: &Value) -> Self {
        Self {
            path: format!("/entities/{id}"),
            ..Self::put_body("", body.to_string().into())
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Acknowledged {
    pub(crate) fn add(&mut self, id: &str, content: &str, answer: &Answer) {
        self.contents.insert(id.to_owned(), content.to_owned());
        let (epoch, index) = answer.place();
        let known = self.places.insert(index, epoch);
        assert!(
            known.is_none_or(|known| known == epoch),
            "epochs {known:?} and {epoch} both acknowledged index {index}"
        );
    }

    pub(crate) fn len(&self) -> usize {
        self.contents.len()
    }

    /// Every replica shows what was acknowledged, and no leader of old acknowledged after a newer one.
    pub(crate) async fn check(&self, replicas: &Replicas, client: &Client) {
        let epochs: Vec<u64> = self.places.values().copied().collect();
        assert!(
            epochs.is_sorted(),
            "an epoch acknowledged after a later one: {epochs:?}"
        );
        for ordinal in 0..replicas.shims.len() {
            let expected = Arc::new(self.contents.clone());
            until(&format!("replica {ordinal} shows all of it"), || {
                let expected = Arc::clone(&expected);
                async move {
                    let shown = all(replicas, client, ordinal).await?;
                    let missing = expected
                        .iter()
                        .find(|(id, content)| shown.get(*id) != Some(content));
                    missing.is_none().then_some(())
                }
            })
            .await;
        }
    }
}

/// Id and content of all resources that a replica shows.
async fn all(
    replicas: &Replicas,
    client: &Client,
    ordinal: usize,
) -> Option<BTreeMap<String, String>> {
    let (mut shown, mut after) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/resources?consistency=local&limit=1000{after}");
        let answer = client
            .ask(replicas, ordinal, Request::get(&path))
            .await
            .ok()?;
        if !answer.status.is_success() {
            return None;
        }
        let page = answer.json();
        for item in page["items"].as_array()? {
            let text = |name: &str| item[name].as_str().map(str::to_owned);
            shown.insert(text("id")?, text("content")?);
        }
        let Some(next) = page["next"].as_str() else {
            return Some(shown);
        };
        after = format!("&after={next}");
    }
}
