//! A client of a tenant's HTTPS API, from this machine to each pod or to any that answers.
//!
//! ```text
//! Secret <tenant>-admin ─► token, CA ─┐
//! pods ─► name → address (kept fresh) ┴─► Api ─► Request ─► Reply
//! ```
//!
//! Written against the published contract, not with the product's own types, so that a change of the
//! contract shows. Pods are called by their names in the certificates; nothing here resolves names
//! through DNS, and addresses stay known while the API server is away.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use percolate_crds::names;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::tenant::{Tenant, is_ready};

/// How old an address may be: a pod made anew has another one.
const REFRESH: Duration = Duration::from_millis(500);
/// A pod that is cut off swallows what is sent to it; there are others to ask.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the node's own deadline, so that its answer is seen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// A tenant's API.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    token: String,
    reach: Reach,
}

#[derive(Clone)]
enum Reach {
    /// By the pods' own addresses, which this machine has routes to.
    Pods {
        addresses: Addresses,
        domain: String,
        _refresher: Arc<Refresher>,
    },
    /// Through a forwarded port of this machine.
    Url(String),
}

/// One request; nothing is retried here.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

/// What a pod answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// The JSON body; null if there is none.
    pub body: Value,
    headers: BTreeMap<String, String>,
}

/// Token and certificate authority of a tenant.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Bearer token.
    pub token: String,
    /// PEM.
    pub authority: Vec<u8>,
}

impl Credentials {
    /// From the Secret that the operator makes.
    pub async fn of(tenant: &Tenant) -> Result<Self> {
        let secrets =
            kube::Api::<Secret>::namespaced(tenant.installation.client.clone(), &tenant.namespace);
        let name = names::admin_secret(&tenant.name);
        let mut data = secrets
            .get(&name)
            .await
            .with_context(|| format!("no Secret {name}"))?
            .data
            .unwrap_or_default();
        let mut field = |key: &str| {
            data.remove(key)
                .map(|bytes| bytes.0)
                .with_context(|| format!("Secret {name} has no {key}"))
        };
        Ok(Self {
            token: String::from_utf8(field("token")?)?.trim().to_owned(),
            authority: field("ca.crt")?,
        })
    }
}

impl Api {
    /// The API of every pod of the tenant.
    pub async fn of(tenant: &Tenant) -> Result<Self> {
        let credentials = Credentials::of(tenant).await?;
        let addresses = Addresses::default();
        addresses.refresh(tenant).await?;
        let refresher = Refresher::start(addresses.clone(), tenant.clone());
        let client = builder(&credentials)?
            .dns_resolver(Arc::new(addresses.clone()))
            .build()?;
        Ok(Self {
            client,
            token: credentials.token,
            reach: Reach::Pods {
                addresses,
                domain: names::peer_domain(&tenant.name, &tenant.namespace),
                _refresher: Arc::new(refresher),
            },
        })
    }

    /// The API behind one address, such as `https://127.0.0.1:12345`.
    pub fn at(url: &str, credentials: &Credentials) -> Result<Self> {
        Ok(Self {
            client: builder(credentials)?.build()?,
            token: credentials.token.clone(),
            reach: Reach::Url(url.to_owned()),
        })
    }

    /// The same API with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// The names of the pods that have an address.
    pub fn pods(&self) -> Vec<String> {
        match &self.reach {
            Reach::Pods { addresses, .. } => addresses.names(),
            Reach::Url(_) => vec![String::new()],
        }
    }

    /// The pods to send to: those that are ready, as behind a Service, or any if none is.
    pub fn pods_to_send_to(&self) -> Vec<String> {
        match &self.reach {
            Reach::Pods { addresses, .. } if !addresses.ready().is_empty() => addresses.ready(),
            Reach::Pods { .. } | Reach::Url(_) => self.pods(),
        }
    }

    /// Sends `request` to one pod, once.
    ///
    /// # Errors
    /// When the connection failed, was closed, or no answer came in time.
    pub async fn send(&self, pod: &str, request: &Request) -> Result<Reply, reqwest::Error> {
        let base = match &self.reach {
            Reach::Pods { domain, .. } => format!("https://{pod}.{domain}:{}", names::API_PORT),
            Reach::Url(url) => url.clone(),
        };
        let url = format!("{base}/api/v1{}", request.path);
        let mut building = self
            .client
            .request(request.method.clone(), url)
            .bearer_auth(&self.token);
        for (name, value) in &request.headers {
            building = building.header(*name, value);
        }
        if let Some(body) = &request.body {
            building = building
                .header("content-type", "application/json")
                .body(body.clone());
        }
        let response = building.send().await?;
        let status = response.status();
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let bytes = response.bytes().await?;
        Ok(Reply {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            headers,
        })
    }

