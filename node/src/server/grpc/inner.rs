//! Calls of this process to its own HTTP API: a gRPC call goes the way of every other request, with
//! its places, its limits, and its relay to the leader.

use axum::Router;
use axum::body::Body;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use percolate_api::grpc;
use percolate_api::http::{API_BASE, Code, Problem};
use percolate_api::proto::data::v1::{WriteReply, WriteRequest};
use prost::Message;
use tower::ServiceExt;

use crate::server::headers::IDEMPOTENCY_KEY;
use crate::server::rpc;

/// Why a call was not done, as over HTTP.
pub(super) type Refused = Box<Problem>;

/// The HTTP API. Cheap to clone.
#[derive(Clone)]
pub(super) struct Inner {
    http: Router,
}

impl Inner {
    pub(super) fn new(http: Router) -> Self {
        Self { http }
    }

    /// Write here or at the leader.
    pub(super) async fn write(
        &self,
        authorization: Option<HeaderValue>,
        mut request: WriteRequest,
    ) -> Result<WriteReply, Refused> {
        let key = request.idempotency_key.take();
        self.call(rpc::WRITE, authorization, key, &request).await
    }

    /// Make the call at `path` with `message`.
    pub(super) async fn call<T: Message + Default>(
        &self,
        path: &str,
        authorization: Option<HeaderValue>,
        key: Option<String>,
        message: &impl Message,
    ) -> Result<T, Refused> {
        let mut request = Request::new(Body::from(message.encode_to_vec()));
        *request.method_mut() = Method::POST;
        // A base and a path of this program always make a URI.
        *request.uri_mut() = format!("{API_BASE}{path}").parse().unwrap_or_default();
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        if let Some(key) = key {
            let key = HeaderValue::from_str(&key).map_err(|_| {
                let detail = "an idempotency key is 1 to 255 bytes of visible ASCII";
                Box::new(Problem::new(Code::BadRequest, detail))
            })?;
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        let response = match self.http.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let is_done = response.status().is_success();
        // Made of bytes in memory: collecting them does not fail.
        let body = response.into_body().collect().await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        if !is_done {
            return Err(Box::new(grpc::problem_of(&body)));
        }
        T::decode(body).map_err(|_| Box::new(grpc::problem_of(&[])))
    }
}
