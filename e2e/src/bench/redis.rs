//! Redis with a primary and a replica, both with `appendfsync always`: `SET`, then `WAIT 1 0`.
//!
//! The replica's acknowledgement leaves in the same turn of its loop as its log's sync, and after it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::closed_loop::{Peer, VALUE_BYTES, Writer, value};
use super::daemon::{Daemon, until};
use super::place::{Place, free_ports};
use crate::prerequisites;

/// A primary and its replica.
pub(super) struct Redis {
    servers: Vec<Daemon>,
    primary: SocketAddr,
    _place: Place,
}

impl Redis {
    /// Starts both and waits until the replica follows.
    pub(super) async fn start(place: Place) -> Result<Self> {
        // One program with several names: by this one it is the server.
        let program = place.directory().join("redis-server");
        symlink(prerequisites::redis()?, &program).context("cannot link to Redis")?;
        let [primary, replica] = free_ports()?;
        let mut servers = Vec::new();
        for (name, port, follows) in [
            ("primary", primary, None),
            ("replica", replica, Some(primary)),
        ] {
            let directory = place.create(name)?.display().to_string();
            let mut settings = vec![
                ("--port", port.to_string()),
                ("--bind", "127.0.0.1".to_owned()),
                ("--dir", directory),
                ("--appendonly", "yes".to_owned()),
                ("--appendfsync", "always".to_owned()),
                // Snapshots beside the log would make nothing more durable.
                ("--save", String::new()),
            ];
            if let Some(primary) = follows {
                settings.push(("--replicaof", format!("127.0.0.1 {primary}")));
            }
            let arguments = settings
                .into_iter()
                .flat_map(|(name, value)| [name.to_owned(), value]);
            servers.push(Daemon::start(&place, name, &program, arguments)?);
        }
        let primary = SocketAddr::from(([127, 0, 0, 1], primary));
        until("Redis' replica follows", &mut servers, || async {
            has_replica(primary).await.unwrap_or(false)
        })
        .await?;
        Ok(Self {
            servers,
            primary,
            _place: place,
        })
    }
}

impl Peer for Redis {
    type Client = Client;

    fn daemons(&self) -> &[Daemon] {
        &self.servers
    }

    async fn connect(&self, name: String) -> Result<Client> {
        Client::open(self.primary, name).await
    }
}

/// A write that one replica acknowledges.
async fn has_replica(primary: SocketAddr) -> Result<bool> {
    const LIMIT_MILLIS: &str = "100";
    let mut client = Client::open(primary, "setup".to_owned()).await?;
    client
        .send(&[&["SET", "setup", "x"], &["WAIT", "1", LIMIT_MILLIS]])
        .await?;
    client.answer().await?;
    Ok(client.answer().await? == ":1")
}

/// One connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    name: String,
    request: String,
    line: String,
}

impl Client {
    async fn open(address: SocketAddr, name: String) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            name,
            request: String::with_capacity(2 * VALUE_BYTES),
            line: String::new(),
        })
    }

    /// All commands in one piece, so that the second does not wait for the answer to the first.
    async fn send(&mut self, commands: &[&[&str]]) -> Result<()> {
        self.request.clear();
        for command in commands {
            encode(command, &mut self.request);
        }
        self.stream.write_all(self.request.as_bytes()).await?;
        Ok(())
    }

    async fn answer(&mut self) -> Result<&str> {
        self.line.clear();
        let count = self.stream.read_line(&mut self.line).await?;
        ensure!(count > 0, "Redis closed the connection");
        let line = self.line.trim_end();
        ensure!(!line.starts_with('-'), "Redis refused: {line}");
        Ok(line)
    }
}

impl Writer for Client {
    async fn write(&mut self, sequence: u64) -> Result<()> {
        let key = format!("{}-{sequence:08}", self.name);
        let commands: [&[&str]; 2] = [&["SET", &key, value(sequence)], &["WAIT", "1", "0"]];
        self.send(&commands).await?;
        self.answer().await?;
        let replicas = self.answer().await?;
        ensure!(replicas == ":1", "the replica has not got the write");
        Ok(())
    }
}

/// A command as Redis' protocol wants it: an array of strings, each with its length.
fn encode(command: &[&str], request: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(request, "*{}\r\n", command.len());
    for word in command {
        let _ = write!(request, "${}\r\n{word}\r\n", word.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut request = String::new();
        encode(&["SET", "key", ""], &mut request);
        assert_eq!(request, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
    }
}
