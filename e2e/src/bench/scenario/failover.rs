//! How long nobody is told of a successful write when the leader is lost, hangs, or hands over.
//!
//! ```text
//! clients at both replicas ─► fault ─► silence ─► the next acknowledged write ─► leader back, in sync, again
//!                         └─► at the end: is everything acknowledged there?
//! ```

mod clients;
mod etcd;
mod pods;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use self::clients::{Acknowledged, Clients};
use super::Sizes;
use crate::bench::deployment::{Deployment, REPLICAS, Setup};
use crate::bench::place::Place;
use crate::bench::plot::strip::{Strip, strips};
use crate::bench::plot::{OWN_COLOUR, PEER_COLOUR};
use crate::bench::verdict::{Bound, Verdict, count, millis};
use crate::gaps;
use crate::progress::say;

/// Between two faults: everybody writes again, as if nothing had been.
const BETWEEN: Duration = Duration::from_secs(1);

const LOST: Bound = Bound {
    target: "acknowledged writes that are missing",
    wanted: 0.0,
    shown: count,
};

/// What is done to a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    /// `SIGKILL`.
    Killed,
    /// `SIGSTOP`, until others serve.
    Hung,
    /// `SIGTERM`, and started again.
    HandedOver,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Killed, Self::Hung, Self::HandedOver];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "leader killed",
            Self::Hung => "leader hung",
            Self::HandedOver => "planned handover",
        }
    }

    fn bound(self) -> Bound {
        let (target, wanted) = match self {
            Self::Killed => ("leader killed, p99", 5_000.0),
            Self::Hung => ("leader hung, p99", 10_000.0),
            Self::HandedOver => ("pause of a planned handover, p99", 500.0),
        };
        Bound {
            target,
            wanted,
            shown: millis,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Failover {
    /// One per kind of fault.
    faults: Vec<Repeated>,
    /// The same for etcd, its leader killed.
    etcd: Vec<Silence>,
    /// Writes that clients were told of.
    acknowledged: usize,
    /// Those of them that either replica lacked in the end.
    missing: usize,
}

/// A fault, again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Repeated {
    fault: Fault,
    silences: Vec<Silence>,
}

/// What one fault cost, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Silence {
    /// From the last acknowledged write to the next, whoever asked.
    anybody: u64,
    /// The longest between two of one and the same client.
    slowest_client: u64,
}

/// Runs it. `parent` is where etcd gets a place of its own.
pub(in crate::bench) async fn measure(
    place: Place,
    parent: &Path,
    sizes: &Sizes,
) -> Result<Failover> {
    let setup = Setup {
        min_in_sync: 1,
        serve: Vec::new(),
    };
    let mut deployment = Deployment::start(place, &setup).await?;
    let found = suffered(&mut deployment, sizes.repetitions).await;
    if found.is_err() {
        deployment.show_logs();
    }
    let (faults, told, missing) = found?;
    drop(deployment);
    say("    etcd, for comparison");
    let etcd = Box::pin(etcd::killed(Place::below(parent)?, sizes.repetitions)).await?;
    Ok(Failover {
        faults,
        etcd,
        acknowledged: told,
        missing,
    })
}

async fn suffered(
    deployment: &mut Deployment,
    repetitions: u32,
) -> Result<(Vec<Repeated>, usize, usize)> {
    let access = deployment.access().clone();
    let clients = Clients::start::<pods::Pod>(&access, REPLICAS);
    let times = all_faults(deployment, &clients, repetitions).await;
    let told = clients.stop().await?;
    let times = times?;
    let every: Vec<Duration> = times.iter().flat_map(|(_, times)| times.clone()).collect();
    let mut silences = silences(&told, &every).into_iter();
    let faults = times
        .iter()
        .map(|(fault, times)| Repeated {
            fault: *fault,
            silences: silences.by_ref().take(times.len()).collect(),
        })
        .collect();
    let missing = pods::missing(&access, &told).await?;
    Ok((faults, told.iter().map(Vec::len).sum(), missing))
}

