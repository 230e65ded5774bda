use std::time::Duration;

use http::StatusCode;

use super::super::fixture::{Behaviour, HISTORY, Network, Replica, quick_limits, request, with};
use super::super::forward::HttpForwarder;
use super::super::limits::Limits;
use crate::tenant::{SessionToken, Unavailable};

const LEADER: &str = "https://leader:8000";
const DOCUMENT: &str = r#"{"content":"x"}"#;

/// A leader, a follower that knows it, and the network between them.
fn pair() -> (Replica, Replica, Network) {
    let network = Network::default();
    let leader = Replica::leader();
    network.join(LEADER, &leader);
    let follower = Replica::new(Behaviour::Lead, network.clone(), quick_limits());
    follower.follow(LEADER);
    (leader, follower, network)
}

/// A leader that hangs, and a follower that would wait for it for a minute.
fn hung_pair() -> (Replica, Replica, Network) {
    let (hung, _, network) = pair();
    hung.behave(Behaviour::Hang);
    let limits = Limits {
        deadline: Duration::from_mins(1),
        ..quick_limits()
    };
    let follower = Replica::new(Behaviour::Lead, network.clone(), limits);
    follower.follow(LEADER);
    (hung, follower, network)
}

/// Something is on its way to the leader.
async fn until_forwarded(network: &Network) {
    while network.seen.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_follower_passes_writes_to_the_leader() {
    let (leader, follower, network) = pair();
    let written = follower.put("/resources/a%2Fb", DOCUMENT).await;
    assert_eq!(
        (written.status, written.header("percolate-role")),
        (StatusCode::CREATED, "leader"),
        "{}",
        written.detail()
    );
    assert_eq!(written.session().index, 1, "the session is the leader's");
    assert_eq!(leader.get("/resources/a%2Fb").await.status, StatusCode::OK);
    let seen = network.seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].contains_key("percolate-forwarded") && seen[0].contains_key("idempotency-key"));
}

#[tokio::test]
async fn a_write_sent_to_a_leader_that_hangs_goes_to_its_successor() {
    let (_hung, follower, network) = hung_pair();
    let successor = Replica::leader();
    network.join("https://successor:8000", &successor);
    let takeover = async {
        until_forwarded(&network).await;
        follower.follow("https://successor:8000");
    };
    let (written, ()) = tokio::join!(follower.put("/resources/r", DOCUMENT), takeover);
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.detail());
    assert_eq!(successor.get("/resources/r").await.status, StatusCode::OK);
    let seen = network.seen.lock().unwrap();
    let keys: Vec<_> = seen
        .iter()
        .map(|headers| headers.get("idempotency-key"))
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1], "one write, whoever takes it");
}

/// What is sent to a follower that nobody can reach is better sent to another, and soon.
#[tokio::test]
async fn a_replica_that_is_cut_off_keeps_nobody_waiting() {
    let (_hung, follower, network) = hung_pair();
    let silence = async {
        until_forwarded(&network).await;
        follower.status.send_modify(|status| status.cut_off = true);
    };
    let both = async { tokio::join!(follower.put("/resources/r", DOCUMENT), silence) };
    let (waited, ()) = tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .expect("it is answered before the deadline");
    let later = follower.get("/resources/r?consistency=linearizable").await;
    for refused in [waited, later] {
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.code(), "no_leader");
        assert_eq!(refused.header("retry-after"), "1");
    }
}

/// With two replicas nobody but this one can be the successor. It waited for the hung leader until the
/// deadline, because a leader's own status names no other leader's address.
#[tokio::test]
async fn a_write_sent_to_a_leader_that_hangs_is_taken_here_by_who_succeeds_it() {
    let (_hung, follower, network) = hung_pair();
    let takeover = async {
        until_forwarded(&network).await;
        follower.lead();
    };
    let (written, ()) = tokio::join!(follower.put("/resources/r", DOCUMENT), takeover);
    assert_eq!(
        (written.status, written.header("percolate-role")),
        (StatusCode::CREATED, "leader"),
        "{}",
        written.detail()
    );
    assert_eq!(follower.get("/resources/r").await.status, StatusCode::OK);
}

#[tokio::test]
async fn encodings_pass_through_a_follower() {
    let (leader, follower, _network) = pair();
    let long = format!(r#"{{"content":"{}"}}"#, "text ".repeat(1000));
    let packed = zstd::bulk::compress(long.as_bytes(), 3).unwrap();
    let mut write = with(
        request("PUT", "/resources/r", ""),
        "content-encoding",
        "zstd",
    );
    *write.body_mut() = packed.into();
    assert_eq!(follower.send(write).await.status, StatusCode::CREATED);
    assert_eq!(
        leader.get("/resources/r").await.json()["content"],
        "text ".repeat(1000)
    );
    let linearizable = with(
        request("GET", "/resources/r?consistency=linearizable", ""),
        "accept-encoding",
        "zstd",
    );
    let read = follower.send(linearizable).await;
    assert_eq!(read.header("content-encoding"), "zstd");
    assert!(
        zstd::bulk::decompress(&read.body, 1 << 20)
            .unwrap()
            .starts_with(b"{"),
        "packed once"
    );
}

#[tokio::test]
async fn a_request_goes_one_hop_only() {
    let network = Network::default();
    let (one, other) = ("https://one:8000", "https://other:8000");
    let first = Replica::new(Behaviour::Lead, network.clone(), quick_limits());
    let second = Replica::new(Behaviour::Lead, network.clone(), quick_limits());
    first.follow(other);
    second.follow(one);
    network.join(one, &first);
    network.join(other, &second);
    let forwarded = with(
        request("PUT", "/resources/r", DOCUMENT),
        "percolate-forwarded",
        "someone",
    );
    let refused = first.send(forwarded).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "no_leader")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        network.seen.lock().unwrap().len(),
        0,
        "it was not passed on"
    );
    let refused = first.put("/resources/r", DOCUMENT).await;
    assert_eq!(refused.code(), "no_leader");
    let seen = network.seen.lock().unwrap();
    assert!(
        seen.iter()
            .all(|headers| headers["percolate-forwarded"] == seen[0]["percolate-forwarded"]),
        "nor back again"
    );
}

