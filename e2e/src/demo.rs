//! `percolate-e2e demo`: a tenant's life in front of a person, on a real Kubernetes.
//!
//! ```text
//! cluster, chart ─► apply ─► import ─► read at a follower ─► SIGKILL the leader while writing
//!                ─► failover as kubectl shows it ─► scale to 3 ─► how to go on
//! ```
//!
//! Everything goes through `kubectl` and the product's own commands, as a person would do it. Running
//! it again works: the manifest is applied again, documents that are there stay.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use percolate_crds::conditions;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinHandle;

use crate::api::{Api, Credentials};
use crate::command::{line, run};
use crate::forward::Forward;
use crate::gaps;
use crate::history;
use crate::image;
use crate::install::Installation;
use crate::load::Load;
use crate::progress::{elapsed, say};
use crate::repository;
use crate::tenant::{Tenant, View};

const NAMESPACE: &str = "tenants";
const TENANT: &str = "acme";
/// In the manifest, and after scaling.
const REPLICAS: (usize, usize) = (2, 3);
/// Volumes, processes, first leader; on a cluster of the user's also pulling images.
const READY_LIMIT: Duration = Duration::from_mins(5);
/// Promised are seconds.
const FAILOVER_LIMIT: Duration = Duration::from_mins(1);
/// Enough to see that writing goes on, few enough for two cores.
const WRITERS: usize = 8;
/// Writes before the kill and after the failover.
const WRITES: usize = 100;
const WRITE_LIMIT: Duration = Duration::from_mins(1);
/// Lines of a document that are shown.
const SHOWN_LINES: usize = 5;

/// Plays everything; `folder` holds the documents, by default the repository's Markdown.
pub async fn run_demo(folder: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    title("A Kubernetes with Percolate on it");
    let installation = Arc::new(Installation::ready().await?);
    let demo = Demo {
        tenant: Tenant::new(Arc::clone(&installation), NAMESPACE, TENANT),
        keys: tempfile::tempdir()?,
    };
    demo.apply().await?;
    demo.import(folder).await?;
    demo.read_at_follower().await?;
    demo.kill_leader().await?;
    demo.scale().await?;
    demo.explain();
    say(&format!("\nThe demo took {}.", elapsed(begun.elapsed())));
    Ok(())
}

struct Demo {
    tenant: Tenant,
    /// Token and certificate authority, for the product's commands.
    keys: tempfile::TempDir,
}

impl Demo {
    async fn apply(&self) -> Result<()> {
        title("A tenant: two replicas, from a manifest");
        let sample = repository::root()?.join("e2e/samples/acme.yaml");
        say(&fs::read_to_string(&sample)?);
        let sample = sample.to_string_lossy();
        self.show(&["apply", "-f", &sample]).await?;
        self.tenant.wait_settled(REPLICAS.0, READY_LIMIT).await?;
        self.show(&["wait", &self.tenant.resource(), "--for=condition=Ready"])
            .await?;
        self.show(&["get", "ptenant,pod,pvc"]).await?;
        let credentials = Credentials::of(&self.tenant).await?;
        fs::write(self.keys.path().join("token"), credentials.token)?;
        fs::write(self.keys.path().join("ca.crt"), credentials.authority)?;
        Ok(())
    }

    async fn import(&self, folder: Option<&Path>) -> Result<()> {
        title("Documents go in");
        let markdown;
        let folder = match folder {
            Some(folder) if folder.is_dir() => folder,
            Some(folder) => bail!("{} is no folder", folder.display()),
            None => {
                markdown = own_markdown()?;
                markdown.path()
            }
        };
        let forward = Forward::to(&self.tenant, &self.view().await?.0).await?;
        let folder = folder.to_string_lossy().into_owned();
        self.percolate(&forward, &["import", &folder, "--overwrite"])
            .await
    }

    async fn read_at_follower(&self) -> Result<()> {
        title("They are read back, from a follower");
        let (leader, follower) = self.view().await?;
        say(&format!("{leader} leads, {follower} follows and is asked:"));
        let forward = Forward::to(&self.tenant, &follower).await?;
        self.percolate(&forward, &["status"]).await?;
        self.percolate(&forward, &["ls", "resources", "--limit", "5"])
            .await?;
        let credentials = Credentials::of(&self.tenant).await?;
        let api = Api::at(&forward.url(), &credentials)?;
        let listed = api
            .send_to_any(&crate::api::Request::get("/resources?limit=1"))
            .await?;
        let first = &listed.body["items"][0];
        let text = first["content"].as_str().context("there is no document")?;
        say(&format!("\n{}:", first["id"]));
        for line in text.lines().take(SHOWN_LINES) {
            say(&format!("  | {line}"));
        }
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        title("The leader is killed with SIGKILL while clients write");
        let (leader, follower) = self.view().await?;
        let epoch = self.tenant.view().await?.epoch();
        let forward = Forward::to(&self.tenant, &follower).await?;
        let api = Api::at(&forward.url(), &Credentials::of(&self.tenant).await?)?;
        let watch = self.watch()?;
        let load = Load::start(&api, WRITERS);
        load.wait_acknowledged(WRITES, WRITE_LIMIT).await?;
        let killed_at = load.elapsed();
        self.kill(&leader).await?;
        say(&format!(
            "{leader} is killed; {WRITERS} clients go on writing"
        ));
        let is_over = |view: &View| view.epoch() > epoch && view.is(conditions::READY, "True");
        self.tenant
            .wait("another leader serves", FAILOVER_LIMIT, is_over)
            .await?;
        load.wait_acknowledged(WRITES, WRITE_LIMIT).await?;
        let record = load.stop_and_check().await?;
        let acknowledged = history::acknowledgements(&record.histories);
        let pauses = gaps::pauses(&acknowledged, &[killed_at]);
        let pause = pauses
            .first()
            .context("nothing was written after the kill")?;
        say(&format!(
            "nothing that was acknowledged is lost; for {} nothing was acknowledged",
            elapsed(*pause)
        ));
        self.tenant.wait_settled(REPLICAS.0, READY_LIMIT).await?;
        watch.abort();
        Ok(())
    }

