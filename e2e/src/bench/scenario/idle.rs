//! What a tenant costs that nobody uses: processor, memory, requests to the API server.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Sizes;
use crate::bench::closed_loop::as_float;
use crate::bench::daemon::processor_seconds;
use crate::bench::deployment::{Deployment, Setup};
use crate::bench::place::Place;
use crate::bench::verdict::{Bound, Verdict, count, mebibytes};

/// After the start, before anything is counted: views, certificates and caches are read once.
const QUIET: Duration = Duration::from_secs(15);

const PROCESSOR: Bound = Bound {
    target: "processor of the busier node, millicores",
    wanted: 2.0,
    shown: |value| format!("{value:.1}"),
};
const RESIDENT: Bound = Bound {
    target: "memory of the larger node",
    wanted: 25.0 * 1_048_576.0,
    shown: mebibytes,
};
const WRITES: Bound = Bound {
    target: "writes to the API server",
    wanted: 0.0,
    shown: count,
};
const REQUESTS: Bound = Bound {
    target: "requests to the API server per second",
    wanted: 0.02,
    shown: |value| format!("{value:.3}"),
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Idle {
    /// For how long it was counted.
    seconds: f64,
    /// The leader.
    leader: Node,
    /// The follower.
    follower: Node,
    /// Requests for the register that the API server answered.
    requests: u64,
    /// Those of them that change it.
    writes: u64,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Node {
    /// Thousandths of a processor.
    millicores: f64,
    /// At the end.
    resident_bytes: u64,
    /// Of that, pages of files, mostly of the program.
    of_files_bytes: u64,
}

/// Runs it.
pub(in crate::bench) async fn measure(place: Place, sizes: &Sizes) -> Result<Idle> {
    let setup = Setup {
        min_in_sync: 1,
        serve: Vec::new(),
    };
    let deployment = Deployment::start(place, &setup).await?;
    sleep(QUIET).await;
    let leader = deployment.leader()?;
    let used = || [0, 1].map(|at| processor_seconds(&deployment.replicas()[at..=at]));
    let (requests, used_before, begun) = (deployment.requests()?, used(), Instant::now());
    sleep(Duration::from_secs(sizes.idle_seconds)).await;
    let (used_after, seconds) = (used(), begun.elapsed().as_secs_f64());
    let answered = deployment.requests()?;
    let node = |at: usize| -> Result<Node> {
        let memory = deployment.replicas()[at].memory()?;
        Ok(Node {
            millicores: (used_after[at] - used_before[at]) * 1000.0 / seconds,
            resident_bytes: memory.now,
            of_files_bytes: memory.of_files,
        })
    };
    Ok(Idle {
        seconds,
        leader: node(leader)?,
        follower: node(super::other(leader))?,
        requests: answered.all - requests.all,
        writes: answered.writes - requests.writes,
    })
}

impl Idle {
    fn requests_per_second(&self) -> f64 {
        as_float(self.requests) / self.seconds
    }

    /// The targets.
    pub(in crate::bench) fn verdicts(&self) -> Vec<Verdict> {
        let (leader, follower) = (self.leader, self.follower);
        let resident = leader.resident_bytes.max(follower.resident_bytes);
        vec![
            PROCESSOR.at_most(leader.millicores.max(follower.millicores)),
            RESIDENT.at_most(as_float(resident)),
            WRITES.at_most(as_float(self.writes)),
            REQUESTS.at_most(self.requests_per_second()),
        ]
    }

    /// How it was run, and the figures.
    pub(in crate::bench) fn text(&self) -> String {
        let node = |node: Node| {
            let [memory, of_files] =
                [node.resident_bytes, node.of_files_bytes].map(|bytes| mebibytes(as_float(bytes)));
            format!("{:.1} millicores | {memory} | {of_files}", node.millicores)
        };
        format!(
            "Two replicas in sync that nobody talks to, for {:.0} s. Processor time and resident memory are from `/proc`, \
             requests for the register from the API server's own metrics: {} of them, {} of these writes. It counts a \
             watch when it ends, which takes minutes; each node has one.\n\n\
             | | processor | memory | of that, pages of the program |\n|---|---|---|---|\n| leader | {} |\n| follower | {} |\n",
            self.seconds,
            self.requests,
            self.writes,
            node(self.leader),
            node(self.follower),
        )
    }
}

#[cfg(test)]
pub(in crate::bench) mod tests {
    use super::*;

    pub(in crate::bench) fn found() -> Idle {
        let node = |millicores| Node {
            millicores,
            resident_bytes: 20 << 20,
            of_files_bytes: 12 << 20,
        };
        Idle {
            seconds: 60.0,
            leader: node(1.5),
            follower: node(0.8),
            requests: 1,
            writes: 0,
        }
    }

    #[test]
    fn the_worse_of_both_nodes_is_judged() {
        let met = |idle: &Idle| -> Vec<bool> {
            let verdicts = idle.verdicts();
            verdicts
                .iter()
                .map(|verdict| verdict.judgement == "met")
                .collect()
        };
        assert_eq!(met(&found()), [true; 4]);
        let busy = Idle {
            follower: Node {
                millicores: 2.5,
                resident_bytes: 26 << 20,
                of_files_bytes: 12 << 20,
            },
            requests: 2,
            writes: 1,
            ..found()
        };
        assert_eq!(met(&busy), [false; 4]);
    }
}
