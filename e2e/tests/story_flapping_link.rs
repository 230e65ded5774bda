//! The link between leader and follower goes up and down: whoever leads, leaders change no faster than
//! patience runs out, writes go on as soon as it rests, and nothing is missing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_e2e::api::Api;
use percolate_e2e::cluster::Cluster;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::Tenant;
use serde_json::json;
use tokio::time::sleep;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
/// Shorter and longer than a heartbeat, and two that outlast a leader's patience.
const DOWN_MS: [u64; 8] = [200, 900, 300, 2_400, 100, 1_200, 2_600, 400];
const UP: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn a_flapping_link_costs_pauses_and_no_write() {
    story::run("flapping-link", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: machines of your cluster cannot be parted from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let before = tenant.view().await?;
        let begun = load.elapsed();
        flap(&ground, &tenant).await?;
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let after = tenant
            .wait("both are in sync again", LIMIT, |view| view.in_sync() == 2)
            .await?;
        let changes = after.epoch() - before.epoch();
        ensure!(
            usize::try_from(changes)? <= DOWN_MS.len(),
            "{changes} changes of leader for {} cuts",
            DOWN_MS.len()
        );
        let record = load.stop_and_check().await?;
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &[begun]);
        say(&format!("  {changes} changes of leader"));
        say(&gaps::table(
            "longest pause while the link flapped",
            &gaps::histogram(&pauses)?,
        ));
        Ok(())
    })
    .await;
}

async fn flap(ground: &Ground, tenant: &Tenant) -> Result<()> {
    let view = tenant.view().await?;
    let place = |pod: &str| view.node_of(pod).map(str::to_owned);
    let leader = place(view.leader().context("no leader")?);
    let follower = place(&view.follower().context("no follower")?);
    let leader = leader.context("the leader is nowhere")?;
    let follower = follower.context("the follower is nowhere")?;
    ensure!(leader != follower, "both replicas are on {leader}");
    for down_ms in DOWN_MS {
        let (one, other) = (leader.clone(), follower.clone());
        let part = move |cluster: &Cluster| cluster.part_nodes(&one, &other);
        ground.installation.on_cluster(part).await?;
        sleep(Duration::from_millis(down_ms)).await;
        let (one, other) = (leader.clone(), follower.clone());
        let rejoin = move |cluster: &Cluster| cluster.rejoin_nodes(&one, &other);
        ground.installation.on_cluster(rejoin).await?;
        sleep(UP).await;
    }
    Ok(())
}
