//! What a run found, and what that says about the targets. Pure: figures in, sentences out.

use serde::{Deserialize, Serialize};

use super::closed_loop::{Measured, Pace};
use super::machine::Machine;
use super::scenario::{Scenario, Section};
use super::verdict::Verdict;

/// Who is measured, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    /// One write per message of a stream.
    PercolateStream,
    /// One write per request.
    Percolate,
    /// A hundred writes per request, one transaction.
    PercolateBatches,
    /// etcd.
    Etcd,
    /// NATS `JetStream`.
    JetStream,
    /// Redis.
    Redis,
    /// rqlite.
    Rqlite,
    /// `RocksDB` without anything around it.
    RocksDb,
    /// The disk, without even that.
    Device,
    /// The network.
    RoundTrip,
}

impl Subject {
    /// In the order in which they are measured. The floors come right before Percolate: a
    /// disk that is shared with others may be another one minutes later.
    pub(super) const ALL: [Self; 10] = [
        Self::RoundTrip,
        Self::RocksDb,
        Self::Device,
        Self::PercolateStream,
        Self::Percolate,
        Self::PercolateBatches,
        Self::Etcd,
        Self::JetStream,
        Self::Redis,
        Self::Rqlite,
    ];

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PercolateStream => "Percolate, gRPC stream",
            Self::Percolate => "Percolate, HTTP",
            Self::PercolateBatches => "Percolate, batches of 100",
            Self::Etcd => "etcd 3.7.3",
            Self::JetStream => "NATS JetStream 2.15.2",
            Self::Redis => "Redis (Debian's)",
            Self::Rqlite => "rqlite 8.36.0",
            Self::RocksDb => "floor: RocksDB",
            Self::Device => "floor: fdatasync of 4 KiB",
            Self::RoundTrip => "floor: loopback",
        }
    }

    /// Copies that have a write before it is acknowledged, of how many.
    pub(super) fn copies(self) -> &'static str {
        match self {
            Self::PercolateStream | Self::Percolate | Self::PercolateBatches | Self::Redis => {
                "2 of 2"
            }
            Self::Etcd | Self::JetStream | Self::Rqlite => "2 of 3",
            Self::RocksDb | Self::Device => "1",
            Self::RoundTrip => "–",
        }
    }

    /// How it is run and written to.
    pub(super) fn setup(self) -> &'static str {
        match self {
            Self::PercolateStream => {
                "two `percolate serve`, `minInSync` 2, their register in a Kubernetes API server with an etcd; \
                 `WriteStream` of `percolate.data.v1` at the leader over TLS with a bearer token, each client with a \
                 connection and a stream of its own and one write under way, each with a fresh id"
            }
            Self::Percolate => {
                "the same two; `PUT /api/v1/resources/{id}` over HTTPS with a bearer token, each with a fresh id"
            }
            Self::PercolateBatches => {
                "the same two; `POST /api/v1/batch`, times are those of a batch"
            }
            Self::Etcd => "three members with defaults; gRPC `Put` at the leader, no TLS",
            Self::JetStream => {
                "three servers, a stream with file storage and three replicas, `sync_interval: always`; \
                 publish and await the acknowledgement, at the stream's leader, no TLS"
            }
            Self::Redis => {
                "primary and replica, both `appendfsync always`, no snapshots; `SET` and `WAIT 1 0` in one piece, no TLS"
            }
            Self::Rqlite => {
                "three nodes with defaults (the Raft log is synced); an `INSERT` to `/db/execute` at the leader, no TLS"
            }
            Self::RocksDb => {
                "one process without network: a thread merges what the clients hand over into batches and syncs each"
            }
            Self::Device => {
                "files appended to and synced, 2 at a time instead of 64 clients, and 1"
            }
            Self::RoundTrip => "256 bytes there and back over TCP",
        }
    }

    /// Whether it is Percolate, however it is written to.
    pub(super) fn is_percolate(self) -> bool {
        matches!(
            self,
            Self::PercolateStream | Self::Percolate | Self::PercolateBatches
        )
    }

    /// Whether it is no database, but what one stands on.
    pub(super) fn is_floor(self) -> bool {
        matches!(self, Self::RocksDb | Self::Device | Self::RoundTrip)
    }
}

