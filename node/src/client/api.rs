//! Requests to a node: the token, the session, and patience while leadership changes.
//!
//! ```text
//! Call -> send -> 2xx                        -> Answer
//!              -> 429, 503, no connection    -> wait (Retry-After), send again under the same key
//!              -> other                      -> ClientError
//!      -> open: the same, but the answer is a stream and only its head is waited for
//! ```

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percolate_api::http::{EventId, Problem};
use percolate_core::model::Json;
use reqwest::{ClientBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::ClientError;
use crate::cli::Connection;
use crate::server::headers::{IDEMPOTENCY_KEY, LAST_EVENT_ID, SESSION};
use crate::server::limits::WATCH_HEARTBEAT;
use crate::tenant::SessionToken;

/// How long a first connection is tried: a mistyped address should be told soon, a pod that
/// restarts should be met.
const FIRST_CONTACT: Duration = Duration::from_secs(3);

/// Longest wait for one answer: more than the node's own deadline, so that its answer is seen.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest silence of a stream: three of the node's signs of life.
const STREAM_SILENCE: Duration = WATCH_HEARTBEAT.saturating_mul(3);

/// Longest wait for one connection: several tries fit into the time to retry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before another try when the node does not say; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between tries, and longest `Retry-After` obeyed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A node, and where this run stands in its history.
#[derive(Debug)]
pub(super) struct Api {
    client: reqwest::Client,
    base_url: String,
    authorization: HeaderValue,
    retry_for: Duration,
    run: Mutex<Run>,
}

/// What has been learnt since the command began.
#[derive(Debug, Default)]
struct Run {
    session: Option<String>,
    was_reached: bool,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What a node answered with 2xx.
#[derive(Debug)]
pub(super) struct Answer {
    /// The entity tag of the item, as it stands in the header.
    pub(super) etag: Option<String>,
    body: Bytes,
}

impl Api {
    /// Ready to call the node that `connection` names.
    pub(super) fn new(connection: &Connection) -> Result<Self, ClientError> {
        Self::with(connection, |client| client.timeout(ANSWER_TIMEOUT))
    }

    /// Ready to open streams at the node that `connection` names.
    pub(super) fn for_streams(connection: &Connection) -> Result<Self, ClientError> {
        Self::with(connection, |client| client.read_timeout(STREAM_SILENCE))
    }

    fn with(
        connection: &Connection,
        patience: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, ClientError> {
        let base_url = base_url(connection)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token(connection)?))
            .map_err(|_| ClientError::usage("the token has characters that no header can carry"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: client(connection.ca.as_deref(), patience)?,
            base_url,
            authorization,
            retry_for: Duration::from_secs(connection.retry_for),
            run: Mutex::default(),
        })
    }

    /// Make `call`, again and again while that is safe, sensible and within the time for it.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, ClientError> {
        self.patiently(|| self.send(call)).await
    }

    /// Open the stream that `call` asks for, as patiently as [`Api::call`].
    pub(super) async fn open(&self, call: &Call) -> Result<Response, ClientError> {
        self.patiently(|| self.begin(call)).await
    }

    async fn patiently<T, F: Future<Output = Result<T, Failed>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, ClientError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let (error, wait) = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::ForNow { error, retry_after }) => {
                    (error, retry_after.unwrap_or(pause).min(LONGEST_PAUSE))
                }
            };
            if begun.elapsed() + wait > self.patience() {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Make `call` and decode the answer.
    pub(super) async fn answer<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ClientError> {
        let answer = self.call(call).await?;
        self.decode(&answer)
    }

    /// The body of `answer`.
    pub(super) fn decode<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        exactly(&answer.body).ok_or_else(|| self.strange())
    }

    /// What was answered is not what a node answers.
    pub(super) fn strange(&self) -> ClientError {
        ClientError::Strange {
            url: self.base_url.clone(),
            status: 200,
        }
    }

    /// Get and decode the document at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(&Call::new(Method::GET, path)).await
    }

    async fn send(&self, call: &Call) -> Result<Answer, Failed> {
        let response = self.begin(call).await?;
        let etag = response
            .headers()
            .get(ETAG)
            .and_then(|etag| etag.to_str().ok())
            .map(str::to_owned);
        let body = response.bytes().await;
        let body = body.map_err(|error| self.unreachable(&error))?;
        Ok(Answer { etag, body })
    }

    /// Send `call`; returns once the head of an answer with 2xx is here.
    async fn begin(&self, call: &Call) -> Result<Response, Failed> {
        let mut headers = call.headers.clone();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        if let Some(session) = self.session() {
            headers.insert(SESSION, session);
        }
        let url = format!("{}{}", self.base_url, call.path);
        let request = self
            .client
            .request(call.method.clone(), &url)
            .headers(headers)
            .body(call.body.clone());
        let response = request.send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        self.learn(response.headers());
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await;
        let body = body.map_err(|error| self.unreachable(&error))?;
        Err(self.refusal(status, &headers, &body))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failed {
        Failed::ForNow {
            error: ClientError::Unreachable {
                url: self.base_url.clone(),
                reason: innermost(error),
            },
            retry_after: None,
        }
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failed {
        let error = match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => ClientError::Refused {
                problem: Box::new(problem),
            },
            Err(_) => ClientError::Strange {
                url: self.base_url.clone(),
                status: status.as_u16(),
            },
        };
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::BAD_GATEWAY => Failed::ForNow {
                error,
                retry_after: retry_after(headers),
            },
            _ => Failed::ForGood(error),
        }
    }

    fn patience(&self) -> Duration {
        let was_reached = self
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .was_reached;
        if was_reached {
            self.retry_for
        } else {
            self.retry_for.min(FIRST_CONTACT)
        }
    }

    fn session(&self) -> Option<HeaderValue> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.session
            .as_deref()
            .and_then(|session| HeaderValue::from_str(session).ok())
    }

    fn learn(&self, headers: &HeaderMap) {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.was_reached = true;
        if let Some(told) = headers
            .get(SESSION)
            .and_then(|session| session.to_str().ok())
            && is_news(run.session.as_deref(), told)
        {
            run.session = Some(told.to_owned());
        }
    }
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        let mut headers = HeaderMap::new();
        if method != Method::GET
            // Hexadecimal digits are always a valid header value.
            && let Ok(key) = HeaderValue::from_str(&Uuid::new_v4().simple().to_string())
        {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        Self {
            method,
            path: path.into(),
            headers,
            body: Bytes::new(),
        }
    }

    /// Go on after the event with the id `after`; without one, from the beginning.
    pub(super) fn after_event(mut self, after: Option<&EventId>) -> Self {
        // An id is digits, dots and an @: always a valid header value.
        if let Some(value) = after.and_then(|after| HeaderValue::from_str(&after.to_string()).ok())
        {
            self.headers.insert(LAST_EVENT_ID, value);
        }
        self
    }

    /// Send `document` along.
    pub(super) fn with_json<T: Serialize>(mut self, document: &T) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(document)
            .map_err(|error| ClientError::usage(format!("cannot be written as JSON: {error}")))?;
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = body.into();
        Ok(self)
    }

    /// Only if the item still has the version that `etag` names.
    pub(super) fn if_match(mut self, etag: Option<&str>) -> Result<Self, ClientError> {
        if let Some(etag) = etag {
            let quoted = if etag == "*" || etag.starts_with('"') {
                etag.to_owned()
            } else {
                format!("\"{etag}\"")
            };
            let value = HeaderValue::from_str(&quoted)
                .map_err(|_| ClientError::usage("--if-match is no version"))?;
            self.headers.insert(IF_MATCH, value);
        }
        Ok(self)
    }
}

