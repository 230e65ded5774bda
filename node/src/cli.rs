//! The command line of the `percolate` binary: what can be asked, and where it connects.
//!
//! ```text
//! argv + environment -> Cli -> main: Serve(cli::Serve) | client::run(cli::ClientCommand)
//! ```
//! Parsing only: nothing here opens a file or a socket.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub mod data;

pub use data::{
    Export, Get, Import, Item, Kind, List, Put, PutEdge, PutEntity, PutItem, PutMoment,
    PutResource, Remove, Watch,
};

/// Percolate: a private database for one tenant's memory, replicated and offline-first.
#[derive(Debug, Parser)]
#[command(
    name = "percolate",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 node not reachable.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a replica of a tenant (what the pods of a `PercolateTenant` do).
    Serve(Box<Serve>),
    /// Talk to a running node.
    #[command(flatten)]
    Client(Box<ClientCommand>),
    /// Print a completion script for a shell, for example: percolate completions bash
    Completions {
        /// The shell to write for.
        shell: clap_complete::Shell,
    },
}

/// The commands that talk to a running node.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Write one item: a resource, an entity, an edge or a moment.
    Put(Put),
    /// Show one item.
    Get(Get),
    /// List items of one kind in the order of their ids.
    Ls(List),
    /// Delete one item.
    Rm(Remove),
    /// Bring in a folder of documents or JSON lines; run it again to resume.
    Import(Import),
    /// Write everything as JSON lines that `import` takes back.
    Export(Export),
    /// Print what changes, as it changes; resumes by itself after a lost connection or a failover.
    Watch(Watch),
    /// Show the node's role, its leader and how far it has applied.
    Status(Status),
}

/// Where to connect, and how to print.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Base URL of a node, for example <https://acme-rw.tenants.svc:8000>
    #[arg(long, global = true, env = "PERCOLATE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token.
    #[arg(
        long,
        global = true,
        env = "PERCOLATE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// File that holds the bearer token (keeps it out of the process list).
    #[arg(
        long,
        global = true,
        env = "PERCOLATE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    pub token_file: Option<PathBuf>,
    /// PEM file of the certificate authority to trust; without it, the system's.
    #[arg(long, global = true, env = "PERCOLATE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Seconds to go on retrying while the tenant has no leader or is overloaded.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub retry_for: u64,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one JSON document, or one per line for lists.
    Json,
}

/// Arguments of `percolate status`.
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `percolate serve`; in a pod all of them come from the environment.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The tenant whose data this replica holds.
    #[arg(long, env = "PERCOLATE_TENANT_ID", value_name = "ID")]
    pub tenant_id: String,
    /// Folder of this replica's data, on its own volume.
    #[arg(long, env = "PERCOLATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Name of this pod.
    #[arg(long, env = "PERCOLATE_POD", value_name = "NAME")]
    pub pod: String,
    /// Namespace of this pod and of its register.
    #[arg(long, env = "PERCOLATE_NAMESPACE", value_name = "NAME")]
    pub namespace: String,
    /// Name of the `PercolateReplication` object that says who leads.
    #[arg(long, env = "PERCOLATE_REGISTER", value_name = "NAME")]
    pub register: String,
    /// Domain in which pods are found: a pod's host is <pod>.<peer domain>
    #[arg(long, env = "PERCOLATE_PEER_DOMAIN", value_name = "DOMAIN")]
    pub peer_domain: String,
    /// Folder with tls.crt, tls.key and ca.crt; changes are picked up without a restart.
    #[arg(long, env = "PERCOLATE_TLS_DIR", value_name = "DIR")]
    pub tls_dir: PathBuf,
    /// File with the bearer token that opens the API; changes are picked up without a restart.
    #[arg(long, env = "PERCOLATE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: PathBuf,
    /// How often a leader tells its followers that it is there, in milliseconds.
    #[arg(long, env = "PERCOLATE_HEARTBEAT_MS", value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub heartbeat_ms: u64,
    /// How long a follower waits without a heartbeat before it takes over, in milliseconds.
    #[arg(long, env = "PERCOLATE_TAKEOVER_AFTER_MS", value_name = "MS", default_value_t = 2500, value_parser = clap::value_parser!(u64).range(50..=600_000))]
    pub takeover_after_ms: u64,
    /// Bytes of the log that are always kept, so that a replica which was away need not be copied whole.
    #[arg(long, env = "PERCOLATE_LOG_KEEP_BYTES", value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(64 << 10..=64 << 30))]
    pub log_keep_bytes: u64,
    /// How fast this replica's store may be read by those that are copied anew, all together.
    #[arg(long, env = "PERCOLATE_SNAPSHOT_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(64 << 10..))]
    pub snapshot_bytes_per_second: u64,
    /// How fast this replica reads its own files in search of damage. A store of more than 30 times as
    /// many bytes takes longer than half a minute to be read.
    #[arg(long, env = "PERCOLATE_SCRUB_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = 2 << 20, value_parser = clap::value_parser!(u64).range(64 << 10..))]
    pub scrub_bytes_per_second: u64,
    /// Threads for connections and replication, beside those for the disk. More than one is for a tenant whose
    /// clients keep a whole core busy; it costs the others when they idle.
    #[arg(long, env = "PERCOLATE_THREADS", value_name = "THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Where the reason is written when this process ends because of its disk, if that file exists.
    #[arg(
        long,
        env = "PERCOLATE_TERMINATION_LOG",
        value_name = "FILE",
        default_value = "/dev/termination-log"
    )]
    pub termination_log: PathBuf,
    /// Largest request body, in bytes, before and after decompression.
    #[arg(long, env = "PERCOLATE_BODY_LIMIT_BYTES", value_name = "BYTES", default_value_t = crate::server::limits::BODY_BYTES)]
    pub body_limit_bytes: usize,
    /// Where the HTTPS API listens.
    #[arg(
        long,
        env = "PERCOLATE_API_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8000"
    )]
    pub api_listen: SocketAddr,
    /// Where other replicas connect.
    #[arg(
        long,
        env = "PERCOLATE_PEER_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:7400"
    )]
    pub peer_listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served, without TLS.
    #[arg(
        long,
        env = "PERCOLATE_HEALTH_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9100"
    )]
    pub health_listen: SocketAddr,
}

