//! A follower comes back while clients go on writing: what catching up and copying a snapshot share.
//!
//! ```text
//! steady load ─► calm ─► control ─► follower started ─► watched until in sync, until readable ─► Comeback
//! ```
//! The control does to disk and cores what a follower does that comes back, without any database: how far the leader's
//! clients notice that is what this machine does to them, whoever shares it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::cores::Parted;
use super::deployment::{Deployment, REPLICAS};
use super::levels::Levels;
use super::scenario::settled_store;
use super::steady::{self, Latency, Steady};

/// Time for the load to become steady, and for connections to have sent their first.
const SETTLE: Duration = Duration::from_secs(2);
/// How often both replicas are looked at: a hundredth of what a catch-up takes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longer takes no follower that gets anywhere.
const WITHIN: Duration = Duration::from_mins(10);

/// What was seen of a follower that came back.
pub(super) struct Comeback {
    /// The end of the leader's log when the follower was in sync.
    pub(super) last: u64,
    /// Time from the start of its process until it was in sync.
    pub(super) in_sync_seconds: f64,
    /// Time until its readers saw all that.
    pub(super) readable_seconds: f64,
    /// What it said of itself meanwhile, from the start of its process on.
    pub(super) seen: Vec<Seen>,
    /// The leader's writes, before and meanwhile.
    pub(super) writes: Writes,
}

/// One look at the follower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// Since its process was started.
    pub(super) seconds: f64,
    /// What it said, unless it was not to be reached.
    pub(super) levels: Option<Levels>,
}

/// How long the leader's writes took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Writes {
    /// Before the follower came back.
    pub(super) undisturbed: Latency,
    /// During the control.
    pub(super) beside_control: Latency,
    /// From then until it was in sync.
    pub(super) meanwhile: Latency,
}

impl Writes {
    /// How many times as long the slowest hundredth took.
    pub(super) fn p99_ratio(self) -> f64 {
        p99(self.meanwhile) / p99(self.undisturbed)
    }

    /// The same of what the control does to them.
    pub(super) fn p99_ratio_of_control(self) -> f64 {
        p99(self.beside_control) / p99(self.undisturbed)
    }
}

fn p99(latency: Latency) -> f64 {
    super::closed_loop::as_float(latency.p99_micros.max(1))
}

/// Starts `follower`, which is stopped, and watches it; `calm` is the time in which the leader's
/// writes are measured before, and `control` is done then, given the follower's cores. To be called on
/// the main thread.
pub(super) async fn watch<T: Send + 'static>(
    deployment: &mut Deployment,
    [leader, follower]: [usize; 2],
    calm: Duration,
    control: impl FnOnce(Option<&str>) -> Result<T> + Send + 'static,
) -> Result<(T, Comeback)> {
    let parted = Parted::from(&deployment.replicas()[leader])?;
    let steady = Steady::start(deployment.access(), leader).await?;
    sleep(SETTLE).await;
    let calm_from = steady.elapsed();
    sleep(calm).await;
    let calm_until = steady.elapsed();
    let others = parted.others();
    let control = tokio::task::spawn_blocking(move || control(others.as_deref()))
        .await
        .context("the control panicked")??;
    let control_until = steady.elapsed();
    settled_store().await?;
    let started = steady.elapsed();
    deployment.replica(follower).start_again()?;
    parted.keep_apart(&deployment.replicas()[follower])?;
    let looked = look(deployment, leader, follower, &steady, started).await;
    let samples = steady.stop().await?;
    let Looked {
        seen,
        in_sync,
        readable,
        last,
    } = looked?;
    let writes = Writes {
        undisturbed: steady::latency(&samples, calm_from, calm_until)?,
        beside_control: steady::latency(&samples, calm_until, control_until)?,
        meanwhile: steady::latency(&samples, started, in_sync)?,
    };
    let found = Comeback {
        last,
        in_sync_seconds: in_sync.saturating_sub(started).as_secs_f64(),
        readable_seconds: readable.saturating_sub(started).as_secs_f64(),
        seen,
        writes,
    };
    Ok((control, found))
}

struct Looked {
    seen: Vec<Seen>,
    in_sync: Duration,
    readable: Duration,
    last: u64,
}

async fn look(
    deployment: &Deployment,
    leader: usize,
    follower: usize,
    steady: &Steady,
    started: Duration,
) -> Result<Looked> {
    let access = deployment.access();
    let mut seen = Vec::new();
    let mut in_sync = None;
    loop {
        let (leads, follows) = tokio::join!(access.levels(leader), access.levels(follower));
        let leads = leads.context("the leader is gone")?;
        let (now, levels) = (steady.elapsed(), follows.ok());
        let since = now.saturating_sub(started);
        seen.push(Seen {
            seconds: since.as_secs_f64(),
            levels,
        });
        if in_sync.is_none() && leads.in_sync == REPLICAS as u64 {
            in_sync = Some((now, leads.last));
        }
        if let Some((in_sync, last)) = in_sync
            && levels.is_some_and(|levels| levels.applied >= last)
        {
            return Ok(Looked {
                seen,
                in_sync,
                readable: now,
                last,
            });
        }
        ensure!(leads.leads, "another replica leads");
        ensure!(
            since < WITHIN,
            "the follower was not in sync within {} min",
            WITHIN.as_secs() / 60
        );
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn writes(undisturbed: u64, meanwhile: u64) -> Writes {
        let latency = |p99_micros| Latency {
            writes: 1000,
            p50_micros: p99_micros / 2,
            p99_micros,
            max_micros: 2 * p99_micros,
        };
        Writes {
            undisturbed: latency(undisturbed),
            beside_control: latency(undisturbed + undisturbed / 10),
            meanwhile: latency(meanwhile),
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_slowest_hundredths() {
        let writes = writes(1000, 1500);
        assert!((writes.p99_ratio() - 1.5).abs() < 1e-9);
        assert!((writes.p99_ratio_of_control() - 1.1).abs() < 1e-9);
    }
}
