//! Clocks that are hours apart, run at double speed, and jump (F21): safety reads none of them, and the
//! order of writes does not follow them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::TURN;
use crate::clients::{Acknowledged, Client, Request};
use crate::replicas::Replicas;

const HOUR: i64 = 3_600;
const WRITES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_jumping_clocks_lose_nothing_and_reorder_nothing() {
    let _turn = TURN.lock().await;
    let mut replicas = Replicas::prepare(3).await;
    replicas.shims[0].set_wall_clock(HOUR);
    replicas.shims[1].set_wall_clock(-HOUR);
    replicas.shims[2].set_rate(2_000);
    for ordinal in 0..3 {
        replicas.revive(ordinal);
    }
    replicas.wait_in_sync(3).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    let mut versions = Vec::new();
    // Each leader is an hour or two behind the one before it, and jumps while it leads.
    for round in 0..3 {
        let leader = replicas.leader();
        replicas.shims[leader].set_wall_clock(-round * HOUR);
        for number in 0..WRITES {
            let id = format!("{round}-{number}");
            client.write(&replicas, &mut acknowledged, &id, &id).await;
            if number == WRITES / 2 {
                replicas.shims[leader].set_wall_clock(-(round + 3) * HOUR);
            }
            versions.push(touch(&client, &replicas, round, number).await);
        }
        replicas.kill(leader).await;
        let id = format!("{round}-after");
        client.write(&replicas, &mut acknowledged, &id, &id).await;
        replicas.revive(leader);
        replicas.wait_in_sync(3).await;
    }
    assert_eq!(acknowledged.len(), 3 * (WRITES + 1));
    acknowledged.check(&replicas, &client).await;
    let times: Vec<Timestamp> = versions
        .iter()
        .map(|version| version["updated_at"].as_str().expect("a time"))
        .map(|time| time.parse().expect("as the API writes times"))
        .collect();
    assert!(times.is_sorted(), "time runs backwards: {times:?}");
    let last = versions.last().expect("some");
    for ordinal in 0..3 {
        let shown = crate::until("the last write is shown", || {
            let request = Request::get("/entities/clock?consistency=local");
            let answer = client.ask(&replicas, ordinal, request);
            async move {
                let shown = answer.await.ok()?.json();
                (shown["etag"] == last["etag"]).then_some(shown)
            }
        })
        .await;
        assert_eq!(shown["properties"], last["properties"], "at {ordinal}");
    }
}

/// Overwrites one property, and gives back what is shown then.
async fn touch(client: &Client, replicas: &Replicas, round: i64, number: usize) -> Value {
    let body = json!({"type": "clock", "properties": {"round": round, "number": number}});
    let key = format!("touch-{round}-{number}");
    let shown = crate::until("the property is overwritten", || {
        let write = Request::put_entity("clock", &body).with("idempotency-key", &key);
        async move {
            let leader = replicas.leader();
            let written = client.ask(replicas, leader, write).await.ok()?;
            if !written.status.is_success() {
                return None;
            }
            let read = Request::get("/entities/clock?consistency=linearizable");
            let shown = client.ask(replicas, leader, read).await.ok()?;
            shown.status.is_success().then(|| shown.json())
        }
    })
    .await;
    assert_eq!(
        shown["properties"], body["properties"],
        "an older write won over a later one"
    );
    shown
}
