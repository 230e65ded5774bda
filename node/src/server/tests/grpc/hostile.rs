use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::BodyExt;
use prost::Message;

use super::*;

/// What a raw body of messages is answered with: HTTP's status, gRPC's, and the body.
async fn raw(
    replica: &Replica,
    call: &str,
    media_type: &str,
    body: Body,
) -> (StatusCode, String, Bytes) {
    let request = Request::post(format!("/percolate.data.v1.Data/{call}"))
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(CONTENT_TYPE, media_type)
        .body(body)
        .unwrap();
    let response = replica.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let code = headers
        .get("grpc-status")
        .or_else(|| trailers.get("grpc-status"));
    let code = code.map(|code| code.to_str().unwrap().to_owned());
    (status, code.unwrap_or_default(), body.to_bytes())
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

const OK: &str = "0";

#[tokio::test]
async fn only_the_token_opens_a_call() {
    let leader = Replica::leader();
    let mut client = client(&leader);
    for token in ["", "other"] {
        let refused = client
            .write(with_token(write(1, vec![put("r", "x")]), token))
            .await;
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "unauthorized")
        );
    }
    let bare = client
        .status(tonic::Request::new(proto::StatusRequest {}))
        .await
        .unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated);
    let (_requests, sent) = unbounded::<proto::WriteRequest>();
    let stream = client
        .write_stream(with_token(sent, "other"))
        .await
        .unwrap_err();
    assert_eq!(stream.code(), Code::Unauthenticated);
    assert_eq!(
        leader.get("/resources/r").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let leader = Replica::leader();
    let message = frame(&write(1, vec![put("r", "x")]).encode_to_vec());
    let (status, ..) = raw(&leader, "Write", "application/json", message.clone().into()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, ..) = raw(&leader, "Nothing", "application/grpc", message.into()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn garbage_is_refused_and_writes_nothing() {
    let leader = Replica::leader();
    let good = write(1, vec![put("r", "x")]).encode_to_vec();
    let compressed = [&[1][..], &frame(&good)[1..]].concat();
    let flag = [&[9][..], &frame(&good)[1..]].concat();
    for (name, body) in [
        ("noise", frame(b"\xff\xff\xff\xff")),
        ("half a prefix", vec![0, 0]),
        ("half a message", frame(&good)[..12].to_vec()),
        ("compressed", compressed),
        ("an unknown flag", flag),
        ("endless", [&[0][..], &[0xff; 4], &good].concat()),
    ] {
        for call in ["Write", "WriteStream"] {
            let (status, code, _) =
                raw(&leader, call, "application/grpc", body.clone().into()).await;
            assert_eq!(status, StatusCode::OK, "{name}");
            assert!(!code.is_empty() && code != OK, "{call}, {name}: {code:?}");
        }
    }
    assert_eq!(
        leader.get("/resources/r").await.status,
        StatusCode::NOT_FOUND
    );
    let (_, code, _) = raw(&leader, "Write", "application/grpc", frame(&good).into()).await;
    assert_eq!(code, OK);
}

#[tokio::test]
async fn fields_of_a_later_version_do_no_harm() {
    let leader = Replica::leader();
    let mut message = write(1, vec![put("r", "x")]).encode_to_vec();
    // Field 1000, of four bytes.
    message.extend_from_slice(&[0xc2, 0x3e, 4, 1, 2, 3, 4]);
    let (_, code, _) = raw(&leader, "Write", "application/grpc", frame(&message).into()).await;
    assert_eq!(code, OK);
    assert_eq!(leader.get("/resources/r").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_message_has_the_limit_of_a_body() {
    let limits = Limits {
        body_bytes: 1000,
        ..quick_limits()
    };
    let leader = Replica::new(Behaviour::Lead, Network::default(), limits);
    let mut client = client(&leader);
    let fits = write(1, vec![put("r", &"x".repeat(900))]);
    client.write(asked(fits)).await.unwrap();
    let large = write(2, vec![put("s", &"x".repeat(1000))]);
    let refused = client.write(asked(large.clone())).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::OutOfRange, "too_large")
    );
    let stream = Open::at(&leader).await;
    stream.send(large);
    let refused = stream.end().await.unwrap_err();
    assert_eq!(reason(&refused), "too_large");
}

#[tokio::test]
async fn a_message_that_never_ends_is_given_up_and_its_memory_given_back() {
    let limits = Limits {
        held_body_bytes: 1000,
        body_timeout: Duration::from_millis(300),
        ..quick_limits()
    };
    let leader = Replica::new(Behaviour::Lead, Network::default(), limits);
    let whole = frame(&write(1, vec![put("r", &"x".repeat(600))]).encode_to_vec());
    let begun = Bytes::from(whole[..500].to_vec());
    let pending = stream::iter([Ok::<_, std::io::Error>(begun)]).chain(stream::pending());
    let slow = raw(
        &leader,
        "WriteStream",
        "application/grpc",
        Body::from_stream(pending),
    );
    // It does not fit beside what the other holds, and waits for that to be given back.
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw(&leader, "WriteStream", "application/grpc", whole.into()).await
    };
    let ((_, slow, _), (_, second, answer)) = tokio::join!(slow, second);
    assert!(!slow.is_empty() && slow != OK, "{slow:?}");
    assert_eq!(second, OK);
    let reply = proto::WriteReply::decode(&answer[5..]).unwrap();
    assert_eq!(word(&reply), "applied 1");
}

#[tokio::test]
async fn any_noise_leaves_the_node_serving() {
    let leader = Replica::leader();
    let mut state = 0x9e37_79b9_u32;
    for round in 0..200 {
        let noise: Vec<u8> = (0..round)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state.to_be_bytes()[0]
            })
            .collect();
        for call in ["Write", "WriteStream", "Get", "Watch"] {
            let body = frame(&noise).into();
            let answered = raw(&leader, call, "application/grpc", body);
            // Some noise is a request, and a watch has no end.
            let answered = tokio::time::timeout(Duration::from_millis(50), answered).await;
            if let Ok((status, ..)) = answered {
                assert_eq!(status, StatusCode::OK);
            }
        }
    }
    client(&leader)
        .write(asked(write(1, vec![put("r", "x")])))
        .await
        .unwrap();
}