#[tokio::test]
async fn a_write_waits_for_the_next_leader() {
    let (_leader, follower, _network) = pair();
    follower.follow("https://gone:8000");
    let writing = follower.put("/resources/r", DOCUMENT);
    let taking_over = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        follower.behave(Behaviour::Lead);
    };
    let (written, ()) = tokio::join!(writing, taking_over);
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.detail());
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_written_once() {
    let (leader, follower, network) = pair();
    leader.put("/entities/e", r#"{"type":"t"}"#).await;
    *network.lost_answers.lock().unwrap() = 1;
    let written = follower.put("/resources/r", DOCUMENT).await;
    assert_eq!(
        (written.status, written.json()["effect"].as_str()),
        (StatusCode::CREATED, Some("created"))
    );
    let seen = network.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0]["idempotency-key"], seen[1]["idempotency-key"]);
}

#[tokio::test]
async fn the_clients_own_key_is_passed_on() {
    let (_leader, follower, network) = pair();
    follower
        .send(with(
            request("PUT", "/resources/r", DOCUMENT),
            "idempotency-key",
            "mine",
        ))
        .await;
    assert_eq!(network.seen.lock().unwrap()[0]["idempotency-key"], "mine");
}

#[tokio::test]
async fn an_unknown_outcome_is_retried_only_under_a_key() {
    let replica = Replica::leader();
    replica.behave(Behaviour::Forget);
    let unsure = replica.put("/resources/a", DOCUMENT).await;
    assert_eq!(unsure.code(), "no_leader");
    let applied = replica.handle.store.applied().index;
    assert_eq!(applied, 1, "nobody can tell two writes without a key apart");
    let writing = replica.send(with(
        request("PUT", "/resources/b", DOCUMENT),
        "idempotency-key",
        "k",
    ));
    let settling = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        replica.behave(Behaviour::Lead);
    };
    let (written, ()) = tokio::join!(writing, settling);
    assert_eq!(
        (written.status, written.json()["effect"].as_str()),
        (StatusCode::CREATED, Some("created"))
    );
}

#[tokio::test]
async fn without_a_leader_the_answer_comes_by_the_deadline() {
    let (_leader, follower, _network) = pair();
    follower.follow("https://gone:8000");
    let begun = std::time::Instant::now();
    let refused = follower.put("/resources/r", DOCUMENT).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "no_leader")
    );
    assert!(
        begun.elapsed() < quick_limits().deadline * 3,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_refusal_for_safety_is_passed_on_at_once() {
    let (leader, follower, network) = pair();
    leader.behave(Behaviour::Refuse(Unavailable::NotEnoughReplicas {
        in_sync: 1,
        min_in_sync: 2,
    }));
    let refused = follower.put("/resources/r", DOCUMENT).await;
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("not_enough_replicas", "1")
    );
    assert_eq!(network.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn reads_that_this_replica_cannot_serve_are_served_by_the_leader() {
    let network = Network::default();
    let leader = Replica::leader();
    network.join(LEADER, &leader);
    // Long enough for the follower to find out that it does not catch up.
    let limits = Limits {
        deadline: Duration::from_secs(8),
        ..quick_limits()
    };
    let follower = Replica::new(Behaviour::Lead, network, limits);
    follower.follow(LEADER);
    leader.put("/resources/r", DOCUMENT).await;
    assert_eq!(
        follower.get("/resources/r").await.code(),
        "not_found",
        "no session, no promise"
    );
    assert_eq!(
        follower
            .get("/resources/r?consistency=linearizable")
            .await
            .status,
        StatusCode::OK
    );
    let session = SessionToken {
        incarnation: HISTORY,
        epoch: 1,
        index: 1,
    }
    .to_string();
    let read = follower
        .send(with(
            request("GET", "/resources/r", ""),
            "percolate-session",
            &session,
        ))
        .await;
    assert_eq!(
        (read.status, read.header("percolate-role")),
        (StatusCode::OK, "leader")
    );
    let local = with(
        request("GET", "/resources/r?consistency=local", ""),
        "percolate-session",
        &session,
    );
    assert_eq!(
        follower.send(local).await.code(),
        "not_found",
        "local asks nobody"
    );
}

#[tokio::test]
async fn a_request_crosses_a_real_connection_unchanged() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let leader = Replica::leader();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = leader.router.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let trusting_nobody = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let forwarder = HttpForwarder::new(trusting_nobody).unwrap();
    let follower = Replica::new(Behaviour::Lead, forwarder, quick_limits());
    follower.follow(&url);
    let id = "/resources/a%2Fb%20%25%5C%C3%A4";
    let written = follower.put(id, DOCUMENT).await;
    let answer = (written.status, written.header("percolate-role"));
    assert_eq!(
        answer,
        (StatusCode::CREATED, "leader"),
        "{}",
        written.detail()
    );
    assert_eq!(leader.get(id).await.json()["id"], "a/b %\\\u{e4}");
    let read = follower
        .get(&format!("{id}?consistency=linearizable"))
        .await;
    assert_eq!(read.header("etag"), written.header("etag"));
    assert_eq!(follower.put(id, "{").await.code(), "bad_request");

    serving.abort();
    let _ = serving.await;
    let refused = follower.put(id, DOCUMENT).await;
    assert_eq!(refused.code(), "no_leader", "{}", refused.detail());
}
