//! The gRPC API over a real router and store.

mod hostile;
mod relayed;
mod watching;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Request, Response};
use percolate_api::proto::data::v1 as proto;
use percolate_api::proto::data::v1::data_client::DataClient;
use percolate_api::proto::data::v1::write_reply::Result as Done;
use percolate_core::model::{ItemId, ItemKey};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use super::super::fixture::{Behaviour, Network, Replica, TOKEN, quick_limits};
use super::super::limits::Limits;

/// Calls of a router in this process.
#[derive(Clone)]
struct Direct(Router);

impl Service<Request<tonic::body::Body>> for Direct {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.clone().oneshot(request.map(Body::new)))
    }
}

type Client = DataClient<Direct>;

fn client(replica: &Replica) -> Client {
    DataClient::new(Direct(replica.router.clone()))
}

/// A request with the token.
fn asked<T>(message: T) -> tonic::Request<T> {
    with_token(message, TOKEN)
}

fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

fn put(id: &str, content: &str) -> proto::Operation {
    let put = proto::PutResource {
        id: id.to_owned(),
        content: content.as_bytes().to_vec(),
        content_type: None,
        metadata: None,
    };
    proto::Operation {
        action: Some(proto::operation::Action::PutResource(put)),
        precondition: None,
    }
}

fn write(id: u64, operations: Vec<proto::Operation>) -> proto::WriteRequest {
    proto::WriteRequest {
        id,
        idempotency_key: None,
        operations,
    }
}

fn get(id: &str) -> proto::GetRequest {
    proto::GetRequest {
        key: ItemKey::Resource(ItemId::new(id).unwrap()).to_bytes(),
        ..proto::GetRequest::default()
    }
}

/// The code that is the same over HTTP.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// What became of a write, in a word.
fn word(reply: &proto::WriteReply) -> String {
    match reply.result.as_ref().unwrap() {
        Done::Applied(applied) => format!("applied {}", applied.written.len()),
        Done::Problem(problem) => problem.code.clone(),
    }
}

/// Both ends of a stream of writes.
struct Open {
    requests: UnboundedSender<proto::WriteRequest>,
    replies: Streaming<proto::WriteReply>,
}

impl Open {
    async fn at(replica: &Replica) -> Self {
        let (requests, sent) = unbounded();
        let call = client(replica).write_stream(asked(sent)).await;
        Self {
            requests,
            replies: call.unwrap().into_inner(),
        }
    }

    fn send(&self, request: proto::WriteRequest) {
        self.requests.unbounded_send(request).unwrap();
    }

    async fn reply(&mut self) -> (u64, String) {
        let reply = self.replies.message().await.unwrap().expect("a reply");
        (reply.id, word(&reply))
    }

    /// What comes after the client's last write.
    async fn end(self) -> Result<Vec<u64>, Status> {
        drop(self.requests);
        let mut ids = Vec::new();
        let mut replies = self.replies;
        while let Some(reply) = replies.next().await {
            ids.push(reply?.id);
        }
        Ok(ids)
    }
}

