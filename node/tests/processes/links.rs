//! What links may do to what is sent over them: swallow it without a word (F13), change bits of it
//! (F26), let it arrive twice or long after (F25). Heartbeats notice the first, TLS the others; what a
//! client is told holds.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clients::{Acknowledged, Client, Request};
use crate::proxy::Way;
use crate::replicas::Replicas;
use crate::{TURN, until};

const WRITES: usize = 10;
/// More than a sign of life apart: messages pass meanwhile in any case.
const BETWEEN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_without_a_reset_hangs_no_write() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(2).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    client
        .write(&replicas, &mut acknowledged, "before", "b")
        .await;
    let (leader, epoch) = (replicas.leader(), replicas.epoch());
    replicas.set_ways(Way::Swallow);
    // One request, without trying again: it is answered though its follower never says a word.
    let request = Request::put("while", "w").with("idempotency-key", "key-while");
    let answer = client.ask(&replicas, leader, request).await;
    let answer = answer.expect("the leader answers");
    assert!(answer.status.is_success(), "{answer:?}");
    acknowledged.add("while", "w", &answer);
    replicas.wait_in_sync(1).await;
    assert_eq!(
        (replicas.leader(), replicas.epoch()),
        (leader, epoch),
        "who leads goes on to lead"
    );
    replicas.set_ways(Way::Open);
    replicas.wait_in_sync(2).await;
    client
        .write(&replicas, &mut acknowledged, "after", "a")
        .await;
    acknowledged.check(&replicas, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_repeated_bytes_cost_a_connection_and_no_write() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(2).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    for way in [Way::Flip, Way::Repeat] {
        let leader = replicas.leader();
        let messages = &replicas.ways(leader, 1 - leader)[0];
        let (connections, spoilt) = (messages.connections(), messages.spoilt());
        messages.set(way);
        until(&format!("{way:?} meets what is sent"), || {
            std::future::ready((messages.spoilt() > spoilt).then_some(()))
        })
        .await;
        messages.set(Way::Open);
        for number in 0..WRITES {
            let id = format!("{way:?}-{number}");
            client.write(&replicas, &mut acknowledged, &id, &id).await;
        }
        replicas.wait_in_sync(2).await;
        until(&format!("{way:?} costs the connection"), || {
            let is_new = messages.connections() > connections;
            std::future::ready(is_new.then_some(()))
        })
        .await;
    }
    acknowledged.check(&replicas, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_connection_is_not_taken_again() {
    let _turn = TURN.lock().await;
    let replicas = Replicas::start(2).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    let leader = replicas.leader();
    for number in 0..WRITES {
        let id = format!("before-{number}");
        client.write(&replicas, &mut acknowledged, &id, &id).await;
    }
    let last = client
        .write(&replicas, &mut acknowledged, "last", "l")
        .await;
    let recorded = replicas.ways(leader, 1 - leader)[0].recorded();
    assert!(!recorded.is_empty(), "nothing was recorded");
    let mut connection = TcpStream::connect(replicas.peer(1 - leader))
        .await
        .expect("open");
    // It may end while this is being sent.
    let _ = connection.write_all(&recorded).await;
    let mut said = Vec::new();
    let _ = connection.read_to_end(&mut said).await;
    tokio::time::sleep(BETWEEN).await;
    let next = client
        .write(&replicas, &mut acknowledged, "next", "n")
        .await;
    assert_eq!(
        next.place(),
        (last.place().0, last.place().1 + 1),
        "nothing came between"
    );
    replicas.wait_in_sync(2).await;
    acknowledged.check(&replicas, &client).await;
}
