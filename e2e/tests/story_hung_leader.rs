//! The leader hangs, as a stopped process does: connections stay open and nobody answers. Another
//! replica leads within seconds; when the hung one goes on, nothing it still had in mind counts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
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
const WRITES: usize = 100;
const HANGS: usize = 3;
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_leader_is_replaced_and_says_nothing_afterwards() {
    story::run("hung-leader", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: processes of your cluster cannot be stopped from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        let mut faults = Vec::new();
        for _ in 0..HANGS {
            load.wait_acknowledged(WRITES, LIMIT).await?;
            faults.push(hang_leader(&ground, &tenant, &load).await?);
        }
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &faults);
        ensure!(
            pauses.len() == HANGS,
            "a hang after which nothing was written"
        );
        say(&gaps::table(
            "from last to next acknowledged write after a hang",
            &gaps::histogram(&pauses)?,
        ));
        Ok(())
    })
    .await;
}

/// Hangs the leader until another one has been leading for a while. Gives back when it hung.
async fn hang_leader(ground: &Ground, tenant: &Tenant, load: &Load) -> Result<Duration> {
    let in_sync = "two replicas are in sync";
    let before = tenant
        .wait(in_sync, LIMIT, |view| view.in_sync() == 2)
        .await?;
    let leader = before.leader().context("no leader")?.to_owned();
    let hung_at = load.elapsed();
    signal(ground, &leader, Cluster::freeze_in_pod).await?;
    let replaced = tenant
        .wait("another replica leads", LIMIT, |view| {
            view.epoch() > before.epoch() && view.leader() != Some(&leader)
        })
        .await;
    let written = load.wait_acknowledged(WRITES, LIMIT).await;
    // It goes on whatever happened, or it would hang on after the story.
    signal(ground, &leader, Cluster::thaw_in_pod).await?;
    replaced?;
    written?;
    tenant
        .wait(in_sync, LIMIT, |view| view.in_sync() == 2)
        .await?;
    Ok(hung_at)
}

async fn signal<T: Send + 'static>(
    ground: &Ground,
    pod: &str,
    send: fn(&Cluster, &str, &str, &str) -> Result<T>,
) -> Result<()> {
    let (namespace, pod) = (ground.namespace.clone(), pod.to_owned());
    let signal = move |cluster: &Cluster| send(cluster, &namespace, &pod, names::CONTAINER);
    ground.installation.on_cluster(signal).await.map(drop)
}
