//! NATS `JetStream` with three replicas, its files synced before every acknowledgement.
//!
//! Its protocol is text: `PUB` with an inbox as reply subject, and the acknowledgement comes as `MSG`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::closed_loop::{Peer, Writer, value};
use super::daemon::{Daemon, until};
use super::place::{Place, free_ports};
use crate::programs;

const SERVERS: usize = 3;
const STREAM: &str = "BENCH";

/// Three servers with one stream.
pub(super) struct Nats {
    servers: Vec<Daemon>,
    leader: SocketAddr,
    _place: Place,
}

impl Nats {
    /// Starts the servers and makes the stream.
    pub(super) async fn start(place: Place) -> Result<Self> {
        let program = programs::nats()?;
        let clients: [u16; SERVERS] = free_ports()?;
        let routes: [u16; SERVERS] = free_ports()?;
        let mut servers = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            let name = format!("server{number}");
            let store = place.directory().join(&name).display().to_string();
            let text = configuration(&name, *client, &routes, number, &store);
            let file = place.write(&format!("{name}.conf"), &text)?;
            let arguments = ["-c".to_owned(), file.display().to_string()];
            servers.push(Daemon::start(&place, &name, &program, arguments)?);
        }
        let addresses = clients.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        until("JetStream has made the stream", &mut servers, || async {
            leader_of(&addresses).await.is_ok()
        })
        .await?;
        let leader = leader_of(&addresses).await?;
        Ok(Self {
            servers,
            leader,
            _place: place,
        })
    }
}

impl Peer for Nats {
    type Client = Client;

    fn daemons(&self) -> &[Daemon] {
        &self.servers
    }

    async fn connect(&self, name: String) -> Result<Client> {
        Client::open(self.leader, name).await
    }
}

fn configuration(name: &str, client: u16, routes: &[u16], own: usize, store: &str) -> String {
    let others: Vec<String> = routes
        .iter()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    format!(
        r#"server_name: {name}
listen: "127.0.0.1:{client}"
jetstream {{
  store_dir: "{store}"
  sync_interval: always
  max_file_store: 8GB
}}
cluster {{
  name: bench
  listen: "127.0.0.1:{}"
  routes: {}
}}
"#,
        routes[own],
        json!(others)
    )
}

/// Makes the stream if it is not there; the address of the server that leads it.
async fn leader_of(addresses: &[SocketAddr; SERVERS]) -> Result<SocketAddr> {
    let mut client = Client::open(addresses[0], "setup".to_owned()).await?;
    let stream = json!({
        "name": STREAM,
        "subjects": ["bench.>"],
        "storage": "file",
        "num_replicas": SERVERS,
    });
    let subject = format!("$JS.API.STREAM.CREATE.{STREAM}");
    let answer = client.ask(&subject, stream.to_string().as_bytes()).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    if !answer["error"].is_null() {
        bail!("JetStream refused the stream: {}", answer["error"]);
    }
    let leader = answer["cluster"]["leader"].as_str().unwrap_or_default();
    (0..SERVERS)
        .find(|number| format!("server{number}") == leader)
        .map(|number| addresses[number])
        .context("the stream has no leader")
}

/// One connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    subject: String,
    inbox: String,
    request: Vec<u8>,
    line: String,
    payload: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr, name: String) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream: BufReader::new(stream),
            subject: format!("bench.{name}"),
            inbox: format!("_INBOX.{name}"),
            request: Vec::new(),
            line: String::new(),
            payload: Vec::new(),
        };
        let options = json!({"verbose": false, "pedantic": false, "lang": "rust", "version": "0"});
        let greeting = format!("CONNECT {options}\r\nSUB {} 1\r\nPING\r\n", client.inbox);
        client.stream.write_all(greeting.as_bytes()).await?;
        while client.next_line().await? != "PONG" {
            ensure!(!client.line.starts_with("-ERR"), "NATS: {}", client.line);
        }
        Ok(client)
    }

    /// Sends a message and gives back the one that comes to the inbox.
    async fn ask(&mut self, subject: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.request.clear();
        let head = format!("PUB {subject} {} {}\r\n", self.inbox, payload.len());
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(payload);
        self.request.extend_from_slice(b"\r\n");
        self.stream.write_all(&self.request).await?;
        loop {
            let line = self.next_line().await?;
            if let Some(length) = message_length(line) {
                self.payload.resize(length + 2, 0);
                self.stream.read_exact(&mut self.payload).await?;
                return Ok(self.payload[..length].to_vec());
            }
            if line == "PING" {
                self.stream.write_all(b"PONG\r\n").await?;
            } else if line.starts_with("-ERR") {
                bail!("NATS: {line}");
            }
        }
    }

    async fn next_line(&mut self) -> Result<&str> {
        self.line.clear();
        let count = self.stream.read_line(&mut self.line).await?;
        ensure!(count > 0, "NATS closed the connection");
        let end = self.line.trim_end().len();
        self.line.truncate(end);
        Ok(&self.line)
    }
}

impl Writer for Client {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        let subject = self.subject.clone();
        let answer = self.ask(&subject, value(sequence).as_bytes()).await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(
            answer.contains("\"seq\"") && !answer.contains("\"error\""),
            "JetStream refused: {answer}"
        );
        Ok(())
    }
}

/// `MSG <subject> <subscription> [reply to] <bytes>`
fn message_length(line: &str) -> Option<usize> {
    line.strip_prefix("MSG ")?.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_length_last() {
        for (line, expected) in [
            ("MSG _INBOX.a 1 37", Some(37)),
            ("MSG _INBOX.a 1 reply.to 5", Some(5)),
            ("PING", None),
            ("MSG nonsense", None),
        ] {
            assert_eq!(message_length(line), expected, "{line}");
        }
    }

    #[test]
    fn every_server_syncs_always_and_listens_on_loopback_only() {
        let text = configuration("server1", 4222, &[6222, 6223, 6224], 1, "/store");
        assert!(text.contains("sync_interval: always"));
        assert!(text.contains(r#"listen: "127.0.0.1:6223""#));
        let listens = text.lines().filter(|line| line.contains("listen:"));
        assert!(listens.into_iter().all(|line| line.contains("127.0.0.1")));
    }
}