impl Cli {
    /// Parse the process's arguments and environment; wrong usage ends the process with code 2.
    pub fn from_process() -> Self {
        Self::parse()
    }

    /// Write the completion script for `shell`.
    pub fn complete(shell: clap_complete::Shell, out: &mut dyn Write) {
        clap_complete::generate(shell, &mut Self::command(), "percolate", out);
    }

    /// Parse the given arguments (the first is the program's name).
    pub fn try_from_arguments<T: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_explains_itself() {
        for command in Cli::command().get_subcommands() {
            assert!(
                command.get_about().is_some(),
                "{} has no help",
                command.get_name()
            );
            for argument in command
                .get_arguments()
                .filter(|argument| argument.get_id() != "help" && argument.get_id() != "version")
            {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn usage_is_told_from_nonsense() {
        let cases: [(&[&str], bool); 21] = [
            (&["get", "resource", "a", "--max-staleness", "500ms"], true),
            (&["ls", "edges", "--max-staleness", "2s"], true),
            (&["ls", "edges", "--max-staleness", "soon"], false),
            (&["get", "resource", "a"], true),
            (
                &["get", "resource", "a", "--url", "https://localhost:8000"],
                true,
            ),
            (&["get", "edge", "a", "knows", "b"], true),
            (&["get", "edge", "a"], false),
            (&["get", "resource", "a", "b"], false),
            (&["get", "thing", "a"], false),
            (&["put", "moment", "m", "--content", "x"], true),
            (
                &["put", "resource", "r", "--content", "x", "--file", "y"],
                false,
            ),
            (&["put", "entity", "e", "--property", "no-value"], false),
            (
                &["ls", "entities", "--label", "person", "--limit", "5"],
                true,
            ),
            (&["import"], false),
            (&["status", "--token", "a", "--token-file", "b"], false),
            (&["watch"], true),
            (&["watch", "--from", "57", "--kind", "entity"], true),
            (
                &["watch", "--from", "57.0@0000000000000000000000000000000a"],
                true,
            ),
            (&["watch", "--from", "yesterday"], false),
            (&["watch", "--from", "-1"], false),
            (&["frobnicate"], false),
        ];
        for (arguments, valid) in cases {
            let parsed = Cli::try_from_arguments(std::iter::once(&"percolate").chain(arguments));
            assert_eq!(
                parsed.is_ok(),
                valid,
                "{arguments:?}: {:?}",
                parsed.err().map(|error| error.to_string())
            );
        }
    }
}
