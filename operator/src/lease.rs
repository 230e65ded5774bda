//! Which of several operators is at work: the holder of one Lease.
//!
//! ```text
//! standby ──nobody holds it, or its holder has been silent for the whole duration──▶ at work
//! at work ──could not renew in time──▶ the process ends   ──SIGTERM──▶ released, at once for others
//! ```
//!
//! Every write carries the resource version that was read, so of two who try one wins. How long a
//! holder has been silent is measured by our own monotonic clock from when *we* saw its last
//! renewal; its timestamps are for people. Losing the lease ends the process: what it was doing is
//! in an unknown state, and a fresh one starts from caches alone.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use tokio::time::Instant;

/// After how long without renewal others may take over. Nothing urgent waits for an operator:
/// tenants fail over without one.
const DURATION: Duration = Duration::from_secs(30);
/// How often the holder renews.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long the holder goes on without a renewal going through: shorter than [`DURATION`], so that
/// it has stopped when another begins.
const RENEW_WITHIN: Duration = Duration::from_secs(20);
/// How often a standby looks, and a failed renewal is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// Name of the Lease.
const NAME: &str = "percolate-operator";

/// The lease could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    /// Somebody else holds it.
    #[error("the lease is held by {holder:?}")]
    Taken {
        /// Who.
        holder: String,
    },
    /// It could not be renewed in time.
    #[error("the lease could not be renewed for {0:?}")]
    Expired(Duration),
}

/// One candidate.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    seen: Option<Seen>,
}

/// The lease as last seen.
#[derive(Debug, Clone)]
struct Seen {
    lease: Lease,
    /// When this version was first seen, by our clock.
    since: Instant,
}

/// What a candidate does about a lease it has seen.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// There is none: make it.
    Create,
    /// Take or renew it.
    Take,
    /// Somebody else is at work.
    Wait,
}

impl Candidate {
    /// A candidate known as `identity`, which no other ever has.
    pub fn new(api: Api<Lease>, identity: String) -> Self {
        Self {
            api,
            identity,
            seen: None,
        }
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease could not be looked at"),
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Renews until that fails for too long.
    pub async fn keep(&mut self) -> LeaseLost {
        let mut renewed = Instant::now();
        loop {
            let wait = if renewed.elapsed() < RENEW_EVERY {
                RENEW_EVERY
            } else {
                RETRY_EVERY
            };
            tokio::time::sleep(wait).await;
            let left = RENEW_WITHIN.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    return LeaseLost::Taken {
                        holder: self.holder().unwrap_or_default(),
                    };
                }
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_WITHIN {
                return LeaseLost::Expired(renewed.elapsed());
            }
        }
    }

    /// Gives the lease back, so that nobody has to wait for it to expire.
    pub async fn release(&mut self) {
        let Some(seen) = self.seen.take() else {
            return;
        };
        let mut lease = seen.lease;
        if lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_ref())
            != Some(&self.identity)
        {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        if let Err(error) = self.api.replace(NAME, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "the lease could not be released; others wait for it to expire");
        }
    }

    /// Looks once, and takes the lease if it may. True when it is ours.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(NAME).await?;
        self.observe(found.clone(), Instant::now());
        let written = match decide(self.seen.as_ref(), &self.identity, Instant::now()) {
            Move::Wait => return Ok(false),
            Move::Create => {
                let lease = claim(None, &self.identity, Timestamp::now());
                self.api.create(&PostParams::default(), &lease).await
            }
            Move::Take => {
                let lease = claim(found, &self.identity, Timestamp::now());
                self.api.replace(NAME, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.observe(Some(lease), Instant::now());
                Ok(true)
            }
            // Another candidate was faster; while we hold it, the next look tells who.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, found: Option<Lease>, now: Instant) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        self.seen = found.map(|lease| {
            let since = match &self.seen {
                Some(seen) if version(&seen.lease) == version(&lease) => seen.since,
                _ => now,
            };
            Seen { lease, since }
        });
    }

    fn holder(&self) -> Option<String> {
        self.seen
            .as_ref()?
            .lease
            .spec
            .as_ref()?
            .holder_identity
            .clone()
    }
}

fn decide(seen: Option<&Seen>, identity: &str, now: Instant) -> Move {
    let Some(seen) = seen else {
        return Move::Create;
    };
    let holder = seen
        .lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .filter(|holder| !holder.is_empty());
    match holder {
        None => Move::Take,
        Some(holder) if holder == identity => Move::Take,
        Some(_) if now.duration_since(seen.since) >= DURATION => Move::Take,
        Some(_) => Move::Wait,
    }
}

/// The lease as ours.
fn claim(found: Option<Lease>, identity: &str, now: Timestamp) -> Lease {
    let mut lease = found.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let before = lease.spec.take().unwrap_or_default();
    let ours_already = before.holder_identity.as_deref() == Some(identity);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        acquire_time: if ours_already {
            before.acquire_time
        } else {
            Some(MicroTime(now))
        },
        lease_transitions: Some(
            before.lease_transitions.unwrap_or_default() + i32::from(!ours_already),
        ),
        ..LeaseSpec::default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: Option<&str>, since: Instant) -> Seen {
        Seen {
            lease: Lease {
                metadata: ObjectMeta::default(),
                spec: Some(LeaseSpec {
                    holder_identity: holder.map(str::to_owned),
                    ..LeaseSpec::default()
                }),
            },
            since,
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_silent_for_its_whole_duration() {
        let start = Instant::now();
        let just_before = start + DURATION.checked_sub(Duration::from_millis(1)).unwrap();
        for (case, lease, now, expected) in [
            ("no lease", None, start, Move::Create),
            ("released", Some(seen(None, start)), start, Move::Take),
            (
                "released as text",
                Some(seen(Some(""), start)),
                start,
                Move::Take,
            ),
            (
                "ours",
                Some(seen(Some("me"), start)),
                just_before,
                Move::Take,
            ),
            (
                "held",
                Some(seen(Some("you"), start)),
                just_before,
                Move::Wait,
            ),
            (
                "silent",
                Some(seen(Some("you"), start)),
                start + DURATION,
                Move::Take,
            ),
        ] {
            assert_eq!(decide(lease.as_ref(), "me", now), expected, "{case}");
        }
    }

    #[test]
    fn renewing_keeps_the_time_of_acquisition_and_taking_over_counts() {
        let early = Timestamp::UNIX_EPOCH;
        let late = Timestamp::now();
        let first = claim(None, "me", early);
        let renewed = claim(Some(first), "me", late).spec.unwrap();
        assert_eq!(renewed.acquire_time, Some(MicroTime(early)));
        assert_eq!(renewed.lease_transitions, Some(1));
        let lease = Lease {
            metadata: ObjectMeta::default(),
            spec: Some(renewed),
        };
        let taken = claim(Some(lease), "you", late).spec.unwrap();
        assert_eq!(taken.acquire_time, Some(MicroTime(late)));
        assert_eq!(taken.lease_transitions, Some(2));
    }
}
