//! Two pods of the same name: the leader's machine is cut off, its pod is deleted by force and made
//! anew elsewhere, and then the machine is back while its kubelet still hangs, so that the old process
//! lives beside the new one. Identity is the disk's and not the pod's: nothing comes between.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use percolate_crds::names;
use percolate_e2e::api::Api;
use percolate_e2e::cluster::Cluster;
use percolate_e2e::install::SYSTEM_NAMESPACE;
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground};
use percolate_e2e::tenant::{Tenant, View};
use serde_json::json;
use tokio::time::sleep;

const WRITERS: usize = 16;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(300);

/// The pod that is there twice.
struct Twice {
    pod: String,
    node: String,
    /// Its first process, which is there for as long as this is.
    process: PathBuf,
    /// The disk of the first.
    replica: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_of_one_name_are_two_replicas_and_only_one_counts() {
    story::run("two-pods", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: nodes of your cluster cannot be cut off from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let twice = cut_and_replace(&ground, &tenant).await?;
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let judged = both_live(&ground, &tenant, &load, &twice).await;
        // Whatever was seen, the old one ends and the machine takes pods again.
        on_kubelet(&ground, &twice.node, Cluster::thaw).await?;
        let uncordon = ["uncordon", &twice.node];
        ground.installation.run_kubectl(&uncordon).await?;
        judged?;
        let thawed = Instant::now();
        while twice.process.exists() {
            ensure!(
                thawed.elapsed() < LIMIT,
                "the kubelet lets the old process of {} live",
                twice.pod
            );
            sleep(POLL).await;
        }
        tenant.wait_settled(2, LIMIT).await?;
        load.wait_acknowledged(WRITES, LIMIT).await?;
        load.stop_and_check().await?;
        Ok(())
    })
    .await;
}

/// Cut off the leader's machine and have its pod made anew, with another disk, on another one.
async fn cut_and_replace(ground: &Ground, tenant: &Tenant) -> Result<Twice> {
    let before = tenant.view().await?;
    let pod = before.leader().context("no leader")?.to_owned();
    let follower = before.follower().context("no follower")?;
    let node = before.node_of(&pod).context("the leader is nowhere")?;
    let node = node.to_owned();
    ensure!(
        before.node_of(&follower) != Some(node.as_str()),
        "both replicas are on {node}"
    );
    let replica = before.in_sync_replica(&pod).context("not in sync")?;
    let (namespace, name) = (ground.namespace.clone(), pod.clone());
    let find = move |cluster: &Cluster| cluster.pod_process(&namespace, &name, names::CONTAINER);
    let process = ground.installation.on_cluster(find).await?.pid;
    let cordon = ["cordon", &node];
    ground.installation.run_kubectl(&cordon).await?;
    move_operator_from(ground, &node).await?;
    let cut = node.clone();
    let cut = move |cluster: &Cluster| cluster.cut_node(&cut);
    ground.installation.on_cluster(cut).await?;
    tenant
        .wait("the other replica leads", LIMIT, |view| {
            view.leader() == Some(follower.as_str())
        })
        .await?;
    // The claim waits for the pod, and the pod is gone as soon as nobody is asked whether it is.
    let claim = names::claim(&pod);
    let claim = ["delete", "pvc", &claim, "--wait=false"];
    tenant.kubectl(&claim).await?;
    let by_force = ["delete", "pod", &pod, "--force", "--grace-period=0"];
    tenant.kubectl(&by_force).await?;
    let (uid, old) = (before.uid(&pod).map(str::to_owned), replica.clone());
    let is_replaced = |view: &View| {
        let is_other = view.uid(&pod).map(str::to_owned) != uid;
        let disk = view.in_sync_replica(&pod);
        is_other && view.in_sync() == 2 && disk.is_some_and(|disk| disk != old)
    };
    tenant
        .wait("the pod is made anew and in sync", LIMIT, is_replaced)
        .await?;
    Ok(Twice {
        pod,
        node,
        process: PathBuf::from(format!("/proc/{process}")),
        replica,
    })
}

/// The old process is back, and nobody ends it: writes go on and it has no part in them.
async fn both_live(ground: &Ground, tenant: &Tenant, load: &Load, twice: &Twice) -> Result<()> {
    let before = tenant.view().await?;
    on_kubelet(ground, &twice.node, Cluster::freeze).await?;
    let node = twice.node.clone();
    let heal = move |cluster: &Cluster| cluster.heal_node(&node);
    ground.installation.on_cluster(heal).await?;
    for _ in 0..5 {
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let view = tenant.view().await?;
        ensure!(
            twice.process.exists(),
            "the old process of {} has ended: nothing is there twice",
            twice.pod
        );
        ensure!(
            (view.leader(), view.epoch()) == (before.leader(), before.epoch()),
            "the leader changed: {}",
            view.line()
        );
        let register = view.register.as_ref().context("no register")?;
        ensure!(
            !register.in_sync.contains(&twice.replica),
            "the old disk of {} is in sync: {}",
            twice.pod,
            view.line()
        );
    }
    Ok(())
}

async fn on_kubelet(
    ground: &Ground,
    node: &str,
    fault: fn(&Cluster, &str) -> Result<()>,
) -> Result<()> {
    let process = format!("{node}/kubelet");
    let fault = move |cluster: &Cluster| fault(cluster, &process);
    ground.installation.on_cluster(fault).await
}

/// The node takes no pods any more, so the operator's next one is elsewhere.
async fn move_operator_from(ground: &Ground, node: &str) -> Result<()> {
    let pods = ["-n", SYSTEM_NAMESPACE, "get", "pods", "-o"];
    let nodes = "jsonpath={.items[*].spec.nodeName}";
    let installation = &ground.installation;
    let found = installation
        .run_kubectl(&[&pods[..], &[nodes]].concat())
        .await?;
    if found.contains(node) {
        installation.scale_operator(0).await?;
        installation.scale_operator(1).await?;
    }
    Ok(())
}
