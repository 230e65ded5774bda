//! More than a node can do: every client is answered, if only that it should come back; memory stays
//! within a bound; what was acknowledged is there; and afterwards all is as before.

use std::fmt::Write as _;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::TURN;
use crate::clients::{Acknowledged, Answer, Client, Request};
use crate::replicas::Replicas;

/// By how much a node may grow, whatever it is asked: the sum of the limits in docs/limits.md.
const GROWTH_BYTES: u64 = 640 << 20;

/// Several times what a node holds of bodies, and of writes that wait.
const LARGE: usize = 600;
const LARGE_BYTES: usize = 256 << 10;

/// More than there are places for writes behind one that waits for long.
const SMALL: usize = 700;

/// What became of the requests of a flood.
#[derive(Default)]
struct Flood {
    acknowledged: Vec<(String, Answer)>,
    refused: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_large_bodies_over_a_disk_that_hangs_is_answered_within_memory() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(2).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    client
        .write(&replicas, &mut acknowledged, "before", "b")
        .await;
    let idle = [0, 1].map(|ordinal| replicas.memory(ordinal));
    let leader = replicas.leader();
    replicas.shims[leader].set_syncs_hang(true);
    let content = "x".repeat(LARGE_BYTES);
    let flood = {
        let ending = async {
            // Until the oldest has waited for longer than others are let in.
            tokio::time::sleep(std::time::Duration::from_secs(4)).await;
            replicas.shims[leader].set_syncs_hang(false);
        };
        tokio::join!(flood(&replicas, &client, LARGE, &content), ending).0
    };
    assert!(!flood.refused.is_empty(), "all were let in: no flood");
    assert!(!flood.acknowledged.is_empty(), "none was let in");
    println!(
        "{} acknowledged, {} refused",
        flood.acknowledged.len(),
        flood.refused.len()
    );
    check_memory(&replicas, &idle);
    for (id, answer) in &flood.acknowledged {
        acknowledged.add(id, &content, answer);
    }
    // Who was refused comes back.
    for id in flood.refused.iter().take(20) {
        client
            .write(&replicas, &mut acknowledged, id, &content)
            .await;
    }
    replicas.wait_in_sync(2).await;
    acknowledged.check(&replicas, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_places_beside_a_follower_that_hangs_are_answered() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(2).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    client
        .write(&replicas, &mut acknowledged, "before", "b")
        .await;
    let idle = [0, 1].map(|ordinal| replicas.memory(ordinal));
    let leader = replicas.leader();
    replicas.signal(1 - leader, "STOP");
    let flood = flood_at(&replicas, &client, &[leader], SMALL, "x").await;
    replicas.signal(1 - leader, "CONT");
    assert!(!flood.acknowledged.is_empty(), "none was let in");
    println!(
        "{} acknowledged, {} refused",
        flood.acknowledged.len(),
        flood.refused.len()
    );
    check_memory(&replicas, &idle);
    for (id, answer) in &flood.acknowledged {
        acknowledged.add(id, "x", answer);
    }
    replicas.wait_in_sync(2).await;
    client
        .write(&replicas, &mut acknowledged, "after", "a")
        .await;
    acknowledged.check(&replicas, &client).await;
}

/// Small on the wire, large in memory: compressed, or of many small values.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_grow_are_refused_within_memory() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(1).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    client
        .write(&replicas, &mut acknowledged, "before", "b")
        .await;
    let idle = [replicas.memory(0)];
    let megabytes = 15;
    let large = format!(r#"{{"content":"{}"}}"#, "x".repeat(megabytes << 20));
    let large = zstd::bulk::compress(large.as_bytes(), 3).expect("compressed");
    let mut zeros = String::from(r#"{"content":"","metadata":{"a":["#);
    for _ in 0..(megabytes << 19) {
        zeros.push_str("0,");
    }
    write!(zeros, "0]}}}}").expect("written");
    let zeros = zstd::bulk::compress(zeros.as_bytes(), 3).expect("compressed");
    let mut asked = JoinSet::new();
    for number in 0..48 {
        for (name, body) in [("large", &large), ("zeros", &zeros)] {
            let body = Bytes::from(body.clone());
            let request = Request::put_body(&format!("{name}-{number}"), body);
            let answer = client.ask(&replicas, 0, request.with("content-encoding", "zstd"));
            asked.spawn(async move { (name, answer.await.expect("an answer")) });
        }
    }
    while let Some(answered) = asked.join_next().await {
        let (name, answer) = answered.expect("no panic");
        let is_expected = match name {
            "zeros" => answer.status == StatusCode::BAD_REQUEST,
            _ => answer.status.is_success(),
        };
        assert!(is_expected || answer.is_refusal(), "{name}: {answer:?}");
    }
    check_memory(&replicas, &idle);
    client
        .write(&replicas, &mut acknowledged, "after", "a")
        .await;
}

async fn flood(replicas: &Replicas, client: &Client, count: usize, content: &str) -> Flood {
    flood_at(replicas, client, &[0, 1], count, content).await
}

/// All at once, one connection each, without trying again; every answer is a yes or a refusal.
async fn flood_at(
    replicas: &Replicas,
    client: &Client,
    at: &[usize],
    count: usize,
    content: &str,
) -> Flood {
    let body = Bytes::from(serde_json::json!({ "content": content }).to_string());
    let mut asked = JoinSet::new();
    for (number, ordinal) in (0..count).zip(at.iter().cycle()) {
        let id = format!("flood-{number}");
        let request = Request::put_body(&id, body.clone());
        let request = request
            .with("idempotency-key", &format!("key-{id}"))
            .with("connection", "close");
        let answer = client.ask(replicas, *ordinal, request);
        asked.spawn(async move { (id, answer.await.expect("an answer")) });
    }
    let mut flood = Flood::default();
    while let Some(answered) = asked.join_next().await {
        let (id, answer) = answered.expect("no panic");
        if answer.status.is_success() {
            flood.acknowledged.push((id, answer));
        } else {
            assert!(answer.is_refusal(), "{id}: {answer:?}");
            flood.refused.push(id);
        }
    }
    flood
}

fn check_memory(replicas: &Replicas, idle: &[u64]) {
    for (ordinal, idle) in idle.iter().enumerate() {
        let growth = replicas.most_memory(ordinal).saturating_sub(*idle);
        eprintln!("replica {ordinal} grew by {} MiB at most", growth >> 20);
        assert!(growth < GROWTH_BYTES, "replica {ordinal}: {growth} bytes");
    }
}