/// What came of measuring one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Who.
    pub(super) subject: Subject,
    /// With many clients, where that has a meaning.
    pub(super) many: Option<Measured>,
    /// With one client.
    pub(super) one: Option<Measured>,
    /// Why there are no figures.
    pub(super) problem: Option<String>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Where.
    pub(super) machine: Machine,
    /// For how long each.
    pub(super) pace: Pace,
    /// One per subject that was asked for.
    pub(super) rows: Vec<Row>,
    /// One per scenario that was asked for.
    pub(super) sections: Vec<Section>,
}

/// The peers' clients keep a connection open and speak a binary protocol, or a trivial one: so does
/// this one of Percolate's.
const OWN: Subject = Subject::PercolateStream;
/// Percolate's rate is to be at least so many times the other's.
const RATES: [(Subject, f64); 5] = [
    (Subject::Etcd, 3.0),
    (Subject::Rqlite, 10.0),
    (Subject::JetStream, 1.5),
    (Subject::Redis, 1.0),
    (Subject::RocksDb, 0.8),
];
/// One client is to wait at most so many times what disk and network need.
const LATENCY: f64 = 1.3;

impl Report {
    /// The row of a subject.
    pub(super) fn row(&self, subject: Subject) -> Option<&Row> {
        self.rows.iter().find(|row| row.subject == subject)
    }

    /// Those that could not be measured.
    pub(super) fn problems(&self) -> Vec<String> {
        let problem =
            |row: &Row| Some(format!("{}: {}", row.subject.name(), row.problem.as_ref()?));
        let scenario = |section: &Section| {
            let problem = section.problem.as_ref()?;
            Some(format!("{}: {problem}", section.scenario.name()))
        };
        let rows = self.rows.iter().filter_map(problem);
        rows.chain(self.sections.iter().filter_map(scenario))
            .collect()
    }

