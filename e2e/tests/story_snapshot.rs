//! A follower's volume is lost when the leader's log no longer reaches back to the beginning: the
//! follower is given one snapshot, under load, and nothing acknowledged is lost. How far it is stands
//! in the tenant's status.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, ensure};
use percolate_e2e::api::{Api, Request};
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, READY_LIMIT};
use percolate_e2e::tenant::{Tenant, View};
use percolate_e2e::{gaps, history};
use serde_json::json;

/// More than a replica keeps of its log (64 MiB), and so much that the copy of it takes long enough to be
/// told of, which happens once a second at most, in documents of this size.
const DOCUMENTS: usize = 640;
const DOCUMENT_BYTES: usize = 1 << 20;
const WRITERS: usize = 8;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_the_log_is_given_one_snapshot_under_load() {
    story::run("snapshot", |ground| async move {
        let spec = json!({"replicas": 2, "storage": {"size": "2Gi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        fill(&api).await?;
        let before = tenant.view().await?;
        let follower = before.follower().context("no follower")?;
        let lost = before
            .in_sync_replica(&follower)
            .context("the register lacks it")?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let lost_at = load.elapsed();
        tenant.lose_volume(&follower).await?;
        let told = Mutex::new(Vec::new());
        let is_replaced = |view: &View| {
            note(&told, view.state(&follower));
            let replica = view.in_sync_replica(&follower);
            replica.is_some_and(|replica| replica != lost) && view.is_settled(2)
        };
        tenant
            .wait("a new replica is in sync", READY_LIMIT, is_replaced)
            .await?;
        let copied = snapshots_copied(&tenant, &follower).await?;
        ensure!(copied == 1, "{copied} snapshots were copied, one is enough");
        let settled = tenant.wait_settled(2, READY_LIMIT).await?;
        note(&told, settled.state(&follower));
        let told = told.into_inner().expect("nobody panicked");
        say(&format!("  the follower's state: {}", told.join(", ")));
        ensure!(
            told.iter().any(|state| state.starts_with("Snapshotting")),
            "nobody was told of the copy"
        );
        ensure!(told.last().is_some_and(|state| state == "InSync"));
        load.wait_acknowledged(WRITES, LIMIT).await?;
        let record = load.stop_and_check().await?;
        let pauses = gaps::pauses(&history::acknowledgements(&record.histories), &[lost_at]);
        say(&gaps::table("write pause", &gaps::histogram(&pauses)?));
        Ok(())
    })
    .await;
}

/// Documents that no two bytes of are alike for long, so that the store is about as large as they are.
async fn fill(api: &Api) -> anyhow::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..DOCUMENTS {
        let mut content = String::with_capacity(DOCUMENT_BYTES);
        while content.len() < DOCUMENT_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            write!(content, "{state:016x}")?;
        }
        let path = format!("/resources/large-{number}");
        let reply = api
            .send_to_any(&Request::put(path, &json!({"content": content})))
            .await?;
        ensure!(reply.status.is_success(), "{}", reply.line());
    }
    Ok(())
}

/// Remember a state that is not the one before.
fn note(told: &Mutex<Vec<String>>, state: Option<String>) {
    let mut told = told.lock().expect("nobody panicked");
    if state.is_some() && told.last() != state.as_ref() {
        told.extend(state);
    }
}

/// How often a pod's log says that a snapshot is copied.
async fn snapshots_copied(tenant: &Tenant, pod: &str) -> anyhow::Result<usize> {
    let log = tenant.kubectl(&["logs", pod, "--tail=-1"]).await?;
    Ok(log.matches("a snapshot is copied").count())
}
