//! What the store alone can do: the floor that `percolate-e2e bench` compares a whole database with.
//!
//! ```text
//! clients ─► queue ─► one thread: all that waited ─► one WriteBatch, synced ─► clients
//! ```
//! Arguments: directory, clients, bytes of a value, seconds of warm-up, seconds measured. Prints one
//! line of JSON. `RocksDB` is opened as `node/src/store/engine.rs` opens it, as far as it matters to
//! appending.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use tokio::sync::{mpsc, oneshot};

const MIB: usize = 1 << 20;
const WRITE_BUFFER_BYTES: usize = 4 * MIB;
const WRITE_AHEAD_LOG_BYTES: u64 = 32 << 20;
/// As the node's own runtime has.
const WORKERS: usize = 2;
/// A minute: far longer than any sync.
const LONGEST_MICROS: u64 = 60_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// One write, and who waits for it.
struct Append {
    value: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// What was asked on the command line.
struct Arguments {
    directory: String,
    clients: usize,
    value_bytes: usize,
    warm_up: Duration,
    measured: Duration,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let times = runtime.block_on(measure(&arguments))?;
    let line = serde_json::json!({
        "clients": arguments.clients,
        "answered": times.len(),
        "per_second": f64::from(u32::try_from(times.len())?) / arguments.measured.as_secs_f64(),
        "p50_micros": times.value_at_quantile(0.5),
        "p99_micros": times.value_at_quantile(0.99),
        "p999_micros": times.value_at_quantile(0.999),
        "max_micros": times.max(),
        "server_micros_per_write": null,
    });
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

fn arguments() -> Result<Arguments> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    ensure!(
        given.len() == 5,
        "give directory, clients, bytes of a value, seconds of warm-up, seconds measured"
    );
    Ok(Arguments {
        directory: given[0].clone(),
        clients: given[1].parse()?,
        value_bytes: given[2].parse()?,
        warm_up: Duration::from_secs(given[3].parse()?),
        measured: Duration::from_secs(given[4].parse()?),
    })
}

async fn measure(arguments: &Arguments) -> Result<Histogram<u64>> {
    let db = open(Path::new(&arguments.directory))?;
    let (appends, queue) = mpsc::unbounded_channel();
    let writer = std::thread::spawn(move || commit_groups(&db, queue));
    let begin = Instant::now() + arguments.warm_up;
    let end = begin + arguments.measured;
    let clients: Vec<_> = (0..arguments.clients)
        .map(|_| {
            let value = vec![b'x'; arguments.value_bytes];
            tokio::spawn(append_until(appends.clone(), value, begin, end))
        })
        .collect();
    drop(appends);
    let mut all = histogram()?;
    for client in clients {
        all.add(client.await??)?;
    }
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that writes panicked"))??;
    Ok(all)
}

fn open(directory: &Path) -> Result<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WRITE_AHEAD_LOG_BYTES);
    options.set_max_background_jobs(2);
    options.set_wal_bytes_per_sync(MIB as u64);
    options.set_bytes_per_sync(MIB as u64);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::Zstd);
    DB::open(&options, directory).context("cannot open the store")
}

/// Everything that waited while the last sync ran goes into the next one.
fn commit_groups(db: &DB, mut queue: mpsc::UnboundedReceiver<Append>) -> Result<()> {
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let mut index: u64 = 0;
    let mut waiting = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        let mut batch = WriteBatch::default();
        let mut next = Some(first);
        while let Some(append) = next {
            index += 1;
            batch.put(index.to_be_bytes(), &append.value);
            waiting.push(append.done);
            next = queue.try_recv().ok();
        }
        db.write_opt(batch, &synced).context("cannot write")?;
        for done in waiting.drain(..) {
            // A client that has ended meanwhile does not wait.
            let _ = done.send(());
        }
    }
    Ok(())
}

async fn append_until(
    appends: mpsc::UnboundedSender<Append>,
    value: Vec<u8>,
    begin: Instant,
    end: Instant,
) -> Result<Histogram<u64>> {
    let mut times = histogram()?;
    let mut sent = Instant::now();
    while sent < end {
        let (done, answered) = oneshot::channel();
        let value = value.clone();
        ensure!(
            appends.send(Append { value, done }).is_ok(),
            "the writer ended"
        );
        answered.await.context("the writer ended")?;
        let now = Instant::now();
        if now >= begin && now < end {
            let micros = u64::try_from((now - sent).as_micros())?;
            times.saturating_record(micros.clamp(1, LONGEST_MICROS));
        }
        sent = now;
    }
    Ok(times)
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, SIGNIFICANT_DIGITS)
        .context("the bounds of the histogram are wrong")
}
