//! A follower with an empty disk, and a leader whose log does not reach back: a snapshot is copied.
//!
//! ```text
//! follower stopped, its disk emptied ─► a gibibyte of data ─► started, under a steady load ─► in sync
//! the leader's files through TCP, written and synced ─► what part of that it reached
//! ```

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Sizes, calm, other, settled_store};
use crate::bench::closed_loop::as_float;
use crate::bench::comeback::{self, Comeback, Seen, Writes};
use crate::bench::deployment::{Deployment, Setup};
use crate::bench::filling::{self, Filling};
use crate::bench::place::Place;
use crate::bench::plain_copy::{self, PlainCopy};
use crate::bench::plot::bars::{Bar, bars};
use crate::bench::plot::{FLOOR_COLOUR, OWN_COLOUR};
use crate::bench::verdict::{Bound, Verdict, mebibytes, ratio};

/// A document of some pages.
const VALUE_BYTES: usize = 16 << 10;
/// A mebibyte per request.
const OPERATIONS_EACH: u64 = 64;
/// The least that can be kept: the log is not to reach back.
const LOG_KEEP_BYTES: u64 = 64 << 10;
/// Out of the way: what is measured is what the way from disk to disk allows.
const SNAPSHOT_BYTES_PER_SECOND: u64 = 1 << 40;