    async fn scale(&self) -> Result<()> {
        title("A third replica, by editing the resource");
        let change = json!({"spec": {"replicas": REPLICAS.1}}).to_string();
        let resource = self.tenant.resource();
        self.show(&["patch", &resource, "--type=merge", "--patch", &change])
            .await?;
        self.tenant.wait_settled(REPLICAS.1, READY_LIMIT).await?;
        self.show(&["get", "ptenant", "-o", "wide"]).await
    }

    fn explain(&self) {
        title("How to go on");
        let installation = &self.tenant.installation;
        let kubeconfig = installation.kubeconfig().display();
        let programs = installation
            .cluster
            .as_ref()
            .map(|cluster| format!(" PATH=$PATH:{}", cluster.programs().display()))
            .unwrap_or_default();
        let clean_up = if installation.cluster.is_some() {
            "make clean-cluster"
        } else {
            "kubectl delete namespace tenants && helm -n percolate-system uninstall percolate"
        };
        say(&format!(
            "  export KUBECONFIG={kubeconfig}{programs}
  kubectl -n {NAMESPACE} get ptenant -w
  kubectl -n {NAMESPACE} describe ptenant {TENANT}
  kubectl -n {NAMESPACE} scale ptenant/{TENANT} --replicas=2
  kubectl -n {NAMESPACE} get secret {TENANT}-admin -o yaml      # address, token and CA of its API

To clean up: {clean_up}"
        ));
    }

    /// The pods that lead and follow now.
    async fn view(&self) -> Result<(String, String)> {
        let view = self.tenant.view().await?;
        let leader = view.leader().context("the tenant has no leader")?;
        let follower = view.follower().context("the tenant has no follower")?;
        Ok((leader.to_owned(), follower))
    }

    /// Runs `kubectl` and shows command and output.
    async fn show(&self, arguments: &[&str]) -> Result<()> {
        say(&format!("$ kubectl -n {NAMESPACE} {}", arguments.join(" ")));
        say(self.tenant.kubectl(arguments).await?.trim_end());
        Ok(())
    }

    /// Runs one of the product's commands and shows it with its output.
    async fn percolate(&self, forward: &Forward, arguments: &[&str]) -> Result<()> {
        say(&format!("$ percolate {}", arguments.join(" ")));
        let mut command = Command::new(image::program("percolate")?);
        command
            .args(arguments)
            .env("PERCOLATE_URL", forward.url())
            .env("PERCOLATE_TOKEN_FILE", self.keys.path().join("token"))
            .env("PERCOLATE_CA", self.keys.path().join("ca.crt"))
            .stdin(Stdio::null());
        let status = tokio::task::spawn_blocking(move || {
            command
                .status()
                .with_context(|| format!("cannot run {}", line(&command)))
        })
        .await??;
        if !status.success() {
            bail!("percolate {} failed ({status})", arguments.join(" "));
        }
        Ok(())
    }

    /// Shows `kubectl get ptenant -w` as it prints, until aborted.
    fn watch(&self) -> Result<JoinHandle<()>> {
        say(&format!("$ kubectl -n {NAMESPACE} get ptenant {TENANT} -w"));
        let mut command = tokio::process::Command::from(self.tenant.installation.kubectl());
        command
            .args(["--namespace", NAMESPACE, "get", "ptenant", TENANT, "-w"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut kubectl = command.spawn().context("cannot run kubectl")?;
        let output = kubectl.stdout.take().context("kubectl has no output")?;
        Ok(tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                say(&line);
            }
            drop(kubectl);
        }))
    }

    /// As a crash would end it: no time to hand over.
    async fn kill(&self, pod: &str) -> Result<()> {
        let installation = &self.tenant.installation;
        if installation.cluster.is_some() {
            let pod = pod.to_owned();
            let kill = move |cluster: &crate::cluster::Cluster| {
                cluster.kill_in_pod(NAMESPACE, &pod, percolate_crds::names::CONTAINER)
            };
            return installation.on_cluster(kill).await.map(drop);
        }
        say(
            "this program cannot send signals on the nodes of your cluster; the pod is deleted by force",
        );
        self.tenant
            .kubectl(&["delete", "pod", pod, "--grace-period=0", "--force"])
            .await
            .map(drop)
    }
}

fn title(text: &str) {
    say(&format!("\n=== {text}"));
}

/// A folder with the repository's Markdown alone, under the same paths.
fn own_markdown() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let listed = run(Command::new("git")
        .arg("-C")
        .arg(repository::root()?)
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.md",
        ]))
    .context("the repository's documents cannot be listed; name a folder of documents instead")?;
    for name in listed.lines() {
        let target = folder.path().join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(repository::root()?.join(name), target)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_documents_are_the_repositorys_markdown_and_nothing_else() {
        let folder = own_markdown().unwrap();
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        assert!(
            names
                .iter()
                .all(|name| name.extension().is_some_and(|extension| extension == "md")),
            "{names:?}"
        );
    }
}
