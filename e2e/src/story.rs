//! A story: a namespace of its own, tenants in it, and a report of everything if it ends badly.
//!
//! ```text
//! run ─► installation ready ─► namespace ─► the story's steps ─► namespace deleted
//!                                              └─ failure ─► report: conditions, pods, events, logs
//! ```

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt as _;
use serde_json::Value;

use crate::image;
use crate::install::{Installation, RELEASE, SYSTEM_NAMESPACE};
use crate::progress::say;
use crate::tenant::{Tenant, create_namespace};

/// Images are loaded, so this is volumes, processes, first leader: more than a busy machine needs.
pub const READY_LIMIT: Duration = Duration::from_mins(3);
/// Pods get 60 s to hand over and end.
pub const GONE_LIMIT: Duration = Duration::from_secs(150);
/// Set to keep what a failed story leaves behind.
const KEEP_VARIABLE: &str = "PERCOLATE_KEEP";
/// Lines of each log in a report.
const LOG_LINES: &str = "--tail=40";

/// Where a story takes place.
#[derive(Clone)]
pub struct Ground {
    /// The cluster, with Percolate on it.
    pub installation: Arc<Installation>,
    /// The story's namespace.
    pub namespace: String,
}

/// Lives through a story. Its namespace is called `story-<name>`.
///
/// # Panics
/// When the story fails, after a report.
pub async fn run<Steps>(name: &str, steps: impl FnOnce(Ground) -> Steps)
where
    Steps: Future<Output = Result<()>>,
{
    say(&format!("story: {name}"));
    let ground = match Ground::prepare(name).await {
        Ok(ground) => ground,
        Err(error) => panic!("{name}: {error:#}"),
    };
    let ended = AssertUnwindSafe(steps(ground.clone())).catch_unwind().await;
    let report = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some("it panicked, see above".to_owned()),
    };
    if let Some(report) = &report {
        say(&format!("{name} FAILED: {report}"));
        say(&ground.report().await);
    }
    if report.is_none() || env::var_os(KEEP_VARIABLE).is_none() {
        ground.leave().await;
    }
    if let Some(report) = report {
        panic!("{name}: {report}");
    }
}

impl Ground {
    async fn prepare(name: &str) -> Result<Self> {
        let installation = Arc::new(Installation::ready().await?);
        let ground = Self {
            installation,
            namespace: format!("story-{name}"),
        };
        // What an earlier run left, if it was interrupted.
        ground.remove().await?;
        create_namespace(&ground.installation, &ground.namespace).await?;
        Ok(ground)
    }

    /// A tenant of this name, not yet applied.
    pub fn tenant(&self, name: &str) -> Tenant {
        Tenant::new(Arc::clone(&self.installation), &self.namespace, name)
    }

    /// A tenant with this spec, ready.
    pub async fn ready_tenant(&self, name: &str, spec: &Value) -> Result<Tenant> {
        let tenant = self.tenant(name);
        tenant.apply(spec).await?;
        let replicas = spec["replicas"].as_u64().unwrap_or(2);
        tenant
            .wait_settled(usize::try_from(replicas)?, READY_LIMIT)
            .await?;
        Ok(tenant)
    }

    /// `kubectl` in the story's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let whole = [&["--namespace", &self.namespace], arguments].concat();
        self.installation.run_kubectl(&whole).await
    }

    async fn leave(&self) {
        if let Err(error) = self.remove().await {
            say(&format!("{} stays behind: {error:#}", self.namespace));
        }
    }

    async fn remove(&self) -> Result<()> {
        if let Some(cluster) = self.installation.cluster.clone() {
            // A cut node would keep its pods from ending.
            tokio::task::spawn_blocking(move || cluster.heal()).await??;
        }
        // Tenants first: pods then end under an operator that knows of it.
        let limit = format!("--timeout={}s", GONE_LIMIT.as_secs());
        let _ = self.kubectl(&["delete", "ptenant", "--all", &limit]).await;
        self.installation
            .run_kubectl(&[
                "delete",
                "namespace",
                &self.namespace,
                "--ignore-not-found",
                &limit,
            ])
            .await
            .map(drop)
    }

    /// Everything that helps to see why a story failed.
    async fn report(&self) -> String {
        let mut report = String::new();
        let commands: [&[&str]; 6] = [
            &["get", "ptenant,preplication,sts,pod,pvc", "-o", "wide"],
            &["get", "ptenant", "-o", CONDITIONS],
            &["get", "preplication", "-o", "yaml"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "-l", NODES, "--prefix", LOG_LINES],
            &["logs", "-l", NODES, "--prefix", "--previous", "--tail=15"],
        ];
        for command in commands {
            let said = self.kubectl(command).await;
            section(&mut report, &command.join(" "), said);
        }
        let deployment = format!("deployment/{RELEASE}");
        let logs = ["-n", SYSTEM_NAMESPACE, "logs", &deployment, LOG_LINES];
        section(
            &mut report,
            "the operator's log",
            self.installation.run_kubectl(&logs).await,
        );
        report
    }
}

const NODES: &str = "app.kubernetes.io/name=percolate";
const CONDITIONS: &str = "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{range .status.conditions[*]}{\"  \"}{.type}={.status} {.reason}: {.message}{\"\\n\"}{end}{end}";

fn section(report: &mut String, title: &str, said: Result<String>) {
    let text = said.unwrap_or_else(|error| format!("{error:#}"));
    // Writing to a String cannot fail.
    let _ = writeln!(report, "--- {title}\n{}", text.trim_end());
}

/// Keeps output for the README, where `make samples` puts it.
pub fn record_sample(name: &str, text: &str) -> Result<()> {
    let program = image::program("percolate-e2e")?;
    let folder = program
        .ancestors()
        .nth(2)
        .context("the target directory has no parent")?
        .join("samples");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.txt")), text)?;
    Ok(())
}