const OF_PLAIN: Bound = Bound {
    target: "part of the speed of a plain copy, under the same load",
    wanted: 0.8,
    shown: ratio,
};
const OF_PLAIN_ALONE: Bound = Bound {
    target: "part of the speed of a plain copy that has the machine to itself",
    ..OF_PLAIN
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Bootstrap {
    /// Size of the snapshot.
    bytes: u64,
    /// Seconds from the start of the process until it was in sync.
    in_sync_seconds: f64,
    /// Of these, seconds from its first knowledge of the snapshot until all of it was there.
    copying_seconds: f64,
    /// The leader's files, copied plainly while nothing else ran.
    alone: PlainCopy,
    /// The same under the load, and on the cores, under which the follower copied them.
    plain: PlainCopy,
    /// The leader's writes.
    writes: Writes,
}

/// Runs it.
pub(in crate::bench) async fn measure(place: Place, sizes: &Sizes) -> Result<Bootstrap> {
    let setup = Setup {
        min_in_sync: 1,
        serve: vec![
            ("--log-keep-bytes", LOG_KEEP_BYTES.to_string()),
            (
                "--snapshot-bytes-per-second",
                SNAPSHOT_BYTES_PER_SECOND.to_string(),
            ),
        ],
    };
    let bytes = sizes.snapshot_mib << 20;
    let filling = Filling::of_bytes(bytes, OPERATIONS_EACH, VALUE_BYTES);
    let mut deployment = Deployment::start(place, &setup).await?;
    let copied = copy(&mut deployment, filling, calm(sizes)).await;
    if copied.is_err() {
        deployment.show_logs();
    }
    let (alone, plain, found) = copied?;
    let (bytes, copying_seconds) =
        copying(&found.seen).context("the follower copied no snapshot: its log was long enough")?;
    Ok(Bootstrap {
        bytes,
        in_sync_seconds: found.in_sync_seconds,
        copying_seconds,
        alone,
        plain,
        writes: found.writes,
    })
}

async fn copy(
    deployment: &mut Deployment,
    filling: Filling,
    calm: Duration,
) -> Result<(PlainCopy, PlainCopy, Comeback)> {
    let leader = deployment.leader()?;
    let follower = other(leader);
    deployment.stop(follower).await?;
    deployment.erase(follower)?;
    let access = deployment.access().clone();
    access.until_alone(leader).await?;
    filling::fill(&access, leader, filling).await?;
    settled_store().await?;
    let data = deployment.data(leader);
    let alone = plain_copy::measure(&data, None)?;
    settled_store().await?;
    let control = move |cores: Option<&str>| plain_copy::measure(&data, cores);
    let (plain, found) = comeback::watch(deployment, [leader, follower], calm, control).await?;
    Ok((alone, plain, found))
}

/// The size of the snapshot that was copied, and the seconds from when it was known until all was there.
fn copying(seen: &[Seen]) -> Option<(u64, f64)> {
    let begun = seen
        .iter()
        .position(|seen| seen.levels.is_some_and(|levels| levels.snapshot_bytes > 0))?;
    let bytes = seen[begun].levels?.snapshot_bytes;
    // Once it has all, the process begins anew: it is not to be reached, or knows of no snapshot.
    let ended = seen[begun..].iter().find(|seen| {
        seen.levels
            .is_none_or(|levels| levels.snapshot_bytes == 0 || levels.copied_bytes >= bytes)
    })?;
    Some((bytes, ended.seconds - seen[begun].seconds))
}

impl Bootstrap {
    fn per_second(&self) -> f64 {
        as_float(self.bytes) / self.in_sync_seconds
    }

    /// The targets.
    pub(in crate::bench) fn verdicts(&self) -> Vec<Verdict> {
        vec![
            OF_PLAIN.at_least(self.per_second() / self.plain.per_second()),
            OF_PLAIN_ALONE.at_least(self.per_second() / self.alone.per_second()),
            super::UNDISTURBED.at_most(self.writes.p99_ratio()),
        ]
    }

    /// How it was run, and the figures.
    pub(in crate::bench) fn text(&self) -> String {
        let copying = self.copying_seconds.max(f64::MIN_POSITIVE);
        format!(
            "A follower of two is stopped and its disk emptied; the leader takes documents of 16 KiB until its store has \
             about {}, and keeps no log to speak of. Then the follower's process is started again, copies a snapshot, \
             puts it in place and takes what was written meanwhile; eight clients write to the leader every 20 ms each. \
             The plain copy takes the leader's own files one after the other through one TCP connection, without TLS, \
             and syncs each. The follower's time is all of it: the leader's checkpoint and its hashes, the copy over \
             TLS, the verification, the new start. `--snapshot-bytes-per-second` was out of the way; by default a leader \
             lets all readers together have 1 GiB/s at most.\n\n\
             | | MiB/s | seconds |\n|---|---|---|\n\
             | **until in sync**, from the start of the process | {:.0} | {:.1} |\n\
             | of that, the copy itself | {:.0} | {:.1} |\n\
             | plain copy of {}, under the same load | {:.0} | {:.1} |\n\
             | plain copy, alone on the machine | {:.0} | {:.1} |\n\n{}\n",
            mebibytes(as_float(self.bytes)),
            mebibytes_per_second(self.per_second()),
            self.in_sync_seconds,
            mebibytes_per_second(as_float(self.bytes) / copying),
            self.copying_seconds,
            mebibytes(as_float(self.plain.bytes)),
            mebibytes_per_second(self.plain.per_second()),
            self.plain.seconds,
            mebibytes_per_second(self.alone.per_second()),
            self.alone.seconds,
            super::writes_in_words(self.writes, "a plain copy"),
        )
    }

    /// Both speeds.
    pub(in crate::bench) fn plots(&self) -> Vec<(&'static str, &'static str, String)> {
        let bar = |name, colour, per_second| Bar {
            name,
            colour,
            value: mebibytes_per_second(per_second),
        };
        let copying = self.copying_seconds.max(f64::MIN_POSITIVE);
        let rows = [
            bar("until in sync", OWN_COLOUR, self.per_second()),
            bar(
                "of that, the copy itself",
                OWN_COLOUR,
                as_float(self.bytes) / copying,
            ),
            bar(
                "plain copy, same load",
                FLOOR_COLOUR,
                self.plain.per_second(),
            ),
            bar("plain copy, alone", FLOOR_COLOUR, self.alone.per_second()),
        ];
        let title = "Copying a whole replica, MiB per second (longer is better)";
        let shown = |value: f64| format!("{value:.0} MiB/s");
        vec![(
            "bootstrap.svg",
            "Speed of a whole copy",
            bars(title, &rows, shown),
        )]
    }
}

fn mebibytes_per_second(bytes_per_second: f64) -> f64 {
    bytes_per_second / 1_048_576.0
}

#[cfg(test)]
pub(in crate::bench) mod tests {
    use super::*;
    use crate::bench::levels::Levels;

    pub(in crate::bench) fn found() -> Bootstrap {
        Bootstrap {
            bytes: 1 << 30,
            in_sync_seconds: 8.0,
            copying_seconds: 4.0,
            alone: PlainCopy {
                bytes: 1 << 30,
                seconds: 4.0,
            },
            plain: PlainCopy {
                bytes: 1 << 30,
                seconds: 6.0,
            },
            writes: comeback::tests::writes(2000, 2200),
        }
    }

    fn seen(seconds: f64, snapshot: Option<(u64, u64)>) -> Seen {
        Seen {
            seconds,
            levels: snapshot.map(|(snapshot_bytes, copied_bytes)| Levels {
                leads: false,
                in_sync: 1,
                last: 0,
                applied: 0,
                snapshot_bytes,
                copied_bytes,
            }),
        }
    }

    #[test]
    fn the_copy_ends_when_all_is_there_or_the_process_begins_anew() {
        let start = [
            seen(0.0, None),
            seen(0.5, Some((0, 0))),
            seen(1.0, Some((100, 5))),
        ];
        for (name, end, expected) in [
            ("all there", seen(3.0, Some((100, 100))), Some((100, 2.0))),
            ("begun anew", seen(2.5, None), Some((100, 1.5))),
            (
                "and back already",
                seen(2.0, Some((0, 0))),
                Some((100, 1.0)),
            ),
            ("not yet", seen(2.0, Some((100, 50))), None),
        ] {
            let all = [&start[..], &[end]].concat();
            assert_eq!(copying(&all), expected, "{name}");
        }
        assert_eq!(copying(&start[..2]), None, "no snapshot at all");
    }

    #[test]
    fn the_whole_way_is_compared_with_the_plain_copy() {
        let verdicts = found().verdicts();
        assert_eq!(verdicts[0].found, "0.75");
        assert!(verdicts[0].judgement.contains("missed"));
        assert_eq!(verdicts[1].found, "0.50");
        assert_eq!(verdicts[2].judgement, "met");
    }
}
