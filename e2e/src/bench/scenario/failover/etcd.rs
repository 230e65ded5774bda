//! etcd beside it: the same clients, the same fault, its own election.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::clients::{Acknowledged, Clients, Link};
use super::{BETWEEN, silences};
use crate::bench::deployment::wait;
use crate::bench::etcd::{Client, Etcd};
use crate::bench::place::Place;

/// Far beyond any election.
const WITHIN: Duration = Duration::from_mins(1);

impl Link for Client {
    type Way = Vec<SocketAddr>;

    async fn open(way: &Self::Way, member: usize) -> Result<Self> {
        let address = way.get(member).context("there is no such member")?;
        Self::open(*address).await
    }

    async fn write(&mut self, id: &str, sequence: u64) -> Result<()> {
        self.put(id.to_owned(), sequence).await
    }
}

/// Kills its leader again and again; the silence of each, and the longest that any client heard. To
/// be called on the main thread.
pub(super) async fn killed(place: Place, repetitions: u32) -> Result<Vec<super::Silence>> {
    let mut etcd = Etcd::start(place).await?;
    let addresses = etcd.addresses().to_vec();
    let clients = Clients::start::<Client>(&addresses, addresses.len());
    let faults = kill(&mut etcd, &clients, repetitions).await;
    let told: Vec<Vec<Acknowledged>> = clients.stop().await?;
    Ok(silences(&told, &faults?))
}

async fn kill(etcd: &mut Etcd, clients: &Clients, repetitions: u32) -> Result<Vec<Duration>> {
    let mut faults = Vec::new();
    for _ in 0..repetitions {
        clients.until_served(WITHIN).await?;
        sleep(BETWEEN).await;
        let leader = etcd.leader().await.context("etcd has no leader")?;
        faults.push(clients.elapsed());
        etcd.member(leader).kill()?;
        clients.until_served(WITHIN).await?;
        etcd.member(leader).start_again()?;
        let healthy = &*etcd;
        wait("etcd is whole again", WITHIN, || async move {
            healthy.leader().await.is_some()
        })
        .await?;
        clients.spread();
    }
    Ok(faults)
}
