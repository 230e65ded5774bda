//! The API server is stopped: tenants read and write on, and everything is in order when it is back.

use std::time::Duration;

use anyhow::{Context, ensure};
use percolate_e2e::api::Api;
use percolate_e2e::cluster::control_plane::API_SERVER;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story;
use serde_json::json;
use tokio::time::sleep;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
const OUTAGE_SECONDS: u64 = 120;
/// Sets how long the API server is away.
const OUTAGE_VARIABLE: &str = "PERCOLATE_OUTAGE_SECONDS";
/// Writing goes on as if nothing had happened; this is far above what a busy machine adds.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_while_the_api_server_is_away() {
    story::run("api-server-outage", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: the API server of your cluster cannot be stopped from here");
            return Ok(());
        }
        let outage = match std::env::var(OUTAGE_VARIABLE) {
            Ok(seconds) => seconds.parse().context(OUTAGE_VARIABLE)?,
            Err(_) => OUTAGE_SECONDS,
        };
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let epoch = tenant.view().await?.epoch();
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let stopped_at = load.elapsed();
        ground
            .installation
            .on_cluster(|cluster| cluster.kill(API_SERVER))
            .await?;
        say(&format!("  the API server is away for {outage} s"));
        sleep(Duration::from_secs(outage)).await;
        let written = load.wait_acknowledged(WRITES, LIMIT).await;
        // Also when nothing was written: every other story needs it.
        ground
            .installation
            .on_cluster(|cluster| cluster.restart(API_SERVER))
            .await?;
        written.context("while the API server was away")?;
        tenant.wait_settled(2, story::READY_LIMIT).await?;
        ensure!(
            tenant.view().await?.epoch() == epoch,
            "the leader changed because the API server was away"
        );
        let record = load.stop_and_check().await?;
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &[stopped_at]);
        say(&gaps::table(
            "longest pause of the outage",
            &gaps::histogram(&pauses)?,
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
