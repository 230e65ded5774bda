//! The HTTPS API of a node: the contract's base path `/api/v1`, in JSON.
//!
//! ```text
//! request -> admit (token, places) -> receive (body, zstd) -> relay -> a kind's handler -> Handle, Store
//!                                                                  \-> the leader's API
//!         <- finish (session, role, zstd) <------------------------------------------------/
//! ```
//! The same in gRPC, at the same port and behind the same token, is [`grpc`]'s.
//!
//! A watch goes on after its head was answered: its events are a stream of their own ([`watch`]).
//!
//! Handlers live in one file per kind of thing and know nothing of tokens, encodings or other
//! replicas. The operator's certificates and the accept loop are [`crate::tls`]'s.
//!
//! Bodies are read strictly: an unknown field, a key given twice or excessive nesting is refused by
//! name (see [`json`]), so nothing is accepted and ignored.

mod access;
mod answering;
mod batch;
mod body;
mod edges;
mod encoding;
mod entities;
#[cfg(test)]
pub(crate) mod fixture;
mod forward;
mod grpc;
pub mod headers;
mod input;
mod json;
pub mod limits;
mod listing;
mod moments;
mod problem;
mod reading;
mod relay;
mod reply;
mod resources;
mod rpc;
mod status;
mod watch;
mod writing;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::{HeaderMap, StatusCode};
use percolate_api::http::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub use self::access::TokenSource;
pub use self::forward::{Forward, ForwardError, HttpForwarder};
pub use self::limits::Limits;
use self::problem::Failure;
use self::relay::{Exchange, Relay};
pub use self::watch::Watches;
use crate::tenant::Handle;

/// What the API serves, and with what.
#[derive(Clone)]
pub struct App {
    /// The replicated tenant.
    pub handle: Handle,
    /// The tenant's name, as `GET /status` shows it.
    pub tenant_id: String,
    /// This node's name: its pod's.
    pub node: String,
    /// Who may use it.
    pub tokens: TokenSource,
    /// The way to the leader's API.
    pub forwarder: Arc<dyn Forward>,
    /// How much is taken on at a time.
    pub limits: Limits,
    /// The watches that are open.
    pub watches: Watches,
}

/// An [`App`] at work: with the places and the memory that its requests share.
struct Serving {
    app: App,
    places: Arc<Semaphore>,
    body_memory: Arc<Semaphore>,
    answers: answering::Memory,
}

/// The API of `app`.
pub fn router(app: App) -> Router {
    let serving = Arc::new(Serving {
        places: Arc::new(Semaphore::new(app.limits.concurrent_requests)),
        body_memory: Arc::new(Semaphore::new(app.limits.held_body_bytes)),
        answers: answering::Memory::new(app.limits.held_answer_bytes),
        app: app.clone(),
    });
    let api = Router::new()
        .route("/resources", get(resources::list))
        .route(
            "/resources/{id}",
            put(resources::put)
                .get(resources::get)
                .delete(resources::delete),
        )
        .route("/entities", get(entities::list))
        .route(
            "/entities/{id}",
            put(entities::put)
                .patch(entities::patch)
                .get(entities::get)
                .delete(entities::delete),
        )
        .route("/edges", get(edges::list))
        .route(
            "/edges/{src}/{type}/{dst}",
            put(edges::put).get(edges::get).delete(edges::delete),
        )
        .route("/moments", get(moments::list))
        .route(
            "/moments/{id}",
            put(moments::put).get(moments::get).delete(moments::delete),
        )
        .route("/batch", post(batch::post))
        .route(rpc::WRITE, post(rpc::write))
        .route(rpc::GET, post(rpc::get))
        .route("/status", get(status::get))
        .route("/watch", get(watch::get));
    let http = Router::new()
        .nest("/api/v1", api)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        // Bodies are limited while they are received, by the limit of this node.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&serving), serve))
        .with_state(app);
    let grpc = grpc::routes(&serving, &http);
    http.merge(grpc)
}

async fn serve(State(serving): State<Arc<Serving>>, request: Request, next: Next) -> Response {
    let (asked, method) = (request.headers().clone(), request.method().clone());
    let response = match serving.admit(&asked) {
        // The place is kept until the answer stands.
        Ok(_place) => serving.answer(request, next).await,
        Err(failure) => serving.refuse(request, failure).await,
    };
    let response = reply::finish(response, &asked, &serving.app.handle.status()).await;
    serving.answers.hold(&method, response)
}

impl Serving {
    fn admit(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Failure> {
        if !self.app.tokens.admits(headers) {
            return Err(Failure::unauthorized());
        }
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.app.limits.concurrent_requests;
            Failure::new(
                Code::Overloaded,
                format!("{limit} requests are being served already; try again later"),
            )
        })
    }

    /// Refuse a request unread. Strangers are not listened to any longer.
    async fn refuse(&self, request: Request, failure: Failure) -> Response {
        let limits = &self.app.limits;
        let response = failure.into_response();
        if response.status() != StatusCode::UNAUTHORIZED {
            body::discard(request.into_body(), limits.body_bytes, limits.body_timeout).await;
        }
        response
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        let limits = &self.app.limits;
        let (parts, body) = request.into_parts();
        let held = match body::collect(
            body,
            limits.body_bytes,
            limits.body_timeout,
            &self.body_memory,
        )
        .await
        {
            Ok(held) => held,
            Err(error) => return Failure::from(error).into_response(),
        };
        let sent = held.bytes.clone();
        let memory = &self.body_memory;
        let decoded = encoding::decode(&parts.headers, sent.clone(), limits.body_bytes, memory);
        // Its share of the memory is kept, like that of the body as sent, until the answer stands.
        let (plain, _share) = match decoded.await {
            Ok(plain) => plain.into_parts(),
            Err(error) => return Failure::from(error).into_response(),
        };
        let relay = Relay {
            handle: &self.app.handle,
            forwarder: self.app.forwarder.as_ref(),
            deadline: Instant::now() + limits.deadline,
            pause: limits.retry_pause,
        };
        relay.serve(Exchange { parts, sent, plain }, next).await
    }
}

async fn no_such_path() -> Failure {
    Failure::new(
        Code::NotFound,
        "there is nothing at this path; the API is below /api/v1, and / in an id is written %2F",
    )
}

async fn no_such_method() -> Failure {
    Failure::method_not_allowed()
}

#[cfg(test)]
mod tests;
