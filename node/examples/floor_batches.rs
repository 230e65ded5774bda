//! What the store alone can do with many operations at once: the floor that `percolate-e2e bench`
//! compares catching up with.
//!
//! ```text
//! values ─► WriteBatch of so many ─► written and synced ─► the next
//! ```
//! Arguments: directory, batches, operations of each, bytes of a value. Prints one line of JSON.
//! `RocksDB` is opened as `node/src/store/engine.rs` opens it, as far as it matters to writing.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::distr::Alphanumeric;
use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};

const MIB: usize = 1 << 20;
const WRITE_BUFFER_BYTES: usize = 4 * MIB;
const WRITE_AHEAD_LOG_BYTES: u64 = 32 << 20;
/// Longer than the values of a batch: they compress as text does, not because they are alike.
const TEXT_BYTES: usize = 8 * MIB;
/// Odd and large: its multiples fall all over the text.
const SCATTER: usize = 0x9E37_79B9_7F4A_7C15;

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    ensure!(
        given.len() == 4,
        "give directory, batches, operations of each, bytes of a value"
    );
    let (batches, each, bytes): (usize, usize, usize) =
        (given[1].parse()?, given[2].parse()?, given[3].parse()?);
    ensure!(bytes < TEXT_BYTES, "values have at most 8 MiB");
    let db = DB::open(&options(), &given[0]).context("cannot open the store")?;
    let letters = rand::rng().sample_iter(Alphanumeric);
    let text: Vec<u8> = letters.take(TEXT_BYTES).collect();
    let begun = Instant::now();
    write(&db, &text, batches, each, bytes)?;
    let seconds = begun.elapsed().as_secs_f64();
    let operations = u32::try_from(batches * each).context("that many cannot be counted")?;
    let line = serde_json::json!({
        "operations": operations,
        "seconds": seconds,
        "per_second": f64::from(operations) / seconds,
    });
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

fn write(db: &DB, text: &[u8], batches: usize, each: usize, bytes: usize) -> Result<()> {
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    for number in 0..batches {
        let mut batch = WriteBatch::default();
        for operation in number * each..(number + 1) * each {
            let place = operation.wrapping_mul(SCATTER) % (text.len() - bytes);
            // Such keys as the operations have that it is compared with.
            let key = format!("filling-{operation:010}");
            batch.put(key, &text[place..place + bytes]);
        }
        db.write_opt(batch, &synced).context("cannot write")?;
    }
    Ok(())
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WRITE_AHEAD_LOG_BYTES);
    options.set_max_background_jobs(2);
    options.set_wal_bytes_per_sync(MIB as u64);
    options.set_bytes_per_sync(MIB as u64);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::Zstd);
    options
}
