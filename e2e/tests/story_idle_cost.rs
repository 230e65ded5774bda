//! What an idle node costs: resident memory and processor time of its process, as the kernel counts them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percolate_crds::names;
use percolate_e2e::progress::say;
use percolate_e2e::story;
use serde_json::json;
use tokio::time::sleep;

/// Caches and connections of the start are gone by then.
const SETTLING: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_mins(1);
/// The kernel's unit of processor time in `/proc`, the same on every Linux there is: 10 ms.
const TICK_MILLIS: u64 = 10;
/// Figures are shown, not judged; this would be another program.
const MEMORY_LIMIT_KIB: u64 = 256 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_is_small() {
    story::run("idle-cost", |ground| async move {
        if ground.installation.cluster.is_none() {
            say("SKIPPED: processes of your cluster cannot be seen from here");
            return Ok(());
        }
        let spec = json!({"replicas": 2, "storage": {"size": "64Mi"}});
        let tenant = ground.ready_tenant("acme", &spec).await?;
        sleep(SETTLING).await;
        let view = tenant.view().await?;
        let mut processes = Vec::new();
        for pod in view.ready_pods() {
            let (namespace, name) = (ground.namespace.clone(), pod.to_owned());
            let process = ground
                .installation
                .on_cluster(move |cluster| cluster.pod_process(&namespace, &name, names::CONTAINER))
                .await?;
            processes.push((pod.to_owned(), process.pid, ticks(process.pid)?));
        }
        sleep(MEASURED).await;
        for (pod, pid, before) in processes {
            let (memory, own) = (kib(pid, "VmRSS:")?, kib(pid, "RssAnon:")?);
            let millis = (ticks(pid)? - before) * TICK_MILLIS;
            let role = if view.leader() == Some(&pod) {
                "leader"
            } else {
                "follower"
            };
            say(&format!(
                "  {pod} ({role}): {:.1} MiB resident, {:.1} MiB of it its own (the rest is the program, \
                 shared by all nodes of a machine), {:.1} millicores",
                f64::from(u32::try_from(memory)?) / 1024.0,
                f64::from(u32::try_from(own)?) / 1024.0,
                f64::from(u32::try_from(millis)?) / MEASURED.as_secs_f64()
            ));
            ensure!(memory < MEMORY_LIMIT_KIB, "{pod} takes {memory} KiB");
        }
        Ok(())
    })
    .await;
}

/// A figure of the kernel's about a process's memory.
fn kib(pid: i32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("a strange status")?.parse()?)
}

/// Processor time so far, of user and kernel.
fn ticks(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program is in parentheses and may hold spaces; user time is the 12th after it.
    let rest = stat.rsplit_once(')').context("a strange stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field =
        |number: usize| -> Result<u64> { Ok(fields.get(number).context("a short stat")?.parse()?) };
    Ok(field(11)? + field(12)?)
}
