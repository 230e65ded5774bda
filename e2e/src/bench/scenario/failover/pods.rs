//! Percolate's replicas under faults: what clients write to, what is done to the leader, and whether
//! everything acknowledged is there in the end.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::Value;

use super::Fault;
use super::clients::{Acknowledged, Clients, Link};
use crate::bench::closed_loop::value;
use crate::bench::deployment::{Access, Deployment, HttpsConnection, REPLICAS, wait};

/// Far beyond what any failover is allowed.
const WITHIN: Duration = Duration::from_mins(1);
/// Items of one page: a few hundred kilobytes.
const PAGE: usize = 500;

/// A connection to a pod's API.
pub(super) struct Pod {
    connection: HttpsConnection,
}

impl Link for Pod {
    type Way = Access;

    async fn open(way: &Access, member: usize) -> Result<Self> {
        let connection = way.connect(member).await?;
        Ok(Self { connection })
    }

    /// The same content again is no change, so a write of unknown outcome is repeated safely.
    async fn write(&mut self, id: &str, sequence: u64) -> Result<()> {
        let path = format!("/api/v1/resources/{id}");
        let body = format!(r#"{{"content":"{}"}}"#, value(sequence));
        self.connection.succeed("PUT", &path, &body).await?;
        Ok(())
    }
}

/// Does `fault` to the leader, and brings it back once others serve; when it was done, since the
/// clients began. To be called on the main thread.
pub(super) async fn suffer(
    deployment: &mut Deployment,
    clients: &Clients,
    fault: Fault,
) -> Result<Duration> {
    let leader = settled(deployment.access()).await?;
    let done = clients.elapsed();
    match fault {
        Fault::Killed => {
            deployment.replica(leader).kill()?;
            clients.until_served(WITHIN).await?;
            deployment.replica(leader).start_again()?;
        }
        Fault::Hung => {
            deployment.replica(leader).signal(Signal::STOP)?;
            let served = clients.until_served(WITHIN).await;
            deployment.replica(leader).signal(Signal::CONT)?;
            served?;
        }
        Fault::HandedOver => {
            deployment.stop(leader).await?;
            deployment.replica(leader).start_again()?;
            clients.until_served(WITHIN).await?;
        }
    }
    Ok(done)
}

/// Waits until one leads, both are in sync, and the other one knows it too; who leads.
pub(super) async fn settled(access: &Access) -> Result<usize> {
    let leaders = || async move {
        let (first, second) = tokio::join!(access.levels(0), access.levels(1));
        let both = [first.ok()?, second.ok()?];
        let leader = both.iter().position(|levels| levels.leads)?;
        let agreed = both.iter().filter(|levels| levels.leads).count() == 1
            && both.iter().all(|levels| levels.in_sync == REPLICAS as u64);
        agreed.then_some(leader)
    };
    wait("one leads and both are in sync", WITHIN, || async move {
        leaders().await.is_some()
    })
    .await?;
    leaders().await.context("the leader was lost at once")
}

/// How many of the acknowledged writes either replica lacks.
pub(super) async fn missing(access: &Access, told: &[Vec<Acknowledged>]) -> Result<usize> {
    let leader = settled(access).await?;
    let last = access.levels(leader).await?.last;
    wait("both have applied everything", WITHIN, || async move {
        let (first, second) = tokio::join!(access.levels(0), access.levels(1));
        [first, second]
            .into_iter()
            .all(|levels| levels.is_ok_and(|levels| levels.applied >= last))
    })
    .await?;
    let mut most = 0;
    for member in 0..REPLICAS {
        let there = ids(access, member).await?;
        most = most.max(lacking(&there, told));
    }
    Ok(most)
}

fn lacking(there: &HashSet<String>, told: &[Vec<Acknowledged>]) -> usize {
    let told = told.iter().flatten();
    told.filter(|acknowledged| !there.contains(&acknowledged.id))
        .count()
}

/// Every resource that a pod itself has, asked of no other.
async fn ids(access: &Access, member: usize) -> Result<HashSet<String>> {
    let mut connection = access.connect(member).await?;
    let (mut ids, mut after) = (HashSet::new(), String::new());
    loop {
        let path = format!("/api/v1/resources?consistency=local&limit={PAGE}{after}");
        let page = connection.succeed("GET", &path, "").await?;
        let page: Value = serde_json::from_slice(page).context("a page is not JSON")?;
        let items = page["items"].as_array().context("a page has no items")?;
        let found = items.iter().filter_map(|item| item["id"].as_str());
        ids.extend(found.map(str::to_owned));
        match page["next"].as_str() {
            // Cursors of these ids need no quoting: letters, digits and hyphens.
            Some(next) => after = format!("&after={next}"),
            None => return Ok(ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_counted() {
        let acknowledged = |id: &str| Acknowledged {
            id: id.to_owned(),
            at: Duration::ZERO,
        };
        let told = [
            vec![acknowledged("a"), acknowledged("b")],
            vec![acknowledged("c")],
        ];
        let there = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(lacking(&there(&["a", "b", "c", "d"]), &told), 0);
        assert_eq!(lacking(&there(&["b"]), &told), 2);
    }
}
