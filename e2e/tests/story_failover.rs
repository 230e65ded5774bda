//! The leader's process is killed again and again under load: nothing acknowledged is lost, nothing
//! is applied twice, no session reads the past, and a new leader serves within seconds.

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

const WRITERS: usize = 64;
const KILLS: usize = 20;
/// Sets the number of kills.
const KILLS_VARIABLE: &str = "PERCOLATE_KILLS";
/// Writes between two kills.
const WRITES: usize = 100;
/// Far above what is promised: times are shown, and judged on a quiet machine.
const LIMIT: Duration = Duration::from_mins(1);
/// No single pause may come near what a person would call an outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn killed_leaders_are_replaced_and_nothing_acknowledged_is_lost() {
    story::run("failover", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: processes of your cluster cannot be killed from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "256Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        let mut faults = Vec::new();
        for number in 1..=kills()? {
            load.wait_acknowledged(WRITES, LIMIT).await?;
            say(&format!(
                "  kill {number}, {} writes so far",
                load.acknowledged()
            ));
            faults.push(kill_leader(&ground, &tenant, &load).await?);
        }
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let acknowledged = history::acknowledgements(&record.histories);
        let pauses = gaps::pauses(&acknowledged, &faults);
        ensure!(
            pauses.len() == faults.len(),
            "a kill after which nothing was written"
        );
        let histogram = gaps::histogram(&pauses)?;
        say(&gaps::table(
            "from last to next acknowledged write after a kill",
            &histogram,
        ));
        let longest = pauses.iter().max().copied().unwrap_or_default();
        ensure!(
            longest <= LONGEST_PAUSE,
            "no write was acknowledged for {longest:?}"
        );
        Ok(())
    })
    .await;
}

/// Kills the leader and waits until another one leads and both replicas are in sync again. Gives
/// back when it was killed.
async fn kill_leader(ground: &Ground, tenant: &Tenant, load: &Load) -> Result<Duration> {
    let before = tenant
        .wait("two replicas are in sync", LIMIT, |view| {
            view.in_sync() == 2
        })
        .await?;
    let leader = before.leader().context("no leader")?.to_owned();
    let (namespace, pod) = (ground.namespace.clone(), leader.clone());
    let kill = move |cluster: &Cluster| cluster.kill_in_pod(&namespace, &pod, names::CONTAINER);
    let killed_at = load.elapsed();
    ground.installation.on_cluster(kill).await?;
    let epoch = before.epoch();
    tenant
        .wait("a leader of a later epoch leads", LIMIT, |view| {
            view.epoch() > epoch
        })
        .await?;
    tenant
        .wait("the killed one is back in sync", LIMIT, |view| {
            view.in_sync() == 2
        })
        .await?;
    Ok(killed_at)
}

fn kills() -> Result<usize> {
    match std::env::var(KILLS_VARIABLE) {
        Ok(count) => count
            .parse()
            .with_context(|| format!("{KILLS_VARIABLE} must be a number, not {count:?}")),
        Err(_) => Ok(KILLS),
    }
}
