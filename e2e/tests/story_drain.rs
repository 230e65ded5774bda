//! `kubectl drain` of the leader's machine under load: the lead is handed over before the pod ends,
//! and the budget keeps the other pod where it is until the first is back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_crds::names;
use percolate_crds::replication::FailoverReason;
use percolate_e2e::api::Api;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::Tenant;
use serde_json::json;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_machine_hands_over_first_and_the_budget_keeps_the_rest() {
    story::run("drain", |ground| async move {
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("drained", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let before = tenant.view().await?;
        let leader = before.leader().context("no leader")?.to_owned();
        let follower = before.follower().context("no follower")?;
        let place = |pod: &str| before.node_of(pod).map(str::to_owned);
        let (first, second) = (place(&leader), place(&follower));
        let first = first.context("the leader is nowhere")?;
        let second = second.context("the follower is nowhere")?;
        ensure!(first != second, "both replicas are on {first}");
        let begun = load.elapsed();
        let drained = drain_both(&ground, &tenant, &load, [&first, &second]).await;
        for node in [&first, &second] {
            let uncordon = ["uncordon", node.as_str()];
            ground.installation.run_kubectl(&uncordon).await?;
        }
        drained?;
        let after = tenant.wait_settled(2, LIMIT).await?;
        ensure!(
            after.uid(&follower) == before.uid(&follower),
            "{follower} was evicted though its budget forbids it"
        );
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let unknown = history::unknown_writes(&record.histories);
        ensure!(unknown == 0, "{unknown} writes were never answered");
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &[begun]);
        say(&gaps::table(
            "longest pause after a drain began",
            &gaps::histogram(&pauses)?,
        ));
        Ok(())
    })
    .await;
}

/// The first machine gives its pod away; the second keeps its own, which now leads.
async fn drain_both(
    ground: &Ground,
    tenant: &Tenant,
    load: &Load,
    nodes: [&String; 2],
) -> Result<()> {
    let [first, second] = nodes;
    let before = tenant.view().await?;
    drain(ground, tenant, first, "90s").await?;
    let after = tenant
        .wait("the other replica leads", LIMIT, |view| {
            view.leader() != before.leader()
        })
        .await?;
    let failover = after.register.and_then(|register| register.last_failover);
    let reason = failover.map(|failover| failover.reason);
    ensure!(
        reason == Some(FailoverReason::HandedOver),
        "the lead changed for another reason: {reason:?}"
    );
    load.wait_acknowledged(WRITES, LIMIT).await?;
    let refused = drain(ground, tenant, second, "10s").await;
    ensure!(refused.is_err(), "the last replica was evicted, too");
    load.wait_acknowledged(WRITES, LIMIT).await
}

/// The tenant's pods only, by a name that no other tenant of the cluster has: the rest is no part of the story.
async fn drain(ground: &Ground, tenant: &Tenant, node: &str, timeout: &str) -> Result<()> {
    let selector = format!("--pod-selector={}", names::selector_string(&tenant.name));
    let timeout = format!("--timeout={timeout}");
    let drain = [
        "drain",
        node,
        &selector,
        &timeout,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
    ];
    let said = ground.installation.run_kubectl(&drain).await;
    said.map(drop)
}
