//! The way from a follower to the leader's API.
//!
//! ```text
//! relay: Request<Bytes> + leader's base URL -> Forward::forward -> Response<Bytes> | ForwardError
//! ```
//! One hop, whole bodies, no retries: when to try again is [`super::relay`]'s decision, for which
//! it must know whether anything was sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;

/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    HeaderName::from_static("keep-alive"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Why no answer came from the leader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// No connection was made: the leader has seen nothing of the request.
    #[error("the leader could not be reached: {reason}")]
    NotSent {
        /// What the transport said.
        reason: String,
    },
    /// The connection broke after it was made: the request may have taken effect.
    #[error("the connection to the leader broke: {reason}")]
    Broken {
        /// What the transport said.
        reason: String,
    },
}

/// Sends a request to another replica's API.
pub trait Forward: Send + Sync + 'static {
    /// Send `request`, whose URI is the path and query, to the API at `base_url`.
    fn forward(
        &self,
        base_url: &str,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Bytes>, ForwardError>>;
}

/// Longest wait for a connection to the leader: short against the deadline of a request, so that a
/// leader that vanished is asked for anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests at the leader at a time, each with a connection to itself; further ones wait until their
/// deadline. A quarter of the connections that the leader takes: its own clients come before those of
/// a follower that has too many.
const FORWARDED: usize = 128;

/// Idle connections kept to the leader: what a busy follower uses at a time.
const IDLE_CONNECTIONS: usize = 32;

/// Forwards over HTTPS.
#[derive(Debug, Clone)]
pub struct HttpForwarder {
    client: reqwest::Client,
    places: Arc<Semaphore>,
}

impl HttpForwarder {
    /// Connects as `tls` says: it must trust the tenant's authority, and may follow its rotation.
    pub fn new(mut tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        // The one protocol this client speaks: the other end must not choose another.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // The client's token goes to the leader and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            places: Arc::new(Semaphore::new(FORWARDED)),
        })
    }
}

impl Forward for HttpForwarder {
    fn forward(
        &self,
        base_url: &str,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Bytes>, ForwardError>> {
        let url = address(base_url, request.uri());
        let (client, places) = (self.client.clone(), Arc::clone(&self.places));
        Box::pin(async move {
            // Kept until the answer is here. It is never closed.
            let _place = places.acquire().await;
            let (mut parts, body) = request.into_parts();
            strip_hop_by_hop(&mut parts.headers);
            let sent = client
                .request(parts.method, url)
                .headers(parts.headers)
                .body(body)
                .send();
            receive(sent.await.map_err(|error| classify(&error))?).await
        })
    }
}

async fn receive(mut response: reqwest::Response) -> Result<Response<Bytes>, ForwardError> {
    let status = response.status();
    let mut headers = std::mem::take(response.headers_mut());
    let body = response
        .bytes()
        .await
        .map_err(|error| ForwardError::Broken {
            reason: error.to_string(),
        })?;
    strip_hop_by_hop(&mut headers);
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// `reqwest` reads URLs as browsers do, for which `\` is another `/`: escape it, so that the leader
/// sees the path this node saw.
fn address(base_url: &str, uri: &http::Uri) -> String {
    let path = uri.path().replace('\\', "%5C");
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{}{path}{query}", base_url.trim_end_matches('/'))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn classify(error: &reqwest::Error) -> ForwardError {
    // A URL that cannot be built was not sent either.
    let reason = with_causes(error);
    if error.is_connect() || error.is_builder() {
        ForwardError::NotSent { reason }
    } else {
        ForwardError::Broken { reason }
    }
}

/// `reqwest` says only "error sending request"; what is wrong stands in its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_sees_the_path_this_node_saw() {
        let cases = [
            (
                "https://a:8000",
                "/api/v1/resources/a%2Fb?consistency=local",
                "https://a:8000/api/v1/resources/a%2Fb?consistency=local",
            ),
            (
                "https://a:8000/",
                "/api/v1/status",
                "https://a:8000/api/v1/status",
            ),
            (
                "https://a:8000",
                "/api/v1/resources/a\\b",
                "https://a:8000/api/v1/resources/a%5Cb",
            ),
        ];
        for (base, uri, expected) in cases {
            let url = address(base, &uri.parse().unwrap());
            assert_eq!(url, expected);
            assert_eq!(
                reqwest::Url::parse(&url).unwrap().as_str(),
                expected,
                "and the URL parser leaves it alone"
            );
        }
    }
}
