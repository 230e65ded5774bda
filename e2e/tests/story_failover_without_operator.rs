//! The operator is away: tenants serve and fail over by themselves.

use std::time::Duration;

use anyhow::{Context, Result};
use percolate_crds::names;
use percolate_e2e::api::Api;
use percolate_e2e::cluster::Cluster;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::Tenant;
use serde_json::json;

const WRITERS: usize = 16;
const KILLS: usize = 5;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_replaced_while_no_operator_runs() {
    story::run("failover-without-operator", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: processes of your cluster cannot be killed from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        ground.installation.scale_operator(0).await?;
        let failed_over = fail_over(&ground, &tenant).await;
        // Also when it failed: the story's end needs the operator.
        ground.installation.scale_operator(1).await?;
        failed_over?;
        tenant.wait_settled(2, story::READY_LIMIT).await.map(drop)
    })
    .await;
}

async fn fail_over(ground: &Ground, tenant: &Tenant) -> Result<()> {
    let api = Api::of(tenant).await?;
    let load = Load::start(&api, WRITERS);
    let mut faults = Vec::new();
    for _ in 0..KILLS {
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let before = tenant
            .wait("two replicas are in sync", LIMIT, |view| {
                view.in_sync() == 2
            })
            .await?;
        let (namespace, pod) = (
            ground.namespace.clone(),
            before.leader().context("no leader")?.to_owned(),
        );
        let kill = move |cluster: &Cluster| cluster.kill_in_pod(&namespace, &pod, names::CONTAINER);
        faults.push(load.elapsed());
        ground.installation.on_cluster(kill).await?;
        tenant
            .wait("a leader of a later epoch leads", LIMIT, |view| {
                view.epoch() > before.epoch()
            })
            .await?;
    }
    load.wait_acknowledged(WRITES, LIMIT).await?;
    let record = load.stop_and_check().await?;
    let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &faults);
    say(&gaps::table(
        "without an operator, from last to next acknowledged write",
        &gaps::histogram(&pauses)?,
    ));
    Ok(())
}
