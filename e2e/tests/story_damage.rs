//! A byte of a follower's file changes under load: it is found, the replica is filled anew by itself,
//! writes go on meanwhile, and people are told.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_crds::{conditions, names};
use percolate_e2e::api::{Api, Request};
use percolate_e2e::load::Load;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, READY_LIMIT};
use percolate_e2e::tenant::{Tenant, View};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Enough that a replica writes files: its buffers take 4 MiB.
const DOCUMENTS: usize = 12;
const DOCUMENT_BYTES: usize = 1 << 20;
const WRITERS: usize = 8;
const WRITES: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
/// Within this a changed byte is to be found.
const FOUND_WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_follower_is_found_and_filled_anew_under_load() {
    story::run("damage", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: files of your cluster's volumes cannot be changed from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "256Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        let api = Api::of(&tenant).await?;
        fill(&api).await?;
        let before = tenant.view().await?;
        let follower = before.follower().context("no follower")?;
        let damaged = before
            .in_sync_replica(&follower)
            .context("the register lacks it")?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, LIMIT).await?;

        let store = volume(&tenant, &follower).await?.join("store");
        let file = read_once(&store).await?;
        flip(&file)?;
        let flipped = Instant::now();
        let is_told = |view: &View| {
            let storage = view.condition(conditions::STORAGE_HEALTHY);
            let told = storage.is_some_and(|told| told.reason == conditions::DAMAGED.name);
            told || view
                .in_sync_replica(&follower)
                .is_none_or(|replica| replica != damaged)
        };
        tenant
            .wait("the damage is found", FOUND_WITHIN, is_told)
            .await?;
        say(&format!("  found after {:.0?}", flipped.elapsed()));
        let is_filled = |view: &View| {
            let replica = view.in_sync_replica(&follower);
            replica.is_some_and(|replica| replica != damaged) && view.is_settled(2)
        };
        let after = tenant
            .wait(
                "a new replica is in sync in its place",
                READY_LIMIT,
                is_filled,
            )
            .await?;
        ensure!(
            after.uid(&follower) == before.uid(&follower),
            "the pod was made anew, though nothing was wrong with it"
        );
        tenant
            .wait("the volume is healthy again", READY_LIMIT, |view| {
                view.is(conditions::STORAGE_HEALTHY, "True")
            })
            .await?;
        load.wait_acknowledged(WRITES, LIMIT).await?;
        load.stop_and_check().await?;
        for reason in [conditions::DAMAGED.name, "StorageRecovered"] {
            let selector = format!("reason={reason}");
            let events = tenant
                .kubectl(&["get", "events", "--field-selector", &selector, "-o", "name"])
                .await?;
            ensure!(!events.trim().is_empty(), "no event says {reason}");
        }
        Ok(())
    })
    .await;
}

/// Documents that no two bytes of are alike for long, so that they are not compressed away.
async fn fill(api: &Api) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..DOCUMENTS {
        let words = (0..DOCUMENT_BYTES / 16).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        });
        let content: String = words.collect();
        let path = format!("/resources/large-{number}");
        let reply = api
            .send_to_any(&Request::put(path, &json!({"content": content})))
            .await?;
        ensure!(reply.status.is_success(), "{}", reply.line());
    }
    Ok(())
}

/// Where a pod's volume is on this machine.
async fn volume(tenant: &Tenant, pod: &str) -> Result<PathBuf> {
    let claim = names::claim(pod);
    let name = tenant
        .kubectl(&["get", "pvc", &claim, "-o", "jsonpath={.spec.volumeName}"])
        .await?;
    let path = "jsonpath={.spec.hostPath.path}{.spec.local.path}";
    let path = tenant
        .kubectl(&["get", "pv", name.trim(), "-o", path])
        .await?;
    ensure!(!path.trim().is_empty(), "the volume {name} is no directory");
    Ok(PathBuf::from(path.trim()))
}

/// A file of the engine that the replica has read once, so that it knows what is in it.
async fn read_once(store: &Path) -> Result<PathBuf> {
    let deadline = Instant::now() + FOUND_WITHIN;
    while Instant::now() < deadline {
        let verified = fs::read_to_string(store.join("verified")).unwrap_or_default();
        let files = verified.lines().filter_map(|line| line.split_once(' '));
        let mut files = files.map(|(name, _)| store.join(name));
        if let Some(file) = files.find(|file| file.exists()) {
            return Ok(file);
        }
        sleep(Duration::from_secs(1)).await;
    }
    anyhow::bail!("the replica has not read its own files")
}

/// Changes a byte in the middle of a file, in place.
fn flip(path: &Path) -> Result<()> {
    let middle = SeekFrom::Start(fs::metadata(path)?.len() / 2);
    let mut byte = [0];
    let mut file = File::open(path)?;
    file.seek(middle)?;
    file.read_exact(&mut byte)?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(middle)?;
    file.write_all(&[byte[0] ^ 1])?;
    file.sync_all()?;
    Ok(())
}