#[tokio::test]
async fn what_is_written_over_grpc_is_read_over_grpc_and_http() {
    let leader = Replica::leader();
    let mut client = client(&leader);
    let written = client
        .write(asked(write(7, vec![put("a/b", "text")])))
        .await
        .unwrap();
    let written = written.into_inner();
    assert_eq!((written.id, word(&written).as_str()), (7, "applied 1"));
    let read = client.get(asked(get("a/b"))).await.unwrap().into_inner();
    assert_eq!(read.session, written.session);
    let Some(proto::item_view::Item::Resource(resource)) = read.item.unwrap().item else {
        panic!("another kind");
    };
    assert_eq!(
        (resource.id.as_str(), resource.content.as_slice()),
        ("a/b", &b"text"[..])
    );
    let over_http = leader.get("/resources/a%2Fb").await;
    assert_eq!(over_http.json()["content"], "text");
    assert_eq!(over_http.session().to_string(), written.session);
    let status = client
        .status(asked(proto::StatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.role.as_str(), status.applied), ("leader", 1));
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_on_any_way() {
    let leader = Replica::leader();
    let keyed = |id| proto::WriteRequest {
        idempotency_key: Some("once".to_owned()),
        ..write(id, vec![put("r", "text")])
    };
    let first = client(&leader)
        .write(asked(keyed(1)))
        .await
        .unwrap()
        .into_inner();
    let mut stream = Open::at(&leader).await;
    stream.send(keyed(2));
    let again = stream.replies.message().await.unwrap().unwrap();
    assert_eq!((again.id, &again.result), (2, &first.result));
    stream.send(proto::WriteRequest {
        operations: vec![put("r", "other")],
        ..keyed(3)
    });
    assert_eq!(
        stream.reply().await,
        (3, "bad_request".to_owned()),
        "another write under the key"
    );
}

#[tokio::test]
async fn a_write_that_is_refused_does_not_end_its_stream() {
    let leader = Replica::leader();
    let mut stream = Open::at(&leader).await;
    let superseded = proto::Operation {
        precondition: Some(proto::operation::Precondition::IfAbsent(proto::Absent {})),
        ..put("r", "x")
    };
    for (request, expected) in [
        (
            write(1, vec![put("r", "text"), put("s", "text")]),
            "applied 2",
        ),
        (write(2, vec![]), "bad_request"),
        (write(2, vec![proto::Operation::default()]), "bad_request"),
        (write(3, vec![put("r", "other")]), "resource_immutable"),
        (write(4, vec![superseded]), "version_mismatch"),
        (write(5, vec![put("a", ""); 1001]), "too_large"),
        (write(1, vec![put("t", "text")]), "applied 1"),
    ] {
        let id = request.id;
        stream.send(request);
        assert_eq!(stream.reply().await, (id, expected.to_owned()));
    }
    assert_eq!(stream.end().await.unwrap(), Vec::<u64>::new());
}

#[tokio::test]
async fn writes_under_way_on_one_stream_are_all_answered_before_it_ends() {
    let leader = Replica::leader();
    let stream = Open::at(&leader).await;
    for id in 0..40 {
        stream.send(write(id, vec![put(&format!("r{id}"), "text")]));
    }
    let mut ids = stream.end().await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn too_much_at_once_is_an_answer_to_that_write() {
    let limits = Limits {
        concurrent_requests: 2,
        ..quick_limits()
    };
    let leader = Replica::new(Behaviour::Hang, Network::default(), limits);
    let mut stream = Open::at(&leader).await;
    for id in 1..=3 {
        stream.send(write(id, vec![put("r", "text")]));
    }
    assert_eq!(
        stream.reply().await,
        (3, "overloaded".to_owned()),
        "two hang"
    );
    let unknown = [stream.reply().await, stream.reply().await].map(|(_, code)| code);
    assert_eq!(unknown, ["no_leader", "no_leader"], "their time is over");
    leader.behave(Behaviour::Lead);
    stream.send(write(4, vec![put("s", "text")]));
    assert_eq!(stream.reply().await, (4, "applied 1".to_owned()));
}

#[tokio::test]
async fn a_stream_reads_no_more_than_it_may_have_under_way() {
    let limits = Limits {
        stream_writes: 2,
        deadline: std::time::Duration::from_mins(1),
        ..quick_limits()
    };
    let leader = Replica::new(Behaviour::Hang, Network::default(), limits);
    let mut stream = Open::at(&leader).await;
    let write = |id| write(id, vec![put(&format!("r{id}"), "text")]);
    stream.send(write(1));
    stream.send(write(2));
    let moment = std::time::Duration::from_millis(50);
    let idle = tokio::time::timeout(moment, stream.reply());
    assert!(idle.await.is_err(), "both are read, and hang");
    // Whatever is read from here on is refused: the third is answered only if it is read too early.
    leader.behave(Behaviour::Refuse(crate::tenant::Unavailable::Overloaded));
    stream.send(write(3));
    let idle = tokio::time::timeout(moment, stream.reply());
    assert!(idle.await.is_err(), "the third is not read");
}

#[tokio::test]
async fn streams_are_counted_and_end_when_the_node_stops() {
    let limits = Limits {
        write_streams: 1,
        ..quick_limits()
    };
    let leader = Replica::new(Behaviour::Lead, Network::default(), limits);
    let mut stream = Open::at(&leader).await;
    stream.send(write(1, vec![put("r", "text")]));
    assert_eq!(stream.reply().await, (1, "applied 1".to_owned()));
    let (_requests, sent) = unbounded();
    let refused = client(&leader).write_stream(asked(sent)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "overloaded")
    );
    leader.stopping.cancel();
    let end = stream.replies.message().await.unwrap_err();
    assert_eq!(
        (end.code(), reason(&end).as_str()),
        (Code::Unavailable, "no_leader")
    );
    drop(stream);
    let after = Open::at(&leader).await;
    assert!(
        after.end().await.is_err(),
        "its place is free, but the node stops"
    );
}

#[tokio::test]
async fn refusals_carry_the_codes_of_http() {
    let leader = Replica::leader();
    let mut client = client(&leader);
    let missing = client.get(asked(get("nothing"))).await.unwrap_err();
    assert_eq!(
        (missing.code(), reason(&missing).as_str()),
        (Code::NotFound, "not_found")
    );
    let no_key = client
        .get(asked(proto::GetRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(
        (no_key.code(), reason(&no_key).as_str()),
        (Code::InvalidArgument, "bad_request")
    );
    client
        .write(asked(write(1, vec![put("r", "text")])))
        .await
        .unwrap();
    let second = write(2, vec![put("s", "text"), put("r", "other")]);
    let refused = client.write(asked(second)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "resource_immutable")
    );
    let details = refused.get_error_details();
    let facts = &details.error_info().unwrap().metadata;
    assert_eq!(facts.get("operation").map(String::as_str), Some("1"));
    assert_eq!(
        leader.get("/resources/s").await.status,
        http::StatusCode::NOT_FOUND
    );
}
