//! The pods are replaced under load: followers first, then a handover, the former leader last.

use std::time::Duration;

use anyhow::{Context, ensure};
use percolate_e2e::api::Api;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story;
use percolate_e2e::tenant::View;
use serde_json::json;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
const ROLL_LIMIT: Duration = Duration::from_mins(5);
const PODS: [&str; 3] = ["acme-0", "acme-1", "acme-2"];

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_out_replaces_followers_first_and_hands_over() {
    story::run("rolling-update", |ground| async move {
        let spec = json!({"replicas": 3, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let before = tenant.view().await?;
        let leader = before.leader().context("no leader")?.to_owned();
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let begun = load.elapsed();
        let change = json!({"spec": {"template": {"annotations": {"example.org/revision": "2"}}}});
        tenant.patch(&change).await?;
        let is_replaced = |view: &View| PODS.iter().all(|pod| view.uid(pod) != before.uid(pod));
        let after = tenant
            .wait("every pod is new and in sync", ROLL_LIMIT, |view| {
                is_replaced(view) && view.is_settled(PODS.len())
            })
            .await?;
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let unknown = history::unknown_writes(&record.histories);
        ensure!(unknown == 0, "{unknown} writes were never answered");
        let created = |pod: &str| {
            let found = after
                .pods
                .iter()
                .find(|found| found.metadata.name.as_deref() == Some(pod));
            found.and_then(|pod| pod.metadata.creation_timestamp.clone())
        };
        for pod in PODS {
            ensure!(
                created(pod).map(|time| time.0) <= created(&leader).map(|time| time.0),
                "{pod} was replaced after {leader}, which led"
            );
        }
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &[begun]);
        say(&gaps::table(
            "longest pause of the roll-out",
            &gaps::histogram(&pauses)?,
        ));
        Ok(())
    })
    .await;
}
