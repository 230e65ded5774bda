//! Scaled up and down under load: the leader hands over by itself, no write is lost and none fails.

use std::time::Duration;

use anyhow::ensure;
use percolate_e2e::api::Api;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, READY_LIMIT};
use serde_json::json;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
/// From one replica, up and down again.
const STEPS: [u8; 3] = [3, 2, 1];

#[tokio::test(flavor = "multi_thread")]
async fn scaling_under_load_loses_and_fails_nothing() {
    story::run("scaling", |ground| async move {
        let spec = json!({"replicas": 1, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        let mut steps = Vec::new();
        for replicas in STEPS {
            load.wait_acknowledged(WRITES, LIMIT).await?;
            say(&format!("  to {replicas} replicas"));
            steps.push(load.elapsed());
            tenant.scale(i32::from(replicas)).await?;
            let view = tenant
                .wait_settled(usize::from(replicas), READY_LIMIT)
                .await?;
            let leader = view.leader().unwrap_or_default();
            ensure!(
                view.ready_pods().contains(&leader),
                "{leader} leads and is gone"
            );
        }
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let unknown = history::unknown_writes(&record.histories);
        ensure!(unknown == 0, "{unknown} writes were never answered");
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &steps);
        say(&gaps::table(
            "longest pause of each step",
            &gaps::histogram(&pauses)?,
        ));
        let claims = tenant.kubectl(&["get", "pvc", "-o", "name"]).await?;
        ensure!(
            claims.lines().count() == 1,
            "volumes of dropped replicas stay behind:\n{claims}"
        );
        Ok(())
    })
    .await;
}
