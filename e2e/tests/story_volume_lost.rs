//! A follower's volume is deleted under load: a new one is made and filled from the leader, nobody
//! has to do anything, and the emptied disk counts as a new replica.

use std::time::Duration;

use anyhow::{Context, ensure};
use percolate_e2e::api::Api;
use percolate_e2e::load::Load;
use percolate_e2e::story::{self, READY_LIMIT};
use percolate_e2e::tenant::View;
use serde_json::json;

const WRITERS: usize = 8;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_volume_is_replaced_and_cloned() {
    story::run("volume-lost", |ground| async move {
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let before = tenant.view().await?;
        let follower = before.follower().context("no follower")?;
        let lost = before
            .in_sync_replica(&follower)
            .context("the register lacks it")?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        tenant.lose_volume(&follower).await?;
        let is_replaced = |view: &View| {
            let replica = view.in_sync_replica(&follower);
            view.uid(&follower) != before.uid(&follower)
                && replica.is_some_and(|replica| replica != lost)
                && view.is_settled(2)
        };
        let after = tenant
            .wait(
                "a new replica is in sync on a new volume",
                READY_LIMIT,
                is_replaced,
            )
            .await?;
        let register = after.register.context("no register")?;
        ensure!(
            !register.in_sync.contains(&lost),
            "the replica of the lost volume still counts as in sync"
        );
        load.wait_acknowledged(WRITES, LIMIT).await?;
        load.stop_and_check().await.map(drop)
    })
    .await;
}
