//! Decides whether what clients were told can be true: pure, one pass over each client's events.
//!
//! ```text
//! load, final reads ─► [Event] in the client's order ─► check ─► [Violation]
//! ```
//!
//! Every key belongs to one client, which writes 1, 2, 3, ... to it, one at a time and under an
//! idempotency key each. So the value that a read gives says which writes it has seen, and nothing
//! has to be searched: a read must show at least what this client was told before, and at most what
//! it asked for. A write applied a second time, later, shows as a value that falls back, and as
//! another answer to the same idempotency key.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What one client did and was told, in the order in which it did so.
pub type History = Vec<Event>;

/// One request, retried until it was answered, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `sequence` was written to `key`.
    Write {
        /// The entity.
        key: String,
        /// The value, one more than that of the write before.
        sequence: u64,
        /// Sent with every try.
        idempotency_key: String,
        /// When it was answered or given up, since the load began.
        ended: Duration,
        /// What the client was told.
        outcome: Outcome,
    },
    /// A write that had been acknowledged was sent again, after later writes.
    Replay {
        /// The one of the first time.
        idempotency_key: String,
        /// The version in the answer.
        etag: String,
    },
    /// `key` was read with the client's session token.
    Read {
        /// The entity.
        key: String,
        /// The value; none if there is no such entity.
        seen: Option<u64>,
        /// Who answered.
        pod: String,
        /// Whether all writes had ended and every replica was asked.
        is_final: bool,
    },
    /// The version of `key` that a replica has in the end.
    Version {
        /// The entity.
        key: String,
        /// Who answered.
        pod: String,
        /// What it answered.
        etag: String,
    },
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered 2xx.
    Acknowledged {
        /// The version in the answer.
        etag: String,
    },
    /// Nobody answered in time: it may take effect at any moment, or never.
    Unknown,
    /// It was answered with an error that says it will never be done, though nothing was wrong with it.
    Refused {
        /// HTTP status and detail.
        answer: String,
    },
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged write is not there in the end.
    Lost {
        /// The entity.
        key: String,
        /// What was acknowledged.
        acknowledged: u64,
        /// What is there.
        seen: Option<u64>,
        /// The replica.
        pod: String,
    },
    /// A read showed less than the client had been told before.
    Stale {
        /// The entity.
        key: String,
        /// What the client knew.
        known: u64,
        /// What it was shown.
        seen: Option<u64>,
        /// The replica.
        pod: String,
    },
    /// A read showed what nobody had written.
    Invented {
        /// The entity.
        key: String,
        /// The last value that was asked for.
        asked: u64,
        /// What was shown.
        seen: u64,
        /// The replica.
        pod: String,
    },
    /// One idempotency key got two answers.
    AppliedTwice {
        /// The key.
        idempotency_key: String,
        /// The first answer.
        first: String,
        /// The other one.
        other: String,
    },
    /// A sound write was refused.
    Refused {
        /// The entity.
        key: String,
        /// HTTP status and detail.
        answer: String,
    },
    /// Two replicas have different versions in the end.
    Diverged {
        /// The entity.
        key: String,
        /// The versions by replica.
        versions: BTreeMap<String, String>,
    },
}

/// Finds every broken promise in one client's history.
pub fn check(history: &[Event]) -> Vec<Violation> {
    let mut client = Client::default();
    for event in history {
        client.live_through(event);
    }
    client.compare_replicas();
    client.violations
}

/// When each write was acknowledged, earliest first, over all clients.
pub fn acknowledgements(histories: &[History]) -> Vec<Duration> {
    let mut times: Vec<Duration> = histories
        .iter()
        .flatten()
        .filter_map(|event| match event {
            Event::Write {
                ended,
                outcome: Outcome::Acknowledged { .. },
                ..
            } => Some(*ended),
            _ => None,
        })
        .collect();
    times.sort_unstable();
    times
}

/// How many writes nobody answered.
pub fn unknown_writes(histories: &[History]) -> usize {
    let is_unknown = |event: &&Event| {
        matches!(
            event,
            Event::Write {
                outcome: Outcome::Unknown,
                ..
            }
        )
    };
    histories.iter().flatten().filter(is_unknown).count()
}

