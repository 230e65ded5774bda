//! Threads for copies of whole stores: beside the one that serves clients, and behind it.
//!
//! To read, hash and encrypt a gigabyte takes a processor for seconds. On the thread of replication every
//! write would wait for the chunk that is under way; at the same priority, for half of the processor.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Two keep a wire of ten gigabits busy, and leave most of a small machine to everybody else.
const THREADS: usize = 2;

/// Reading and writing of chunks, each with a mebibyte or two in memory.
const BLOCKING: usize = 16;

/// By how much others come first, of 19: where there is not enough for both, they get nine tenths.
const NICENESS: i32 = 10;

/// The threads, until this is dropped.
#[derive(Debug)]
pub struct Bulk {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Bulk {
    /// Start them; they wait for work.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING)
            .thread_name("bulk")
            .on_thread_start(come_last)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where work is given to them.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // dropping it would wait for its threads
        }
    }
}

/// Of Linux' threads each has a priority of its own.
fn come_last() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread for copies has the priority of all others");
    }
}
