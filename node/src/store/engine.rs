//! How RocksDB is opened: small enough for thousands of tenants on few machines, and strict
//! enough that what was acknowledged is never silently missing.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, LogLevel, Options,
};

use super::keys::Family;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Blocks kept uncompressed in memory, shared by all families: the hot items of one small tenant.
const BLOCK_CACHE_BYTES: usize = 4 * MIB;

/// Two of these may be in memory per busy family; small, because a node should idle below 25 MiB.
const WRITE_BUFFER_BYTES: usize = 4 * MIB;

/// All write buffers together, at which the largest is flushed.
const ALL_WRITE_BUFFERS_BYTES: usize = 12 * MIB;

/// Steps in which a write buffer takes memory. RocksDB's default (an eighth of the buffer) would
/// be taken by each of six families at its first key.
const ARENA_BLOCK_BYTES: usize = 64 * KIB;

/// Bounds the time to open after a crash, and flushes families that are seldom written.
const WRITE_AHEAD_LOG_BYTES: u64 = 32 * MIB as u64;

/// Documents compress well, and better in larger blocks.
const BLOCK_BYTES: usize = 16 * KIB;

/// At a steady stream of writes compaction took an eighth of the processor at the default level, and half of that
/// was compression.
const FASTEST_ZSTD: i32 = 1;

/// RocksDB's own default, which zlib alone reads.
const WINDOW_BITS: i32 = -14;

/// One per thousand lookups of an absent key reads a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// Part of a write buffer that remembers which keys are in it: most ids that are written are new, and to look one up in
/// vain among all keys of a buffer took a tenth of applying it. 20 KiB per 1 MiB, 80 KiB of a busy family.
const WRITE_BUFFER_FILTER_RATIO: f64 = 0.02;

/// Tenants are small: more parallelism would only cost memory and disturb the neighbours.
const BACKGROUND_JOBS: i32 = 2;

/// Each open file takes memory; a small tenant has a few dozen, one of 10 GiB hundreds.
const OPEN_FILES: i32 = 128;

/// The engine's own message log: kept for support, never a reason to fill a volume.
const MESSAGE_LOG_BYTES: usize = MIB;
const MESSAGE_LOGS: usize = 2;

/// Spread writes of new files over time instead of one stall at the end.
const BYTES_PER_SYNC: u64 = MIB as u64;

pub(super) fn open(path: &Path) -> Result<DB, rocksdb::Error> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let families = Family::ALL
        .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache)));
    DB::open_cf_descriptors(&database_options(), path, families)
}

/// One value of a database that [`open`] refused, if it can be read at all.
pub(super) fn peek(path: &Path, family: Family, key: &[u8]) -> Option<Vec<u8>> {
    let db = DB::open_cf_for_read_only(&Options::default(), path, [family.name()], false).ok()?;
    let value = db.get_cf(self::family(&db, family), key);
    value.ok().flatten()
}

/// The handle of `family`.
///
/// # Panics
/// Never after [`open`], which creates every family or fails.
pub(super) fn family(db: &DB, family: Family) -> &ColumnFamily {
    db.cf_handle(family.name())
        .expect("open creates every family")
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // After a crash the log's last record may be incomplete: that one was never acknowledged and is
    // dropped. Damage anywhere else refuses to open. Of the other modes, AbsoluteConsistency would
    // refuse after every kill -9, and PointInTime (the default) would silently drop whatever
    // follows the damage, acknowledged writes included, on a replica still counted as in sync.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    // Atomic flush stays off: it matters only to writes that bypass the write-ahead log, and none do.
    options.set_max_total_wal_size(WRITE_AHEAD_LOG_BYTES);
    // What is applied need not be durable: it is handed to the system together with what is synced next.
    options.set_manual_wal_flush(true);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS_BYTES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_subcompactions(1);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_file_opening_threads(1);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(MESSAGE_LOG_BYTES);
    options.set_keep_log_file_num(MESSAGE_LOGS);
    options
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    // Indexes and filters count against the cache: memory stays bounded however large a tenant is.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    if matches!(family, Family::Items | Family::Idempotency) {
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        options.set_memtable_prefix_bloom_ratio(WRITE_BUFFER_FILTER_RATIO);
        options.set_memtable_whole_key_filtering(true);
    }
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_compression_per_level(compression(family));
    options.set_compression_options(WINDOW_BITS, FASTEST_ZSTD, 0, 0);
    options
}

/// What was just flushed is compacted or trimmed soon, so compressing it there and then would be work
/// done twice. Entries of the log arrive in order and leave by whole files: files
/// that hold them uncompressed on every level are moved down without being read at all.
fn compression(family: Family) -> &'static [DBCompressionType] {
    match family {
        Family::Oplog => &[DBCompressionType::None],
        _ => &[DBCompressionType::None, DBCompressionType::Zstd],
    }
}
