//! The `percolate` binary: a replica, or a command that talks to one.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use percolate_node::cli::{self, Cli};
use percolate_node::client;
use percolate_node::serve::{self, Next};
use tokio::runtime::{Builder, Runtime};

// Returns what it no longer needs to the system: many small replicas share a machine.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Threads for what waits on the disk, beside those of the store itself: reads of lists and watches,
/// decoding, copies of the store. Each may hold some megabytes; further work waits.
const BLOCKING: usize = 64;

fn main() -> ExitCode {
    let cli = Cli::from_process();
    // One provider of cryptography, chosen before anything can ask for one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let threads = match &cli.command {
        cli::Command::Serve(options) => options.threads,
        cli::Command::Client(_) | cli::Command::Completions { .. } => 1,
    };
    let runtime = match runtime(threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&anyhow::Error::new(error).context("cannot start the runtime"));
        }
    };
    match cli.command {
        cli::Command::Serve(options) => {
            log_to_stderr();
            match runtime.block_on(serve::run(*options)) {
                Ok(Next::Stop) => ExitCode::SUCCESS,
                Ok(Next::BeginAnew) => begin_anew(),
                Err(error) => failed(&error),
            }
        }
        cli::Command::Client(command) => runtime.block_on(client::run(*command)),
        cli::Command::Completions { shell } => {
            Cli::complete(shell, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// One thread hands nothing to another: a tenant that idles wakes less.
fn runtime(threads: u16) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if threads == 1 {
        builder = Builder::new_current_thread();
    } else {
        builder.worker_threads(threads.into());
    }
    builder.max_blocking_threads(BLOCKING).enable_all().build()
}

/// Become the same program with the same arguments: nothing of the memory of a store that is to be
/// replaced stays behind, and the pod counts no restart.
fn begin_anew() -> ExitCode {
    tracing::info!("beginning anew");
    let program = std::env::current_exe().unwrap_or_else(|_| "percolate".into());
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .exec();
    failed(&anyhow::Error::new(error).context("cannot begin anew"))
}

/// JSON lines, filtered by `RUST_LOG` (default `info`).
fn log_to_stderr() {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

fn failed(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    eprintln!("percolate: {error:#}");
    ExitCode::FAILURE
}
