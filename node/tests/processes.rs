//! Replicas as real processes, and what befalls processes: clocks that are wrong or jump, disks that
//! hang, links that swallow, damage or repeat what is sent, and clients that ask for more than there
//! is.
//!
//! ```text
//! test ─▶ Replicas ─▶ percolate serve ══▶ Proxy, one for each link ══▶ percolate serve
//!            ├──────▶ ApiServer: one register, changed by compare-and-swap
//!            └──────▶ Shim: clock and syncs of one process, changed while it runs
//! ```
//! Needs neither Kubernetes nor root: a replica's pod is named so that pod and domain together are an
//! address of loopback, and each replica has a domain of its own, whose addresses are proxies. The
//! tests run one at a time, for what they ask is whether processes keep up.

#[path = "processes/api_server.rs"]
mod api_server;
#[path = "cluster/certificates.rs"]
mod certificates;
#[path = "processes/clients.rs"]
mod clients;
#[path = "processes/clocks.rs"]
mod clocks;
#[path = "processes/connections.rs"]
mod connections;
#[path = "processes/links.rs"]
mod links;
#[path = "processes/overload.rs"]
mod overload;
#[path = "processes/proxy.rs"]
mod proxy;
#[path = "processes/replicas.rs"]
mod replicas;
#[path = "processes/shim.rs"]
mod shim;
#[path = "processes/stalls.rs"]
mod stalls;

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long anything may take before a test gives up; generous, for busy machines.
const PATIENCE: Duration = Duration::from_mins(1);

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::const_new(());

/// Ask until there is an answer; panics with `what` when patience ends.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
