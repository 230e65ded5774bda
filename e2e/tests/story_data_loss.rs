//! The only replica in sync is lost with its volume while the other one is behind: nobody is promoted,
//! people are told what is lost and how to give it up, and only then the other one goes on without it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_crds::replication::FailoverReason;
use percolate_crds::{conditions, names};
use percolate_e2e::api::{Api, Reply, Request};
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, Ground, READY_LIMIT};
use percolate_e2e::tenant::{Tenant, View};
use serde_json::json;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_mins(1);
/// Several takeovers: who could lead would have done so.
const A_WHILE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leads_without_what_is_lost_until_a_person_accepts_that() {
    story::run("data-loss", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: machines of your cluster cannot be parted from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        write(&api, "early").await?;
        let seen = lose_the_only_one_in_sync(&ground, &tenant, &api).await?;

        let is_lost = |view: &View| is_told(view, "kubectl annotate");
        let lost = tenant
            .wait("the loss is told", READY_LIMIT, is_lost)
            .await?;
        sleep(A_WHILE).await;
        accept(&tenant, lost.epoch() - 1).await?;
        let is_refused = |view: &View| is_told(view, "accepts nothing");
        tenant
            .wait("an old acceptance accepts nothing", LIMIT, is_refused)
            .await?;
        sleep(A_WHILE).await;
        let still = tenant.view().await?;
        ensure!(still.epoch() == lost.epoch(), "somebody has taken the lead");

        run_told_command(&tenant, &still).await?;
        let after = tenant.wait_settled(2, READY_LIMIT).await?;
        let register = after.register.as_ref().context("no register")?;
        let failover = register.last_failover.as_ref().context("no failover")?;
        ensure!(
            failover.reason == FailoverReason::LossAccepted && failover.epoch == lost.epoch() + 1,
            "{failover:?}"
        );
        ensure!(
            read(&api, "early", None).await?.status.is_success(),
            "what both held is gone"
        );
        let late = read(&api, "late", None).await?;
        ensure!(late.status.as_u16() == 404, "{}", late.line());
        let resumed = read(&api, "early", Some(&seen)).await?;
        ensure!(
            resumed.code() == Some("resync_required"),
            "{}",
            resumed.line()
        );
        write(&api, "after").await?;
        let selector = "reason=LossAccepted";
        let events = tenant
            .kubectl(&["get", "events", "--field-selector", selector, "-o", "name"])
            .await?;
        ensure!(!events.trim().is_empty(), "no event tells of it");
        Ok(())
    })
    .await;
}

/// Parts the replicas until one is alone in sync, writes there, and takes its volume away. Returns the
/// session of that write.
async fn lose_the_only_one_in_sync(ground: &Ground, tenant: &Tenant, api: &Api) -> Result<String> {
    let before = tenant.view().await?;
    let places: Vec<String> = [before.leader().map(str::to_owned), before.follower()]
        .into_iter()
        .flatten()
        .filter_map(|pod| before.node_of(&pod).map(str::to_owned))
        .collect();
    let [one, other] = <[String; 2]>::try_from(places)
        .ok()
        .context("two machines")?;
    let (from, to) = (one.clone(), other.clone());
    ground
        .installation
        .on_cluster(move |cluster| cluster.part_nodes(&from, &to))
        .await?;
    let alone = tenant
        .wait("one replica is in sync", LIMIT, |view| {
            view.in_sync() == 1 && view.leader().is_some()
        })
        .await?;
    let leader = alone.leader().context("no leader")?.to_owned();
    let reply = put(api, &leader, "late").await?;
    let seen = reply.session().context("no session")?.to_owned();
    tenant.lose_volume(&leader).await?;
    tenant
        .wait("the pod is made anew", READY_LIMIT, |view| {
            let uid = view.uid(&leader);
            uid.is_some() && uid != alone.uid(&leader)
        })
        .await?;
    ground
        .installation
        .on_cluster(move |cluster| cluster.rejoin_nodes(&one, &other))
        .await?;
    Ok(seen)
}

fn is_told(view: &View, words: &str) -> bool {
    let told = view.condition(conditions::READY);
    told.is_some_and(|told| {
        told.status == "False"
            && told.reason == conditions::NO_IN_SYNC_REPLICA.name
            && told.message.contains(words)
    })
}

async fn accept(tenant: &Tenant, epoch: i64) -> Result<()> {
    let annotation = format!("{}={epoch}", names::ACCEPT_DATA_LOSS_ANNOTATION);
    let resource = tenant.resource();
    tenant
        .kubectl(&["annotate", &resource, "--overwrite", &annotation])
        .await
        .map(drop)
}

/// What the condition says, as a person would copy it.
async fn run_told_command(tenant: &Tenant, view: &View) -> Result<()> {
    let told = view
        .condition(conditions::READY)
        .context("nothing is told")?;
    let (_, command) = told.message.split_once("kubectl ").context("no command")?;
    let command = command.split(" (").next().unwrap_or(command);
    say(&format!("  kubectl {command}"));
    let words: Vec<&str> = command.split_whitespace().collect();
    tenant.installation.run_kubectl(&words).await.map(drop)
}

async fn write(api: &Api, id: &str) -> Result<()> {
    let leader = api.pods_to_send_to().into_iter().next().context("no pod")?;
    put(api, &leader, id).await.map(drop)
}

async fn put(api: &Api, pod: &str, id: &str) -> Result<Reply> {
    let request = Request::put(format!("/resources/{id}"), &json!({"content": id}));
    let reply = api.send(pod, &request).await?;
    ensure!(reply.status.is_success(), "{}", reply.line());
    Ok(reply)
}

async fn read(api: &Api, id: &str, session: Option<&str>) -> Result<Reply> {
    let request = Request::get(format!("/resources/{id}")).with_session(session);
    api.send_to_any(&request).await
}