    /// Sends `request` to one pod after the other until one answers.
    ///
    /// # Errors
    /// Those of the last pod.
    pub async fn send_to_any(&self, request: &Request) -> Result<Reply> {
        let mut failure = anyhow::anyhow!("no pod has an address");
        for pod in self.pods() {
            match self.send(&pod, request).await {
                Ok(reply) => return Ok(reply),
                Err(error) => failure = anyhow::Error::new(error).context(pod),
            }
        }
        Err(failure)
    }
}

impl Request {
    /// `GET` of a path below `/api/v1`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `DELETE`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// `PUT` of a JSON document.
    pub fn put(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::PUT, path).with_body(body.to_string())
    }

    /// `PATCH` with a JSON document.
    pub fn patch(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::PATCH, path).with_body(body.to_string())
    }

    /// `POST` of a JSON document.
    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path).with_body(body.to_string())
    }

    /// Any body, also one that is no JSON.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The key under which the same write takes effect once.
    #[must_use]
    pub fn with_idempotency_key(self, key: &str) -> Self {
        self.with_header("idempotency-key", key)
    }

    /// What the client has seen so far.
    #[must_use]
    pub fn with_session(self, session: Option<&str>) -> Self {
        match session {
            Some(session) => self.with_header("percolate-session", session),
            None => self,
        }
    }

    /// Any header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }
}

impl Reply {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The token to send with the next request.
    pub fn session(&self) -> Option<&str> {
        self.header("percolate-session")
    }

    /// The version of the item.
    pub fn etag(&self) -> Option<&str> {
        self.header("etag")
    }

    /// The stable code of an error.
    pub fn code(&self) -> Option<&str> {
        self.body["code"].as_str()
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        )
    }

    /// Status and body in a line.
    pub fn line(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.body)
    }
}

fn builder(credentials: &Credentials) -> Result<reqwest::ClientBuilder> {
    let authority = reqwest::Certificate::from_pem_bundle(&credentials.authority)?;
    Ok(reqwest::Client::builder()
        .tls_certs_only(authority)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        // A connection each: one that hangs takes no other request with it.
        .http1_only())
}

/// Addresses of pods by the name in their certificates.
#[derive(Debug, Clone, Default)]
struct Addresses(Arc<Mutex<BTreeMap<String, Place>>>);

/// Where a pod is.
#[derive(Debug, Clone, Copy)]
struct Place {
    address: IpAddr,
    ready: bool,
}

impl Addresses {
    async fn refresh(&self, tenant: &Tenant) -> Result<()> {
        let selector = ListParams::default().labels(&names::selector_string(&tenant.name));
        let pods = tenant.pods().list(&selector).await?;
        // Like a Service, which sends nobody to a pod that is about to stop.
        let stay = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        let found = pods.items.into_iter().filter(stay).filter_map(|pod| {
            let ready = is_ready(&pod);
            let address = pod.status?.pod_ip?.parse().ok()?;
            Some((pod.metadata.name?, Place { address, ready }))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found.collect();
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.keys().cloned().collect()
    }

    fn ready(&self) -> Vec<String> {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = addresses.iter().filter(|(_, place)| place.ready);
        ready.map(|(pod, _)| pod.clone()).collect()
    }

    fn of_host(&self, host: &str) -> Option<IpAddr> {
        let pod = host.split('.').next()?;
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(pod).map(|place| place.address)
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let address = self.of_host(name.as_str());
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let address = address.ok_or_else(|| format!("{host} has no address"))?;
            Ok(Box::new(std::iter::once(SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

struct Refresher(JoinHandle<()>);

impl Refresher {
    fn start(addresses: Addresses, tenant: Tenant) -> Self {
        Self(tokio::spawn(async move {
            loop {
                sleep(REFRESH).await;
                // While the API server is away, pods stay where they are.
                let _ = addresses.refresh(&tenant).await;
            }
        }))
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_by_the_first_label_of_its_name() {
        let addresses = Addresses::default();
        let address: IpAddr = "10.244.1.2".parse().unwrap();
        let place = Place {
            address,
            ready: true,
        };
        addresses.0.lock().unwrap().insert("acme-0".into(), place);
        let cases = [
            ("acme-0.acme.tenants.svc", Some(address)),
            ("acme-1.acme.tenants.svc", None),
            ("acme", None),
        ];
        for (host, expected) in cases {
            assert_eq!(addresses.of_host(host), expected, "{host}");
        }
    }

    #[test]
    fn only_answers_that_may_change_are_retried() {
        for (status, retryable) in [
            (200, false),
            (400, false),
            (429, true),
            (500, false),
            (503, true),
        ] {
            let reply = Reply {
                status: StatusCode::from_u16(status).unwrap(),
                body: Value::Null,
                headers: BTreeMap::new(),
            };
            assert_eq!(reply.is_retryable(), retryable, "{status}");
        }
    }
}
