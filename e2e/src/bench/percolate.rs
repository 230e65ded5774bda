//! Percolate as a peer of the others: two replicas, written to over HTTPS.

use anyhow::{Result, ensure};
use serde_json::json;

use super::closed_loop::{Peer, Writer, value};
use super::daemon::Daemon;
use super::deployment::{Deployment, HttpsConnection, REPLICAS, Setup};
use super::place::Place;

/// Values in one request of the writer of batches.
const BATCH: u64 = 100;

/// Two replicas in sync.
pub(super) struct Percolate {
    deployment: Deployment,
    leader: usize,
}

impl Percolate {
    /// Starts register and replicas, and waits until both are in sync.
    pub(super) async fn start(place: Place) -> Result<Self> {
        // Both copies have every write that is acknowledged, whatever happens.
        let setup = Setup {
            min_in_sync: REPLICAS,
            serve: Vec::new(),
        };
        let deployment = Deployment::start(place, &setup).await?;
        let leader = deployment.leader()?;
        Ok(Self { deployment, leader })
    }

    async fn connection(&self) -> Result<HttpsConnection> {
        self.deployment.access().connect(self.leader).await
    }
}

impl Peer for Percolate {
    type Client = OneByOne;

    /// The register's processes are idle while nothing fails.
    fn daemons(&self) -> &[Daemon] {
        self.deployment.replicas()
    }

    async fn connect(&self, name: String) -> Result<OneByOne> {
        Ok(OneByOne::new(self.connection().await?, name))
    }

    /// What was acknowledged is on both disks: nobody left the set, and nobody else took over.
    fn check(&self) -> Result<()> {
        let standing = self.deployment.standing()?;
        let leader = self.deployment.leader()?;
        ensure!(
            standing.in_sync == REPLICAS && leader == self.leader,
            "the replicas changed while they were measured: {standing:?}"
        );
        Ok(())
    }
}

/// The same, written to in batches.
pub(super) struct InBatches(pub(super) Percolate);

impl Peer for InBatches {
    type Client = Batches;

    fn daemons(&self) -> &[Daemon] {
        self.0.daemons()
    }

    async fn connect(&self, name: String) -> Result<Batches> {
        Ok(Batches {
            connection: self.0.connection().await?,
            name,
        })
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// Writes one value per request.
pub(super) struct OneByOne {
    connection: HttpsConnection,
    name: String,
}

impl OneByOne {
    /// Writes under keys beginning with `name`.
    pub(super) fn new(connection: HttpsConnection, name: String) -> Self {
        Self { connection, name }
    }
}

impl Writer for OneByOne {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        let path = format!("/api/v1/resources/{}-{sequence:08}", self.name);
        // Letters and digits need no quoting.
        let body = format!(r#"{{"content":"{}"}}"#, value(sequence));
        self.connection.succeed("PUT", &path, &body).await?;
        Ok(())
    }
}

/// Writes many values per request, as one transaction.
pub(super) struct Batches {
    connection: HttpsConnection,
    name: String,
}

impl Writer for Batches {
    const BATCH: u64 = BATCH;

    async fn write(&mut self, sequence: u64) -> Result<()> {
        let operations: Vec<_> = (sequence * BATCH..(sequence + 1) * BATCH)
            .map(|number| {
                let id = format!("{}-{number:08}", self.name);
                json!({"op": "put", "kind": "resource", "id": id, "content": value(number)})
            })
            .collect();
        let body = json!({"ops": operations}).to_string();
        self.connection
            .succeed("POST", "/api/v1/batch", &body)
            .await?;
        Ok(())
    }
}
