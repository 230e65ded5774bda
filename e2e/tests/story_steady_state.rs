//! Many idle tenants cost the API server nothing: neither operator nor nodes write while nothing changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_e2e::install::SYSTEM_NAMESPACE;
use percolate_e2e::progress::say;
use percolate_e2e::story::{self, READY_LIMIT};
use serde_json::json;
use tokio::time::sleep;

const TENANTS: u64 = 20;
/// Sets how many tenants there are.
const TENANTS_VARIABLE: &str = "PERCOLATE_TENANTS";
const IDLE_SECONDS: u64 = 300;
/// Sets how long is counted.
const IDLE_VARIABLE: &str = "PERCOLATE_IDLE_SECONDS";
/// Status and events of the last tenant may follow its readiness.
const SETTLING: Duration = Duration::from_secs(20);
/// Renewed so that a second operator knows of the first: once for all tenants, not for each.
const LEASES: &str = " leases";

#[tokio::test(flavor = "multi_thread")]
async fn idle_tenants_write_nothing_to_the_api_server() {
    story::run("steady-state", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: the audit log of your cluster cannot be read from here");
            return Ok(());
        }
        let count = number(TENANTS_VARIABLE, TENANTS)?;
        let idle = number(IDLE_VARIABLE, IDLE_SECONDS)?;
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenants: Vec<_> = (0..count)
            .map(|number| ground.tenant(&format!("idle-{number}")))
            .collect();
        for tenant in &tenants {
            tenant.apply(&spec).await?;
        }
        for tenant in &tenants {
            tenant.wait_settled(2, READY_LIMIT * 3).await?;
        }
        sleep(SETTLING).await;
        let since = utc_now()?;
        say(&format!("  {count} tenants are idle for {idle} s"));
        sleep(Duration::from_secs(idle)).await;
        let writes = ground
            .installation
            .on_cluster(move |cluster| cluster.writes_since(&since))
            .await?;
        let nodes = format!("system:serviceaccount:{}:", ground.namespace);
        let operator = format!("system:serviceaccount:{SYSTEM_NAMESPACE}:");
        ensure!(
            !writes.is_empty(),
            "the audit log says nothing, not even of kubelets"
        );
        let mut ours = Vec::new();
        for (user, counts) in &writes {
            if !user.starts_with(&nodes) && !user.starts_with(&operator) {
                continue;
            }
            for (what, times) in counts {
                say(&format!("  {user}: {what}: {times}"));
                if !what.ends_with(LEASES) {
                    ours.push(format!("{user}: {what}: {times}"));
                }
            }
        }
        ensure!(ours.is_empty(), "idle tenants wrote:\n{}", ours.join("\n"));
        Ok(())
    })
    .await;
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| variable.to_owned()),
        Err(_) => Ok(default),
    }
}

/// As the audit log writes times.
fn utc_now() -> Result<String> {
    let mut date = std::process::Command::new("date");
    let text = percolate_e2e::command::run(date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"]))?;
    Ok(text.trim().to_owned())
}