/// What is known of one entity.
#[derive(Debug, Default)]
struct Known {
    asked: u64,
    acknowledged: u64,
    seen: u64,
    versions: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Client {
    entities: BTreeMap<String, Known>,
    answers: BTreeMap<String, String>,
    violations: Vec<Violation>,
}

impl Client {
    fn live_through(&mut self, event: &Event) {
        match event {
            Event::Write {
                key,
                sequence,
                idempotency_key,
                outcome,
                ..
            } => self.write(key, *sequence, idempotency_key, outcome),
            Event::Replay {
                idempotency_key,
                etag,
            } => self.answered(idempotency_key, etag),
            Event::Read {
                key,
                seen,
                pod,
                is_final,
            } => self.read(key, *seen, pod, *is_final),
            Event::Version { key, pod, etag } => {
                let versions = &mut self.entities.entry(key.clone()).or_default().versions;
                versions.insert(pod.clone(), etag.clone());
            }
        }
    }

    fn write(&mut self, key: &str, sequence: u64, idempotency_key: &str, outcome: &Outcome) {
        let known = self.entities.entry(key.to_owned()).or_default();
        known.asked = known.asked.max(sequence);
        match outcome {
            Outcome::Acknowledged { etag } => {
                known.acknowledged = known.acknowledged.max(sequence);
                self.answered(idempotency_key, etag);
            }
            Outcome::Unknown => {}
            Outcome::Refused { answer } => self.violations.push(Violation::Refused {
                key: key.to_owned(),
                answer: answer.clone(),
            }),
        }
    }

    fn answered(&mut self, idempotency_key: &str, etag: &str) {
        let first = self
            .answers
            .entry(idempotency_key.to_owned())
            .or_insert_with(|| etag.to_owned());
        if first != etag {
            self.violations.push(Violation::AppliedTwice {
                idempotency_key: idempotency_key.to_owned(),
                first: first.clone(),
                other: etag.to_owned(),
            });
        }
    }

    fn read(&mut self, key: &str, seen: Option<u64>, pod: &str, is_final: bool) {
        let entity = self.entities.entry(key.to_owned()).or_default();
        let shown = seen.unwrap_or(0);
        let (key, pod) = (key.to_owned(), pod.to_owned());
        if is_final && shown < entity.acknowledged {
            self.violations.push(Violation::Lost {
                key,
                acknowledged: entity.acknowledged,
                seen,
                pod,
            });
        } else if shown < entity.acknowledged.max(entity.seen) {
            self.violations.push(Violation::Stale {
                key,
                known: entity.acknowledged.max(entity.seen),
                seen,
                pod,
            });
        } else if shown > entity.asked {
            self.violations.push(Violation::Invented {
                key,
                asked: entity.asked,
                seen: shown,
                pod,
            });
        } else {
            entity.seen = shown;
        }
    }

