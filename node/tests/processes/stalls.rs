//! A leader that is told to stop while its disk hangs (F36): it ends within a pod's grace, and what it
//! acknowledged is there, as it is when the grace runs out for it.

use std::time::{Duration, Instant};

use crate::clients::{Acknowledged, Client, Request};
use crate::replicas::Replicas;
use crate::{TURN, until};

/// What the operator gives pods to end in.
const GRACE: Duration = Duration::from_mins(1);
const WRITES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_told_to_stop_while_its_disk_hangs_ends_in_time_and_loses_nothing() {
    let _turn = TURN.lock().await;
    let mut replicas = Replicas::start(2).await;
    let (client, mut acknowledged) = (Client::new(&replicas), Acknowledged::default());
    for (round, is_killed) in [false, true].into_iter().enumerate() {
        for number in 0..WRITES {
            let id = format!("before-{round}-{number}");
            client.write(&replicas, &mut acknowledged, &id, &id).await;
        }
        let leader = replicas.leader();
        let stalled = stall(&replicas, &client, leader, round).await;
        let told = Instant::now();
        replicas.signal(leader, "TERM");
        if is_killed {
            replicas.signal(leader, "KILL");
        }
        let status = replicas.ended(leader).await;
        assert!(told.elapsed() < GRACE, "it outlives its grace");
        assert_eq!(status.success(), !is_killed, "{status}");
        replicas.shims[leader].set_syncs_hang(false);
        // What was under way has an unknown outcome: the same key gets the first answer, or does it.
        for id in stalled {
            client.write(&replicas, &mut acknowledged, &id, &id).await;
        }
        replicas.revive(leader);
        replicas.wait_in_sync(2).await;
    }
    acknowledged.check(&replicas, &client).await;
}

/// Hang the disk of the leader under writes, and give back which wait for it.
async fn stall(replicas: &Replicas, client: &Client, leader: usize, round: usize) -> Vec<String> {
    let hung_before = replicas.shims[leader].hanging();
    replicas.shims[leader].set_syncs_hang(true);
    let ids: Vec<String> = (0..WRITES)
        .map(|number| format!("stalled-{round}-{number}"))
        .collect();
    for id in &ids {
        let request = Request::put(id, id).with("idempotency-key", &format!("key-{id}"));
        let asked = client.ask(replicas, leader, request);
        tokio::spawn(asked);
    }
    until("the disk hangs", || {
        let hangs = replicas.shims[leader].hanging() > hung_before;
        std::future::ready(hangs.then_some(()))
    })
    .await;
    ids
}