async fn all_faults(
    deployment: &mut Deployment,
    clients: &Clients,
    repetitions: u32,
) -> Result<Vec<(Fault, Vec<Duration>)>> {
    let mut all = Vec::new();
    for fault in Fault::ALL {
        say(&format!("    {}, {repetitions} times", fault.name()));
        let mut times = Vec::new();
        for _ in 0..repetitions {
            pods::settled(deployment.access()).await?;
            clients.spread();
            sleep(BETWEEN).await;
            times.push(pods::suffer(deployment, clients, fault).await?);
        }
        all.push((fault, times));
    }
    Ok(all)
}

/// What each fault cost: the longest silence from it until the next.
fn silences(told: &[Vec<Acknowledged>], faults: &[Duration]) -> Vec<Silence> {
    let times = |acknowledged: &[Acknowledged]| -> Vec<Duration> {
        let times = acknowledged.iter().map(|acknowledged| acknowledged.at);
        times.collect()
    };
    let clients: Vec<Vec<Duration>> = told.iter().map(|told| times(told)).collect();
    let mut anybody = clients.concat();
    anybody.sort_unstable();
    let silence = |number: usize, fault: Duration| {
        let until = faults.get(number + 1).copied().unwrap_or(Duration::MAX);
        let pause = |times: &[Duration]| gaps::pause(times, fault, until).map(millis_of);
        Some(Silence {
            anybody: pause(&anybody)?,
            slowest_client: clients.iter().filter_map(|times| pause(times)).max()?,
        })
    };
    faults
        .iter()
        .enumerate()
        .filter_map(|(number, fault)| silence(number, *fault))
        .collect()
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The smallest value that so large a part does not exceed; 0 if there are none.
fn quantile(values: &[u64], part: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let counts = 1..=sorted.len() as u64;
    let enough = |count: &u64| {
        let reached = crate::bench::closed_loop::as_float(*count);
        reached >= part * crate::bench::closed_loop::as_float(sorted.len() as u64)
    };
    let at = counts.into_iter().find(enough).unwrap_or_default();
    let at = usize::try_from(at.saturating_sub(1)).unwrap_or_default();
    sorted.get(at).copied().unwrap_or_default()
}

fn anybody(silences: &[Silence]) -> Vec<u64> {
    silences.iter().map(|silence| silence.anybody).collect()
}

impl Failover {
    /// The targets.
    pub(in crate::bench) fn verdicts(&self) -> Vec<Verdict> {
        let missing = u32::try_from(self.missing).unwrap_or(u32::MAX);
        let times = self.faults.iter().map(|repeated| {
            let p99 = quantile(&anybody(&repeated.silences), 0.99);
            let p99 = crate::bench::closed_loop::as_float(p99);
            repeated.fault.bound().at_most(p99)
        });
        times.chain([LOST.at_most(f64::from(missing))]).collect()
    }

    /// How it was run, and the figures.
    pub(in crate::bench) fn text(&self) -> String {
        let mut text = format!(
            "Two replicas, heartbeats every 500 ms, takeover after 2.5 s (the defaults), `minInSync` 1; eight clients that \
             write every 10 ms, spread over both replicas as a Service spreads connections, and that go on at the other \
             one when a connection breaks or nothing was answered for 1 s. Killed is `SIGKILL`, hung `SIGSTOP`, a handover \
             `SIGTERM` and a new start; the former leader comes back before the next fault. A pause is the longest time \
             from one acknowledged write to the next, whoever asked, from the fault until the next one; beside it what \
             the unluckiest of the eight clients saw. With so few repetitions p99 is the slowest. Of {} acknowledged \
             writes {} were missing at either replica in the end. etcd: three members with defaults (election after 1 s).\n\n\
             | | times | p50 | p99 | max | unluckiest client: p50 | max |\n|---|---|---|---|---|---|---|\n",
            count(f64::from(
                u32::try_from(self.acknowledged).unwrap_or(u32::MAX)
            )),
            self.missing,
        );
        let rows = self
            .faults
            .iter()
            .map(|repeated| (repeated.fault.name(), &repeated.silences));
        for (name, silences) in rows.chain([("etcd, leader killed", &self.etcd)]) {
            let own = anybody(silences);
            let slowest: Vec<u64> = silences
                .iter()
                .map(|silence| silence.slowest_client)
                .collect();
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {} | {} ms | {} ms | {} ms | {} ms | {} ms |",
                own.len(),
                quantile(&own, 0.5),
                quantile(&own, 0.99),
                quantile(&own, 1.0),
                quantile(&slowest, 0.5),
                quantile(&slowest, 1.0),
            );
        }
        text
    }

    /// Every pause.
    pub(in crate::bench) fn plots(&self) -> Vec<(&'static str, &'static str, String)> {
        let own = self.faults.iter().map(|repeated| Strip {
            name: repeated.fault.name(),
            colour: OWN_COLOUR,
            values: anybody(&repeated.silences),
            bound: Some(repeated.fault.bound().wanted),
        });
        let etcd = Strip {
            name: "etcd, leader killed",
            colour: PEER_COLOUR,
            values: anybody(&self.etcd),
            bound: None,
        };
        let rows: Vec<Strip> = own.chain([etcd]).collect();
        let title =
            "Without an acknowledged write, each time (further left is better; | is allowed)";
        vec![("failover.svg", "Pauses of a failover", strips(title, &rows))]
    }
}