    /// What this run left out, by its name.
    pub(super) fn left_out(&self) -> Vec<&'static str> {
        let subjects = Subject::ALL
            .into_iter()
            .filter(|subject| self.row(*subject).is_none())
            .map(Subject::name);
        let is_played = |scenario| {
            let mut sections = self.sections.iter();
            sections.any(|section| section.scenario == scenario)
        };
        let scenarios = Scenario::ALL
            .into_iter()
            .filter(|scenario| !is_played(*scenario))
            .map(Scenario::name);
        subjects.chain(scenarios).collect()
    }

    /// Every target, in the order in which they matter.
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let rates = RATES
            .iter()
            .map(|(other, wanted)| self.rate(*other, *wanted));
        rates.chain([self.latency()]).collect()
    }

    fn rate(&self, other: Subject, wanted: f64) -> Verdict {
        let per_second = |subject| Some(self.row(subject)?.many.as_ref()?.per_second);
        let ratio = per_second(OWN)
            .zip(per_second(other))
            .map(|(own, other)| own / other);
        let judgement = match ratio {
            None => "not known: one of the two was not measured".to_owned(),
            Some(ratio) if ratio >= wanted => "met".to_owned(),
            Some(ratio) => format!(
                "**missed**: Percolate would have to be {:.1} times as fast",
                wanted / ratio
            ),
        };
        Verdict {
            target: format!("rate, {} / {}", OWN.name(), other.name()),
            wanted: format!("≥ {wanted}"),
            found: ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
            judgement,
        }
    }

    /// Both disks sync at the same time, so what a write needs is the longer of here, and there and back.
    /// Of the two medians of a sync, one file at a time and two, the lower counts: the other was
    /// disturbed.
    fn latency(&self) -> Verdict {
        let median = |measured: Option<&Measured>| measured.map(|measured| measured.p50_micros);
        let one = |subject| median(self.row(subject)?.one.as_ref());
        let many = |subject| median(self.row(subject)?.many.as_ref());
        let own = one(OWN);
        let syncs = [one(Subject::Device), many(Subject::Device)];
        let needed = syncs
            .into_iter()
            .flatten()
            .min()
            .zip(one(Subject::RoundTrip))
            .map(|(sync, round_trip)| sync + round_trip);
        let micros = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
        let ratio = own
            .zip(needed)
            .map(|(own, needed)| micros(own) / micros(needed));
        let judgement = match ratio {
            None => "not known: one of the three was not measured".to_owned(),
            Some(ratio) if ratio <= LATENCY => "met".to_owned(),
            Some(ratio) => format!("**missed**: {:.1} times what is allowed", ratio / LATENCY),
        };
        let found = own.zip(needed).zip(ratio).map_or_else(
            || "–".to_owned(),
            |((own, needed), ratio)| format!("{ratio:.2} ({own} µs / {needed} µs)"),
        );
        Verdict {
            target: format!("one client's median, {} / (sync + round trip)", OWN.name()),
            wanted: format!("≤ {LATENCY}"),
            found,
            judgement,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn measured(clients: usize, per_second: f64, p50_micros: u64) -> Measured {
        Measured {
            clients,
            answered: 1000,
            per_second,
            p50_micros,
            p99_micros: p50_micros * 2,
            p999_micros: p50_micros * 4,
            max_micros: p50_micros * 8,
            server_micros_per_write: Some(55.5),
        }
    }

    pub(in crate::bench) fn report() -> Report {
        let row = |subject, per_second, p50_micros| Row {
            subject,
            many: Some(measured(64, per_second, p50_micros)),
            one: Some(measured(1, 100.0, p50_micros)),
            problem: None,
        };
        Report {
            machine: Machine {
                cores: 2,
                processor: "Some CPU".to_owned(),
                memory_gib: 24,
                kernel: "6.1".to_owned(),
                file_system: "ext4".to_owned(),
                load_before: 0.5,
            },
            pace: Pace {
                warm_up_seconds: 3,
                measured_seconds: 10,
            },
            rows: vec![
                row(Subject::PercolateStream, 6000.0, 600),
                row(Subject::Etcd, 2000.0, 900),
                row(Subject::Redis, 12_000.0, 400),
                row(Subject::Device, 5000.0, 180),
                row(Subject::RoundTrip, 30_000.0, 20),
                Row {
                    subject: Subject::Rqlite,
                    many: None,
                    one: None,
                    problem: Some("it ended".to_owned()),
                },
            ],
            sections: crate::bench::scenario::tests::sections(),
        }
    }

    #[test]
    fn targets_are_met_missed_or_not_known() {
        let verdicts = report().verdicts();
        let found: Vec<(&str, bool)> = verdicts
            .iter()
            .map(|verdict| (verdict.found.as_str(), verdict.judgement == "met"))
            .collect();
        let expected = [
            ("3.00", true),
            ("–", false),
            ("–", false),
            ("0.50", false),
            ("–", false),
            ("3.00 (600 µs / 200 µs)", false),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            verdicts[3].judgement,
            "**missed**: Percolate would have to be 2.0 times as fast"
        );
        assert_eq!(
            verdicts[5].judgement,
            "**missed**: 2.3 times what is allowed"
        );
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let expected = ["rqlite 8.36.0: it ended", "Idle tenant: it ended"];
        assert_eq!(report().problems(), expected);
    }

    #[test]
    fn what_was_left_out_is_named() {
        let mut report = report();
        report.sections.remove(0);
        let left_out = report.left_out();
        for (name, is_left_out) in [
            ("floor: RocksDB", true),
            ("NATS JetStream 2.15.2", true),
            ("etcd 3.7.3", false),
            ("Catch-up from the log", true),
            ("Failover", false),
            // It was not measured, which is said where it would stand.
            ("rqlite 8.36.0", false),
        ] {
            assert_eq!(left_out.contains(&name), is_left_out, "{name}");
        }
    }

    #[test]
    fn a_report_reads_back_as_written() {
        let text = serde_json::to_string(&report()).expect("writable");
        let read: Report = serde_json::from_str(&text).expect("readable");
        assert_eq!(read, report());
    }
}
