//! rqlite with three nodes: one `INSERT` per request to `/db/execute`, at the leader.
//!
//! With its defaults: the Raft log is synced, `SQLite` itself is not, because it can be made anew
//! from the log.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::closed_loop::{Peer, Writer, value};
use super::daemon::{Daemon, until};
use super::http::Connection;
use super::place::{Place, free_ports};
use crate::programs;

const NODES: usize = 3;

/// Three nodes, of which the first leads.
pub(super) struct Rqlite {
    nodes: Vec<Daemon>,
    leader: SocketAddr,
    _place: Place,
}

impl Rqlite {
    /// Starts the first node, which then leads; the others join it.
    pub(super) async fn start(place: Place) -> Result<Self> {
        let program = programs::rqlite()?;
        let https: [u16; NODES] = free_ports()?;
        let rafts: [u16; NODES] = free_ports()?;
        let leader = SocketAddr::from(([127, 0, 0, 1], https[0]));
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let name = format!("node{number}");
            let mut arguments = vec![
                format!("-node-id={name}"),
                format!("-http-addr=127.0.0.1:{}", https[number]),
                format!("-raft-addr=127.0.0.1:{}", rafts[number]),
            ];
            if number > 0 {
                arguments.push(format!("-join=127.0.0.1:{}", rafts[0]));
            }
            arguments.push(place.directory().join(&name).display().to_string());
            nodes.push(Daemon::start(&place, &name, &program, arguments)?);
            let what = format!("{} nodes of rqlite are connected", number + 1);
            until(&what, &mut nodes, || async {
                voters(leader).await.is_ok_and(|count| count == number + 1)
            })
            .await?;
        }
        let table = "CREATE TABLE bench (id TEXT PRIMARY KEY, value TEXT)";
        execute(&mut open(leader).await?, &json!([table]).to_string()).await?;
        Ok(Self {
            nodes,
            leader,
            _place: place,
        })
    }
}

impl Peer for Rqlite {
    type Client = Client;

    fn daemons(&self) -> &[Daemon] {
        &self.nodes
    }

    async fn connect(&self, name: String) -> Result<Client> {
        Ok(Client {
            connection: open(self.leader).await?,
            name,
        })
    }
}

/// One client.
pub(super) struct Client {
    connection: Connection<TcpStream>,
    name: String,
}

impl Writer for Client {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        // Letters and digits need no quoting.
        let body = format!(
            r#"[["INSERT INTO bench (id, value) VALUES (?, ?)","{}-{sequence:08}","{}"]]"#,
            self.name,
            value(sequence)
        );
        execute(&mut self.connection, &body).await
    }
}

async fn open(address: SocketAddr) -> Result<Connection<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Connection::new(stream, &address.to_string(), ""))
}

/// A statement that fails is answered 200 with an error inside.
async fn execute(connection: &mut Connection<TcpStream>, body: &str) -> Result<()> {
    let answer = connection.succeed("POST", "/db/execute", body).await?;
    let answer = std::str::from_utf8(answer).context("rqlite's answer is not UTF-8")?;
    ensure!(!answer.contains("\"error\""), "rqlite refused: {answer}");
    Ok(())
}

/// How many nodes can be reached and vote.
async fn voters(address: SocketAddr) -> Result<usize> {
    let mut connection = open(address).await?;
    let answer = connection.succeed("GET", "/nodes?ver=2", "").await?;
    Ok(voters_in(&serde_json::from_slice(answer)?))
}

fn voters_in(answer: &Value) -> usize {
    let nodes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let has_leader = nodes.iter().any(|node| node["leader"] == true);
    let counts = |node: &&Value| node["reachable"] == true && node["voter"] == true;
    if has_leader {
        nodes.iter().filter(counts).count()
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_once_somebody_leads() {
        let node =
            |leader, reachable| json!({"leader": leader, "reachable": reachable, "voter": true});
        for (nodes, expected) in [
            (
                json!([node(true, true), node(false, true), node(false, false)]),
                2,
            ),
            (json!([node(false, true)]), 0),
            (Value::Null, 0),
        ] {
            assert_eq!(voters_in(&json!({"nodes": nodes})), expected);
        }
    }
}
