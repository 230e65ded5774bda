//! A leader is cut off from its follower and goes on taking writes that it cannot acknowledge; the
//! other leads meanwhile. When the cable is back the writes are there, and counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_e2e::api::{Api, Request};
use percolate_e2e::cluster::Cluster;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::{Tenant, View};
use serde_json::json;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_mins(1);
const WRITES: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replaced_leader_could_not_acknowledge_is_merged_and_counted() {
    story::run("rescue", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: machines of your cluster cannot be parted from here");
            return Ok(());
        }
        // With two in sync demanded the leader cannot go on alone: what it takes stays unacknowledged.
        let spec = json!({
            "replicas": 2,
            "replication": {"minInSync": 2},
            "storage": {"size": "64Mi"},
        });
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let before = tenant
            .wait("two replicas are in sync", LIMIT, |view| {
                view.in_sync() == 2
            })
            .await?;
        let acknowledged = strand_writes(&ground, &tenant, &api, &before).await?;
        let view = tenant
            .wait("what was not acknowledged is counted", LIMIT, |view| {
                rescued(view) > 0
            })
            .await?;
        say(&format!(
            "  of {WRITES} writes {acknowledged} were acknowledged, {} rescued",
            rescued(&view)
        ));
        // What came too late for the leader that was cut off went to the other one.
        let there = i64::try_from(count_writes(&api).await?)?;
        ensure!(
            there == rescued(&view) + i64::try_from(acknowledged)?,
            "{there} of the writes are there"
        );
        Ok(())
    })
    .await;
}

fn rescued(view: &View) -> i64 {
    let register = view.register.as_ref();
    let failover = register.and_then(|register| register.last_failover.as_ref());
    failover.map_or(0, |failover| failover.rescued)
}

/// Parts the replicas, writes at the leader, and joins them again once the other leads. How many
/// writes were acknowledged.
async fn strand_writes(
    ground: &Ground,
    tenant: &Tenant,
    api: &Api,
    before: &View,
) -> Result<usize> {
    let leader = before.leader().context("no leader")?.to_owned();
    let place = |pod: &str| before.node_of(pod).map(str::to_owned);
    let one = place(&leader).context("the leader is nowhere")?;
    let other = before.follower().context("no follower")?;
    let other = place(&other).context("the follower is nowhere")?;
    ensure!(one != other, "both replicas are on {one}");
    let (from, to) = (one.clone(), other.clone());
    let part = move |cluster: &Cluster| cluster.part_nodes(&from, &to);
    ground.installation.on_cluster(part).await?;
    // At once, before the leader finds itself alone and refuses.
    let mut writes = JoinSet::new();
    for number in 0..WRITES {
        let (api, leader) = (api.clone(), leader.clone());
        let content = json!({"content": "never acknowledged"});
        let write = Request::put(format!("/resources/stranded-{number}"), &content);
        writes.spawn(async move { api.send(&leader, &write).await });
    }
    let replaced = tenant
        .wait("the other leads", LIMIT, |view| {
            view.epoch() > before.epoch() && view.leader() != Some(&leader)
        })
        .await;
    let join = move |cluster: &Cluster| cluster.rejoin_nodes(&one, &other);
    ground.installation.on_cluster(join).await?;
    replaced?;
    let mut acknowledged = 0;
    while let Some(write) = writes.join_next().await {
        let answered = write?.is_ok_and(|reply| reply.status.is_success());
        acknowledged += usize::from(answered);
    }
    Ok(acknowledged)
}

async fn count_writes(api: &Api) -> Result<usize> {
    let mut there = 0;
    for number in 0..WRITES {
        let read = Request::get(format!(
            "/resources/stranded-{number}?consistency=linearizable"
        ));
        there += usize::from(api.send_to_any(&read).await?.status.is_success());
    }
    Ok(there)
}