#[cfg(test)]
pub(in crate::bench) mod tests {
    use super::*;

    pub(in crate::bench) fn found() -> Failover {
        let silences = |values: &[u64]| -> Vec<Silence> {
            let silence = |value: &u64| Silence {
                anybody: *value,
                slowest_client: value + 100,
            };
            values.iter().map(silence).collect()
        };
        let repeated = |fault, values: &[u64]| Repeated {
            fault,
            silences: silences(values),
        };
        Failover {
            faults: vec![
                repeated(Fault::Killed, &[2600, 2900, 3000]),
                repeated(Fault::Hung, &[3100, 3300, 11_000]),
                repeated(Fault::HandedOver, &[60, 80, 90]),
            ],
            etcd: silences(&[1200, 1900]),
            acknowledged: 12_345,
            missing: 0,
        }
    }

    #[test]
    fn a_quantile_is_a_value_that_so_many_do_not_exceed() {
        let values: Vec<u64> = (1..=200).rev().collect();
        for (part, expected) in [(0.5, 100), (0.99, 198), (1.0, 200)] {
            assert_eq!(quantile(&values, part), expected, "{part}");
        }
        assert_eq!(quantile(&[7], 0.99), 7);
        assert_eq!(quantile(&[3, 9], 0.5), 3);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn each_fault_has_its_own_silence_and_that_of_the_unluckiest() {
        let told = |times: &[u64]| -> Vec<Acknowledged> {
            let acknowledged = |at: &u64| Acknowledged {
                id: at.to_string(),
                at: Duration::from_millis(*at),
            };
            times.iter().map(acknowledged).collect()
        };
        let told = [told(&[0, 100, 900, 1000, 2000]), told(&[50, 90, 500, 2000])];
        let faults = [110, 1050].map(Duration::from_millis);
        let expected = [(400, 800), (1000, 1500)].map(|(anybody, slowest_client)| Silence {
            anybody,
            slowest_client,
        });
        assert_eq!(silences(&told, &faults), expected);
    }

    #[test]
    fn every_fault_has_its_target_and_a_lost_write_is_a_miss() {
        let met = |found: &Failover| -> Vec<bool> {
            let verdicts = found.verdicts();
            verdicts
                .iter()
                .map(|verdict| verdict.judgement == "met")
                .collect()
        };
        assert_eq!(met(&found()), [true, false, true, true]);
        let lossy = Failover {
            missing: 2,
            ..found()
        };
        assert_eq!(lossy.verdicts()[3].judgement, "**missed**: 2 too many");
    }
}
