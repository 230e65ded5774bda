//! The gRPC API `percolate.data.v1`, on the port of the HTTPS API and behind the same token.
//!
//! ```text
//! call -> admit (token, media type) -> Metered (memory for messages) -> tonic
//!      -> Write, Get: the same request over HTTP within this process ([`super::rpc`]), relay included
//!      -> WriteStream: [`writing`], at the leader straight to the Handle
//!      -> Watch: [`watching`]
//! ```
//! Messages are not compressed, neither way: a decoder of a few bytes may demand a window of a
//! hundred megabytes, and tonic sets no bound to it.

mod inner;
mod metered;
mod refusal;
mod watching;
mod writing;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use percolate_api::http::{Code, RoleWord};
use percolate_api::proto::data::v1::data_server::{Data, DataServer};
use percolate_api::proto::data::v1::{
    GetReply, GetRequest, StatusReply, StatusRequest, WatchEvent, WatchRequest, WriteReply,
    WriteRequest,
};
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

use self::inner::Inner;
use self::metered::{Metered, Shares};
use super::problem::Failure;
use super::{App, Serving, rpc, status};

/// The calls, each a route of its own: what is counted by route is counted by call.
const CALLS: [&str; 5] = [
    "/percolate.data.v1.Data/Write",
    "/percolate.data.v1.Data/WriteStream",
    "/percolate.data.v1.Data/Get",
    "/percolate.data.v1.Data/Status",
    "/percolate.data.v1.Data/Watch",
];

const MEDIA_TYPE: &str = "application/grpc";

/// The service behind [`Data`].
struct Service {
    app: App,
    inner: Inner,
    serving: Arc<Serving>,
    write_streams: Arc<Semaphore>,
}

/// The routes of the calls; what they do not do themselves they ask of `http`.
pub(super) fn routes(serving: &Arc<Serving>, http: &Router) -> Router {
    let app = serving.app.clone();
    let largest = app.limits.body_bytes;
    let service = Service {
        inner: Inner::new(http.clone()),
        serving: Arc::clone(serving),
        write_streams: Arc::new(Semaphore::new(app.limits.write_streams)),
        app,
    };
    let server = DataServer::new(service).max_decoding_message_size(largest);
    CALLS
        .into_iter()
        .fold(Router::new(), |router, call| {
            router.route_service(call, server.clone())
        })
        .layer(middleware::from_fn_with_state(Arc::clone(serving), admit))
}

async fn admit(State(serving): State<Arc<Serving>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let media_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if !media_type.is_some_and(|media_type| media_type.starts_with(MEDIA_TYPE.as_bytes())) {
        let detail = "this is a call of the gRPC API: send application/grpc over HTTP/2";
        let refused = Failure::bad_request(detail);
        return (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            refused.problem().detail.clone(),
        )
            .into_response();
    }
    if !serving.app.tokens.admits(headers) {
        return refusal::of(&Failure::unauthorized()).into_http::<Body>();
    }
    let shares = Shares::default();
    let mut request = request.map(|body| {
        let metered = Metered::new(body, &serving, shares.clone());
        Body::new(metered)
    });
    request.extensions_mut().insert(shares);
    next.run(request).await
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Data for Service {
    async fn write(
        &self,
        request: tonic::Request<WriteRequest>,
    ) -> Result<tonic::Response<WriteReply>, Status> {
        let authorization = request.metadata().as_ref().get(AUTHORIZATION).cloned();
        let written = self.inner.write(authorization, request.into_inner()).await;
        answer(written)
    }

    type WriteStreamStream = Replies<WriteReply>;

    async fn write_stream(
        &self,
        request: tonic::Request<Streaming<WriteRequest>>,
    ) -> Result<tonic::Response<Self::WriteStreamStream>, Status> {
        let streams = Arc::clone(&self.write_streams);
        let place = streams.try_acquire_owned().map_err(|_| {
            let limit = self.app.limits.write_streams;
            let detail = format!("{limit} streams of writes are open here already; use fewer");
            refusal::of(&Failure::new(Code::Overloaded, detail))
        })?;
        let headers = request.metadata().as_ref();
        let writer = writing::Writer {
            serving: Arc::clone(&self.serving),
            inner: self.inner.clone(),
            headers: headers.clone(),
        };
        let shares = shares_of(&request);
        let replies = writing::replies(writer, request.into_inner(), shares, place);
        Ok(tonic::Response::new(Box::pin(replies)))
    }

    async fn get(
        &self,
        request: tonic::Request<GetRequest>,
    ) -> Result<tonic::Response<GetReply>, Status> {
        let authorization = request.metadata().as_ref().get(AUTHORIZATION).cloned();
        answer(
            self.inner
                .call(rpc::GET, authorization, None, &request.into_inner())
                .await,
        )
    }

    async fn status(
        &self,
        _: tonic::Request<StatusRequest>,
    ) -> Result<tonic::Response<StatusReply>, Status> {
        Ok(tonic::Response::new(status_reply(&self.app)))
    }

    type WatchStream = Replies<WatchEvent>;

    async fn watch(
        &self,
        request: tonic::Request<WatchRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let events = watching::watch(&self.app, &request.into_inner()).await;
        let events = events.map_err(|failure| refusal::of(&failure))?;
        Ok(tonic::Response::new(Box::pin(events)))
    }
}

fn shares_of<T>(request: &tonic::Request<T>) -> Shares {
    request.extensions().get().cloned().unwrap_or_default()
}

fn answer<T>(answered: Result<T, inner::Refused>) -> Result<tonic::Response<T>, Status> {
    match answered {
        Ok(message) => Ok(tonic::Response::new(message)),
        Err(problem) => Err(refusal::of_problem(&problem)),
    }
}

fn status_reply(app: &App) -> StatusReply {
    let now = status::of(app);
    let role = match now.role {
        RoleWord::Leader => "leader",
        RoleWord::Follower => "follower",
        RoleWord::Learner => "learner",
    };
    StatusReply {
        tenant_id: now.tenant_id,
        node: now.node,
        replica_id: now.replica_id,
        role: role.to_owned(),
        epoch: u64::try_from(now.epoch).unwrap_or_default(),
        leader: now.leader,
        in_sync: now.in_sync,
        incarnation: now.incarnation,
        committed: now.committed,
        applied: now.applied,
        lag: now.lag,
    }
}
