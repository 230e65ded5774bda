//! The machine of the leader is cut off: another replica takes over, the lost one is made anew on a
//! third machine, and when the machine is back nothing that was on it comes between.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use percolate_e2e::api::Api;
use percolate_e2e::gaps;
use percolate_e2e::history;
use percolate_e2e::install::SYSTEM_NAMESPACE;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::{Tenant, View};
use serde_json::json;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_secs(90);
/// The controller manager's grace for a silent node, the operator's for its volume, then a clone.
const REPLACED_LIMIT: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_machine_costs_seconds_and_no_write() {
    story::run("node-lost", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: nodes of your cluster cannot be cut off from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let cut_at = load.elapsed();
        let node = cut_leaders_node(&ground, &tenant).await?;
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let is_replaced =
            |view: &View| view.is_settled(2) && view.pods.iter().all(|pod| !is_on(pod, &node));
        tenant
            .wait(
                "both replicas are on machines that live",
                REPLACED_LIMIT,
                is_replaced,
            )
            .await?;
        let name = node.clone();
        ground
            .installation
            .on_cluster(move |cluster| cluster.heal_node(&name))
            .await?;
        let name = format!("node/{node}");
        let ready = ["wait", "--for=condition=Ready", "--timeout=120s"];
        ground.kubectl(&[&ready[..], &[&name]].concat()).await?;
        tenant.wait_settled(2, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &[cut_at]);
        say(&gaps::table(
            "from last to next acknowledged write after a machine was lost",
            &gaps::histogram(&pauses)?,
        ));
        Ok(())
    })
    .await;
}

async fn cut_leaders_node(ground: &Ground, tenant: &Tenant) -> Result<String> {
    let before = tenant.view().await?;
    let leader = before.leader().context("no leader")?;
    let follower = before.follower().context("no follower")?;
    let node = before
        .node_of(leader)
        .context("the leader is nowhere")?
        .to_owned();
    ensure!(
        before.node_of(&follower) != Some(node.as_str()),
        "both replicas are on {node}"
    );
    move_operator_from(ground, &node).await?;
    let name = node.clone();
    ground
        .installation
        .on_cluster(move |cluster| cluster.cut_node(&name))
        .await?;
    tenant
        .wait("the replica on another machine leads", LIMIT, |view| {
            view.leader() == Some(follower.as_str())
        })
        .await?;
    Ok(node)
}

/// The operator has one replica here, and a cut-off one is replaced only after five minutes.
async fn move_operator_from(ground: &Ground, node: &str) -> Result<()> {
    let pods = ["-n", SYSTEM_NAMESPACE, "get", "pods", "-o"];
    let nodes = "jsonpath={.items[*].spec.nodeName}";
    let installation = &ground.installation;
    let found = installation
        .run_kubectl(&[&pods[..], &[nodes]].concat())
        .await?;
    if !found.contains(node) {
        return Ok(());
    }
    installation.run_kubectl(&["cordon", node]).await?;
    let moved = installation.scale_operator(0).await;
    let moved = moved.and(installation.scale_operator(1).await);
    installation.run_kubectl(&["uncordon", node]).await?;
    moved
}

fn is_on(pod: &Pod, node: &str) -> bool {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref()) == Some(node)
}
