//! The unary calls of the gRPC API in protobuf over plain HTTP, `POST` below `/api/v1/rpc`: this way
//! they are admitted, bounded, and relayed to the leader as every other request is.
//!
//! ```text
//! gRPC call -> /rpc/write, /rpc/get -> (relay) -> message | problem
//! ```
//! The idempotency key stands in the header, where the relay looks for it and puts one of its own.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use percolate_api::grpc;
use percolate_api::proto::data::v1::{Consistency as Wanted, GetReply, GetRequest, WriteRequest};
use percolate_core::model::ItemKey;
use prost::Message;

use super::input::Conditions;
use super::problem::Failure;
use super::reading::{Freshness, seen};
use super::{App, reply, writing};
use crate::tenant::{Consistency, SessionToken};

/// Below the API's base.
pub(super) const WRITE: &str = "/rpc/write";
/// Below the API's base.
pub(super) const GET: &str = "/rpc/get";

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

pub(super) async fn write(
    State(app): State<App>,
    conditions: Conditions,
    body: Bytes,
) -> Result<Response, Failure> {
    let request: WriteRequest = decode(&body)?;
    if conditions.precondition.is_some() {
        let detail = "preconditions belong to the operations of a write, not into its headers";
        return Err(Failure::bad_request(detail));
    }
    if request.idempotency_key.is_some() {
        let detail =
            "the idempotency key of a write over HTTP stands in the header Idempotency-Key";
        return Err(Failure::bad_request(detail));
    }
    let operations = grpc::operations_of(request.operations, None);
    let (operations, _) = operations.map_err(|problem| Failure::from(*problem))?;
    let done = writing::commit(&app, operations, conditions.idempotency_key, false).await?;
    let message = grpc::done(request.id, &done.results, done.token.to_string());
    Ok(answer(&message, done.token))
}

pub(super) async fn get(State(app): State<App>, body: Bytes) -> Result<Response, Failure> {
    let request: GetRequest = decode(&body)?;
    let key = ItemKey::from_bytes(&request.key);
    let key = key.map_err(|error| Failure::bad_request(error.to_string()))?;
    let consistency = match Wanted::try_from(request.consistency) {
        Ok(Wanted::Session) => Consistency::Session,
        Ok(Wanted::Linearizable) => Consistency::Linearizable,
        Ok(Wanted::Local) => Consistency::Local,
        Err(error) => return Err(Failure::bad_request(format!("consistency: {error}"))),
    };
    let max_staleness = request.max_staleness_ms.map(Duration::from_millis);
    let reached = Freshness::of(consistency, &request.session, max_staleness)?
        .reach(&app)
        .await?;
    let item = app.handle.store.get(&key)?;
    let token = seen(&app, reached.token);
    let Some(item) = item.and_then(|item| grpc::item_of(&key, &item)) else {
        let failure = Failure::not_found(&key).into_response();
        return Ok(reply::with_session(failure, token));
    };
    let message = GetReply {
        item: Some(item),
        session: token.to_string(),
        staleness_ms: reached.staleness().map(reply::whole_millis),
    };
    Ok(answer(&message, token))
}

fn decode<T: Message + Default>(body: &[u8]) -> Result<T, Failure> {
    T::decode(body).map_err(|error| {
        Failure::bad_request(format!("the body is not the message of this call: {error}"))
    })
}

fn answer(message: &impl Message, token: SessionToken) -> Response {
    let mut response = message.encode_to_vec().into_response();
    response.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
    reply::with_session(response, token)
}
