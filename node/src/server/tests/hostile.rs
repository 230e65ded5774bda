use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use proptest::prelude::*;

use super::super::fixture::{Behaviour, Network, Replica, TOKEN, quick_limits, request, with};
use super::super::limits::Limits;

/// Each body is a bad request for `path`, and the detail says why.
async fn check_refused(method: &str, path: &str, bodies: &[(&str, &str)]) {
    let replica = Replica::leader();
    for (body, reason) in bodies {
        let refused = replica.call(method, path, body).await;
        let code = (refused.status, refused.code());
        let bad_request = (StatusCode::BAD_REQUEST, "bad_request".to_owned());
        assert_eq!(code, bad_request, "{path} {body}");
        let detail = refused.detail();
        assert!(detail.contains(reason), "{path} {body}: {detail}");
    }
    assert_eq!(replica.handle.store.applied().index, 0, "none was written");
}

#[tokio::test]
async fn bodies_of_resources_are_read_strictly() {
    let bodies = [
        ("", "a value"),
        ("{", "not what"),
        ("[\"x\"]", "object"),
        ("null", "object"),
        ("{}", "content"),
        (r#"{"content":1}"#, "string"),
        (r#"{"content":"x","colour":"red"}"#, "colour"),
        (r#"{"content":"x","content":"y"}"#, "second time"),
        (
            r#"{"content":"x","content_base64":"eA=="}"#,
            "content_base64",
        ),
        (r#"{"content_base64":"%"}"#, "Base64"),
        (r#"{"content":"x","metadata":{"a":NaN}}"#, "a value"),
        (r#"{"content":"x","metadata":{"a":1e400}}"#, "out of range"),
        (r#"{"content":"x","metadata":{"":1}}"#, "empty"),
        (r#"{"content":"\ud800"}"#, "surrogates"),
        (r#"{"content":"x"} trailing"#, "the end"),
    ];
    check_refused("PUT", "/resources/r", &bodies).await;
}

#[tokio::test]
async fn bodies_of_entities_and_moments_are_read_strictly() {
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    let deep = format!(r#"{{"type":"t","properties":{{"a":{open}1{close}}}}}"#);
    let entities = [
        (r#"{"properties":{}}"#, "type"),
        (deep.as_str(), "nested"),
        (r#"{"type":"a\u0000b"}"#, "control"),
        (r#"{"type":"t","labels":"x"}"#, "sequence"),
    ];
    check_refused("PUT", "/entities/e", &entities).await;
    let moments = [
        (r#"{"content":"x"}"#, "timestamp"),
        (r#"{"content":"x","timestamp":"noon"}"#, "noon"),
        (r#"{"content":"x","timestamp":-1}"#, "string"),
    ];
    check_refused("PUT", "/moments/m", &moments).await;
}

#[tokio::test]
async fn operations_of_a_batch_are_refused_by_number_and_name() {
    let operations = [
        (
            r#"{"op":"put","kind":"resource","content":"x"}"#,
            "operation 0",
        ),
        (r#"{"op":"put","kind":"thing","id":"a"}"#, "thing"),
        (
            r#"{"op":"patch","kind":"edge","src":"a","type":"b","dst":"c"}"#,
            "patched",
        ),
        (
            r#"{"op":"delete","kind":"resource","id":"a","content":"x"}"#,
            "content",
        ),
        (r#"{"op":"delete","kind":"resource","id":"../a"}"#, ".."),
    ];
    for (operation, reason) in operations {
        let body = format!(r#"{{"ops":[{operation}]}}"#);
        check_refused("POST", "/batch", &[(&body, reason)]).await;
    }
    check_refused("POST", "/batch", &[(r#"{"ops":[],"more":1}"#, "more")]).await;
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused() {
    let replica = Replica::leader();
    let long = format!("/resources/{}", "a".repeat(257));
    let cases = [
        ("/resources/..", "bad_request"),
        ("/resources/.", "bad_request"),
        ("/resources/%2e%2e", "bad_request"),
        ("/resources/a%2F..%2Fb", "bad_request"),
        ("/resources/a%5C..%5Cb", "bad_request"),
        ("/resources/a%00b", "bad_request"),
        ("/resources/a%0D%0Ab", "bad_request"),
        ("/resources/a%7Fb", "bad_request"),
        ("/resources/%C2%85", "bad_request"),
        ("/resources/%FF", "bad_request"),
        ("/resources/%C0%AE%C0%AE", "bad_request"),
        (long.as_str(), "bad_request"),
        ("/edges/a/b/..", "bad_request"),
        ("/resources/a/b", "not_found"),
        ("/resources/", "not_found"),
        ("/edges/a/b", "not_found"),
        ("/../../etc/passwd", "not_found"),
    ];
    for (path, code) in cases {
        for method in ["GET", "PUT", "DELETE"] {
            let refused = replica.call(method, path, r#"{"content":"x"}"#).await;
            assert_eq!(refused.code(), code, "{method} {path} {}", refused.detail());
            assert!(
                !refused.detail().contains(['\r', '\n', '\0']),
                "{path} reaches no log unescaped"
            );
        }
    }
    assert_eq!(replica.handle.store.applied().index, 0);
}

#[tokio::test]
async fn an_id_is_decoded_exactly_once() {
    let replica = Replica::leader();
    replica
        .put("/resources/a%252Fb", r#"{"content":"x"}"#)
        .await;
    assert_eq!(
        replica.get("/resources/a%252Fb").await.json()["id"],
        "a%2Fb"
    );
    assert_eq!(replica.get("/resources/a%2Fb").await.code(), "not_found");
}

#[tokio::test]
async fn headers_are_read_as_strictly() {
    let replica = Replica::leader();
    let long = "k".repeat(256);
    let cases = [
        ("if-match", "\"nonsense\""),
        ("if-match", ""),
        ("if-match", "W/\"a\""),
        ("if-none-match", "\"a\""),
        ("idempotency-key", ""),
        ("idempotency-key", "a b"),
        ("idempotency-key", long.as_str()),
    ];
    for (name, value) in cases {
        let refused = replica
            .send(with(
                request("PUT", "/resources/r", r#"{"content":"x"}"#),
                name,
                value,
            ))
            .await;
        assert_eq!(refused.code(), "bad_request", "{name}: {value}");
    }
    let mut twice = with(
        request("PUT", "/resources/r", r#"{"content":"x"}"#),
        "idempotency-key",
        "a",
    );
    twice
        .headers_mut()
        .append("idempotency-key", "b".parse().unwrap());
    assert_eq!(replica.send(twice).await.code(), "bad_request");
    let method = replica.call("POST", "/resources/r", "{}").await;
    assert_eq!(
        (method.status, method.code().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "bad_request")
    );
    assert!(method.header("allow").contains("PUT"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_the_limit() {
    let limits = Limits {
        body_bytes: 1000,
        ..quick_limits()
    };
    let replica = Replica::new(Behaviour::Lead, Network::default(), limits);
    let body = |length: usize| format!(r#"{{"content":"{}"}}"#, "x".repeat(length - 14));
    assert_eq!(
        replica.put("/resources/a", &body(1000)).await.status,
        StatusCode::CREATED
    );
    let packed = |plain: &[u8]| {
        let mut write = with(
            request("PUT", "/resources/b", ""),
            "content-encoding",
            "zstd",
        );
        *write.body_mut() = zstd::bulk::compress(plain, 3).unwrap().into();
        write
    };
    assert_eq!(
        replica.send(packed(body(1000).as_bytes())).await.status,
        StatusCode::CREATED
    );
    let bomb = vec![b' '; 16 * 1024 * 1024];
    for write in [
        request("PUT", "/resources/b", &body(1001)),
        packed(body(1001).as_bytes()),
        packed(&bomb),
    ] {
        let refused = replica.send(write).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        );
        assert!(
            refused.detail().contains("1000 bytes"),
            "{}",
            refused.detail()
        );
        assert_eq!(refused.json()["limit"], 1000);
    }
    let gzip = replica
        .send(with(
            request("PUT", "/resources/c", "x"),
            "content-encoding",
            "gzip",
        ))
        .await;
    assert_eq!(
        (gzip.status, gzip.code().as_str()),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_request")
    );
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let limits = Limits {
        body_timeout: Duration::from_millis(30),
        ..quick_limits()
    };
    let replica = Replica::new(Behaviour::Lead, Network::default(), limits);
    let mut slow = request("PUT", "/resources/r", "");
    *slow.body_mut() =
        Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(replica.send(slow).await.status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn more_requests_than_places_are_sent_away() {
    let limits = Limits {
        concurrent_requests: 1,
        ..quick_limits()
    };
    let replica = Replica::new(Behaviour::Hang, Network::default(), limits);
    let held = replica.put("/resources/a", r#"{"content":"x"}"#);
    let turned_away = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        replica.get("/status").await
    };
    let (_, refused) = tokio::join!(held, turned_away);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "overloaded")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        replica.get("/status").await.status,
        StatusCode::OK,
        "its place is free again"
    );
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        Just("resources".to_owned()),
        Just("entities".to_owned()),
        Just("edges".to_owned()),
        Just("moments".to_owned()),
        Just("batch".to_owned()),
        "[a-z]{1,3}",
        "(%[0-9a-fA-F]{2}){1,4}",
        "[!-~&&[^#?/<>^`{|}\"]]{0,8}",
    ];
    let query = prop_oneof![
        Just(String::new()),
        "\\?[a-z]{1,8}=[!-~&&[^#<>`{|}\"^\\\\]]{0,12}",
        Just("?limit=3".to_owned())
    ];
    (prop::collection::vec(segment, 1..5), query)
        .prop_map(|(segments, query)| format!("/api/v1/{}{query}", segments.join("/")))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let member = prop_oneof![
        Just("content"),
        Just("type"),
        Just("properties"),
        Just("labels"),
        Just("timestamp"),
        Just("metadata"),
        Just("ops"),
        Just("op"),
        Just("kind"),
        Just("id"),
        Just("src"),
        Just("dst"),
        Just("if_match"),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"put\"".to_owned()),
        Just("\"resource\"".to_owned()),
        Just("\"x\"".to_owned()),
        Just("\"2026-01-31T12:00:00Z\"".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("1e308".to_owned()),
        "\"[^\"\\\\]{0,8}\"",
    ];
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((member.clone(), inner), 0..5).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    prop_oneof![4 => value.prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_sent_is_answered_without_a_fault(
        method in prop::sample::select(vec!["GET", "PUT", "PATCH", "POST", "DELETE", "HEAD"]),
        path in path(),
        body in body(),
        header in prop::option::of((
            prop::sample::select(vec!["if-match", "if-none-match", "idempotency-key", "percolate-session", "content-encoding", "accept-encoding"]),
            "[ -~]{0,20}",
        )),
    ) {
        let mut asked = Request::builder().method(method).uri(&path).header("authorization", format!("Bearer {TOKEN}"));
        if let Some((name, value)) = &header {
            asked = asked.header(*name, value);
        }
        // What is no request at all never reaches the router.
        let Ok(asked) = asked.body(Body::from(body)) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async { Replica::leader().send(asked).await });
        prop_assert!(answer.status.as_u16() < 500, "{method} {path}: {} {}", answer.status, answer.detail());
        if answer.status.is_client_error() && method != "HEAD" {
            prop_assert!(!answer.detail().is_empty(), "{method} {path}: {} explains nothing", answer.status);
        }
    }
}
