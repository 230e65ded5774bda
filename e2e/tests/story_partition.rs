//! Leader and follower cannot hear each other, in both directions or in one, and both reach the API
//! server: exactly one of them acknowledges, and when the cable is back nothing is missing.

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

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
/// A partition may cost one change of leader and one back, not a contest.
const EPOCHS_MOST: i64 = 2;

/// What is lost: everything between the two machines, or what one says to the other.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Both,
    FromLeader,
    FromFollower,
}

#[tokio::test(flavor = "multi_thread")]
async fn parted_replicas_agree_on_one_that_acknowledges() {
    story::run("partition", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: machines of your cluster cannot be parted from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        let mut faults = Vec::new();
        for cut in [Cut::Both, Cut::FromLeader, Cut::FromFollower] {
            load.wait_acknowledged(WRITES, LIMIT).await?;
            say(&format!("  cut: {cut:?}"));
            faults.push(part(&ground, &tenant, &load, cut).await?);
        }
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &faults);
        ensure!(pauses.len() == 3, "a cut after which nothing was written");
        say(&gaps::table(
            "from last to next acknowledged write after a cut",
            &gaps::histogram(&pauses)?,
        ));
        Ok(())
    })
    .await;
}

/// Parts the replicas until one of them is alone in sync and has acknowledged more. Gives back when.
async fn part(ground: &Ground, tenant: &Tenant, load: &Load, cut: Cut) -> Result<Duration> {
    let before = tenant
        .wait("two replicas are in sync", LIMIT, |view| {
            view.in_sync() == 2
        })
        .await?;
    let place = |pod: &str| {
        before
            .node_of(pod)
            .map(str::to_owned)
            .context("a pod is nowhere")
    };
    let leader = place(before.leader().context("no leader")?)?;
    let follower = place(&before.follower().context("no follower")?)?;
    ensure!(leader != follower, "both replicas are on {leader}");
    let cut_at = load.elapsed();
    let (one, other) = (leader.clone(), follower.clone());
    let fault = move |cluster: &Cluster| match cut {
        Cut::Both => cluster.part_nodes(&one, &other),
        Cut::FromLeader => cluster.drop_from(&one, &other),
        Cut::FromFollower => cluster.drop_from(&other, &one),
    };
    ground.installation.on_cluster(fault).await?;
    let alone = tenant
        .wait("one replica is in sync", LIMIT, |view| view.in_sync() == 1)
        .await;
    let written = load.wait_acknowledged(WRITES, LIMIT).await;
    let heal = move |cluster: &Cluster| cluster.rejoin_nodes(&leader, &follower);
    ground.installation.on_cluster(heal).await?;
    alone?;
    written?;
    let after = tenant
        .wait("both are in sync again", LIMIT, |view| view.in_sync() == 2)
        .await?;
    let changes = after.epoch() - before.epoch();
    ensure!(
        changes <= EPOCHS_MOST,
        "{changes} changes of leader for one cut"
    );
    Ok(cut_at)
}