enum Failed {
    ForGood(ClientError),
    ForNow {
        error: ClientError,
        retry_after: Option<Duration>,
    },
}

/// Numbers are read exactly, so that what is exported is what is stored. A page nests a little
/// deeper than its items, which may be as deep as is read exactly: those are read all the same.
pub(super) fn exactly<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let json = std::str::from_utf8(body)
        .ok()
        .and_then(|text| Json::parse(text).ok());
    match json {
        Some(json) => serde_json::from_value(json.into()).ok(),
        None => serde_json::from_slice(body).ok(),
    }
}

/// Answers of parallel requests arrive in any order: a session never goes back.
fn is_news(known: Option<&str>, told: &str) -> bool {
    let parse = |text: &str| text.parse::<SessionToken>().ok();
    match (known.and_then(parse), parse(told)) {
        (Some(known), Some(told)) => {
            known.incarnation != told.incarnation || known.index <= told.index
        }
        _ => true,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn base_url(connection: &Connection) -> Result<String, ClientError> {
    let url = connection.url.as_deref().ok_or_else(|| {
        ClientError::usage("which node? Give --url or set PERCOLATE_URL, for example https://acme-rw.tenants.svc:8000")
    })?;
    let parsed = reqwest::Url::parse(url)
        .map_err(|error| ClientError::usage(format!("{url:?} is no URL: {error}")))?;
    if !matches!(parsed.scheme(), "https" | "http") {
        return Err(ClientError::usage(format!(
            "{url:?} must begin with https://"
        )));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn token(connection: &Connection) -> Result<String, ClientError> {
    if let Some(token) = &connection.token {
        return Ok(token.trim().to_owned());
    }
    let file = connection.token_file.as_ref().ok_or_else(|| {
        ClientError::usage("which token? Give --token-file or --token, or set PERCOLATE_TOKEN")
    })?;
    let token = std::fs::read_to_string(file).map_err(ClientError::file("read", file))?;
    Ok(token.trim().to_owned())
}

fn client(
    ca: Option<&Path>,
    patience: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<reqwest::Client, ClientError> {
    let builder = patience(reqwest::Client::builder())
        .connect_timeout(CONNECT_TIMEOUT)
        // A token must not follow a redirect to somebody else.
        .redirect(reqwest::redirect::Policy::none());
    let builder = match ca {
        Some(file) => builder.tls_certs_only(certificates(file)?),
        None => builder,
    };
    builder
        .build()
        .map_err(|error| ClientError::usage(format!("TLS cannot be set up: {}", innermost(&error))))
}

fn certificates(file: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let pem = std::fs::read(file).map_err(ClientError::file("read", file))?;
    let unusable = || ClientError::usage(format!("{} holds no PEM certificate", file.display()));
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| unusable())?;
    if certificates.is_empty() {
        Err(unusable())
    } else {
        Ok(certificates)
    }
}

/// The cause that says what is wrong: "connection refused", not "error sending request".
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_never_goes_back() {
        let token = |incarnation: u8, index: u64| format!("{incarnation:032x}.1.{index}");
        let cases = [
            (None, token(1, 5), true),
            (Some(token(1, 5)), token(1, 6), true),
            (Some(token(1, 5)), token(1, 4), false),
            (Some(token(1, 5)), token(2, 1), true),
        ];
        for (known, told, news) in cases {
            assert_eq!(is_news(known.as_deref(), &told), news, "{known:?} {told}");
        }
    }
}
