//! What no replicated database on this machine can beat: its store, its disk, its network.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::closed_loop::{self, Measured, Pace, VALUE_BYTES, Writer, as_float};
use super::cores;
use super::filling::Filling;
use super::place::Place;
use super::target;
use crate::command;

/// What a log writes at least: one page.
const APPEND_BYTES: usize = 4096;
/// Only a bug can cause it.
const PANICKED: &str = "the thread that writes panicked";

/// `RocksDB` alone: what `clients` hand over is merged into batches, each synced.
pub(super) fn rocksdb(place: &Place, duration: Pace, clients: usize) -> Result<Measured> {
    let directory = place.directory().join(format!("rocksdb-{clients}"));
    let answer = command::run(
        Command::new(target::program("examples/floor")?)
            .arg(directory)
            .args([
                clients.to_string(),
                VALUE_BYTES.to_string(),
                duration.warm_up_seconds.to_string(),
                duration.measured_seconds.to_string(),
            ]),
    )?;
    serde_json::from_str(&answer).context("the floor's answer cannot be read")
}

/// `RocksDB` alone, in a new `directory` and on these `cores`: the same operations in the same batches, each synced;
/// operations per second.
pub(super) fn batches(directory: &Path, cores: Option<&str>, filling: Filling) -> Result<f64> {
    let answer = command::run(
        cores::program_on(cores, &target::program("examples/floor_batches")?)
            .arg(directory)
            .args([
                filling.batches.to_string(),
                filling.operations_each.to_string(),
                filling.value_bytes.to_string(),
            ]),
    )?;
    let answer: serde_json::Value =
        serde_json::from_str(&answer).context("the floor's answer cannot be read")?;
    answer["per_second"]
        .as_f64()
        .context("the floor does not say how fast it was")
}

/// The bare disk: `files` at a time are appended to and synced.
pub(super) fn device(place: &Place, duration: Pace, files: usize) -> Result<Measured> {
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..files)
            .map(|number| {
                let path = place.directory().join(format!("append-{files}-{number}"));
                scope.spawn(move || append(&path, duration))
            })
            .collect();
        let mut all = closed_loop::histogram()?;
        for thread in threads {
            let times = thread.join().map_err(|_| anyhow::anyhow!(PANICKED))??;
            all.add(times)
                .context("histograms differ in their bounds")?;
        }
        anyhow::Ok(all)
    })?;
    let seconds = as_float(duration.measured_seconds);
    Ok(Measured::of(&times, files, 1, seconds, None))
}

fn append(path: &Path, duration: Pace) -> Result<Histogram<u64>> {
    let mut file = File::create(path).context("cannot create a file to append to")?;
    let page = [b'x'; APPEND_BYTES];
    let begin = Instant::now() + Duration::from_secs(duration.warm_up_seconds);
    let end = begin + Duration::from_secs(duration.measured_seconds);
    let mut times = closed_loop::histogram()?;
    let mut sent = Instant::now();
    while sent < end {
        file.write_all(&page)?;
        file.sync_data()?;
        let done = Instant::now();
        if done >= begin && done < end {
            closed_loop::record(&mut times, done - sent);
        }
        sent = done;
    }
    Ok(times)
}

/// The network: as many bytes as a value has, there and back over loopback.
pub(super) async fn round_trip(pace: Pace) -> Result<Measured> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let echo = tokio::spawn(echo(listener));
    let pings = closed_loop::run(vec![Ping::open(address).await?], pace, &[]).await;
    echo.abort();
    pings
}

async fn echo(listener: TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut bytes = [0; VALUE_BYTES];
    loop {
        stream.read_exact(&mut bytes).await?;
        stream.write_all(&bytes).await?;
    }
}

struct Ping {
    stream: TcpStream,
    bytes: [u8; VALUE_BYTES],
}

impl Ping {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            bytes: [0; VALUE_BYTES],
        })
    }
}

impl Writer for Ping {
    async fn write(&mut self, _sequence: u64) -> Result<()> {
        self.stream.write_all(&self.bytes).await?;
        self.stream.read_exact(&mut self.bytes).await?;
        Ok(())
    }
}