    fn compare_replicas(&mut self) {
        for (key, known) in &self.entities {
            let mut etags = known.versions.values();
            let first = etags.next();
            if etags.any(|etag| Some(etag) != first) {
                self.violations.push(Violation::Diverged {
                    key: key.clone(),
                    versions: known.versions.clone(),
                });
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |seen: &Option<u64>| seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
        match self {
            Self::Lost {
                key,
                acknowledged,
                seen,
                pod,
            } => write!(
                formatter,
                "LOST: {key} was acknowledged at {acknowledged}, {pod} has {}",
                shown(seen)
            ),
            Self::Stale {
                key,
                known,
                seen,
                pod,
            } => write!(
                formatter,
                "STALE: {key} was known to be at {known}, {pod} showed {}",
                shown(seen)
            ),
            Self::Invented {
                key,
                asked,
                seen,
                pod,
            } => write!(
                formatter,
                "INVENTED: {key} was written up to {asked}, {pod} showed {seen}"
            ),
            Self::AppliedTwice {
                idempotency_key,
                first,
                other,
            } => write!(
                formatter,
                "APPLIED TWICE: {idempotency_key} was answered with {first}, then with {other}"
            ),
            Self::Refused { key, answer } => {
                write!(formatter, "REFUSED: a sound write to {key}: {answer}")
            }
            Self::Diverged { key, versions } => {
                write!(formatter, "DIVERGED: {key} has versions {versions:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "writer-1";

    fn write(sequence: u64, outcome: Outcome) -> Event {
        Event::Write {
            key: KEY.into(),
            sequence,
            idempotency_key: format!("i{sequence}"),
            ended: Duration::from_millis(sequence),
            outcome,
        }
    }

    fn acknowledged(sequence: u64) -> Event {
        write(
            sequence,
            Outcome::Acknowledged {
                etag: format!("v{sequence}"),
            },
        )
    }

    fn unknown(sequence: u64) -> Event {
        write(sequence, Outcome::Unknown)
    }

    fn replay(sequence: u64, etag: &str) -> Event {
        Event::Replay {
            idempotency_key: format!("i{sequence}"),
            etag: etag.into(),
        }
    }

    fn read(seen: u64) -> Event {
        Event::Read {
            key: KEY.into(),
            seen: (seen > 0).then_some(seen),
            pod: "acme-0".into(),
            is_final: false,
        }
    }

    fn finally(seen: u64) -> Event {
        Event::Read {
            key: KEY.into(),
            seen: (seen > 0).then_some(seen),
            pod: "acme-0".into(),
            is_final: true,
        }
    }

    fn version(pod: &str, etag: &str) -> Event {
        Event::Version {
            key: KEY.into(),
            pod: pod.into(),
            etag: etag.into(),
        }
    }

    fn names(history: &[Event]) -> Vec<&'static str> {
        check(history)
            .iter()
            .map(|violation| match violation {
                Violation::Lost { .. } => "lost",
                Violation::Stale { .. } => "stale",
                Violation::Invented { .. } => "invented",
                Violation::AppliedTwice { .. } => "applied twice",
                Violation::Refused { .. } => "refused",
                Violation::Diverged { .. } => "diverged",
            })
            .collect()
    }

    #[test]
    fn what_can_have_happened_is_accepted() {
        let cases: [(&str, Vec<Event>); 6] = [
            ("nothing", vec![]),
            ("a read before the first write", vec![read(0)]),
            (
                "each write is seen",
                vec![acknowledged(1), read(1), acknowledged(2), finally(2)],
            ),
            (
                "an unknown write took effect late",
                vec![acknowledged(1), unknown(2), read(1), read(2), finally(2)],
            ),
            (
                "an unknown write never took effect",
                vec![acknowledged(1), unknown(2), finally(1)],
            ),
            (
                "a replay gets the first answer, and replicas agree",
                vec![
                    acknowledged(1),
                    acknowledged(2),
                    replay(1, "v1"),
                    finally(2),
                    version("acme-0", "v2"),
                    version("acme-1", "v2"),
                ],
            ),
        ];
        for (case, history) in cases {
            assert_eq!(names(&history), [""; 0], "{case}");
        }
    }

    #[test]
    fn every_broken_promise_is_found() {
        let refused = Outcome::Refused {
            answer: "400".into(),
        };
        let cases: [(&str, Vec<Event>, &str); 10] = [
            (
                "the last write is gone",
                vec![acknowledged(1), acknowledged(2), finally(1)],
                "lost",
            ),
            (
                "the entity is gone",
                vec![acknowledged(1), finally(0)],
                "lost",
            ),
            (
                "a read misses the client's own write",
                vec![acknowledged(1), acknowledged(2), read(1)],
                "stale",
            ),
            (
                "a read misses what another read showed",
                vec![acknowledged(1), unknown(2), read(2), read(1)],
                "stale",
            ),
            (
                "an unknown write was seen and is gone in the end",
                vec![acknowledged(1), unknown(2), read(2), finally(1)],
                "stale",
            ),
            (
                "a value that nobody wrote",
                vec![acknowledged(1), read(7)],
                "invented",
            ),
            (
                "an older write came back over a newer one",
                vec![acknowledged(1), acknowledged(2), replay(1, "v3"), read(2)],
                "applied twice",
            ),
            (
                "an older write came back and is read",
                vec![acknowledged(1), acknowledged(2), replay(1, "v1"), read(1)],
                "stale",
            ),
            (
                "a sound write is refused",
                vec![write(1, refused)],
                "refused",
            ),
            (
                "replicas differ in the end",
                vec![
                    acknowledged(1),
                    finally(1),
                    version("acme-0", "v1"),
                    version("acme-1", "v9"),
                ],
                "diverged",
            ),
        ];
        for (case, history, expected) in cases {
            assert_eq!(names(&history), [expected], "{case}");
        }
    }

    #[test]
    fn only_acknowledged_writes_have_a_time() {
        let histories = [
            vec![acknowledged(3), unknown(4)],
            vec![acknowledged(1), read(1)],
        ];
        assert_eq!(
            acknowledgements(&histories),
            [Duration::from_millis(1), Duration::from_millis(3)]
        );
        assert_eq!(unknown_writes(&histories), 1);
    }
}
