//! Counts the changes that each user asked of the API server, from its audit log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Cluster;

/// Changes by user and by what was changed, for instance
/// `system:serviceaccount:percolate-system:percolate-operator` to `update statefulsets` to 3.
pub type Writes = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<ObjectReference>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectReference {
    resource: String,
    subresource: Option<String>,
}

impl Cluster {
    /// Counts all changes asked for at or after `since`, a UTC time like `2026-01-31T09:05:00Z`.
    pub fn writes_since(&self, since: &str) -> Result<Writes> {
        let directory = self.layout.audit();
        let mut writes = Writes::new();
        for entry in fs::read_dir(&directory).context("no audit log: is the cluster up?")? {
            count(
                BufReader::new(File::open(entry?.path())?),
                since,
                &mut writes,
            )?;
        }
        Ok(writes)
    }
}

/// Reads lines of JSON; the last one may be torn, because the server is writing it.
fn count(lines: impl BufRead, since: &str, writes: &mut Writes) -> Result<()> {
    // Both are RFC 3339 in UTC and compare as text, once the optional fraction and the Z are off.
    let since = since.trim_end_matches('Z');
    for line in lines.lines() {
        let Ok(event) = serde_json::from_str::<Event>(&line?) else {
            continue;
        };
        let is_early = event.request_received_timestamp.as_str() < since;
        // A watch or exec has two stages; a change is counted when it is complete.
        if is_early || event.stage != "ResponseComplete" {
            continue;
        }
        let what = event
            .object_ref
            .map_or_else(String::new, |object| match object.subresource {
                Some(subresource) => format!(" {}/{subresource}", object.resource),
                None => format!(" {}", object.resource),
            });
        let user = writes.entry(event.user.username).or_default();
        *user.entry(event.verb + &what).or_default() += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, user: &str, verb: &str, time: &str) -> String {
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","user":{{"username":"{user}"}},
               "objectRef":{{"resource":"pods","subresource":"status"}},
               "requestReceivedTimestamp":"{time}"}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn completed_changes_count_once_by_user_and_kind_from_the_given_time_on() {
        let log = [
            line(
                "ResponseComplete",
                "a",
                "patch",
                "2026-01-01T00:00:59.999999Z",
            ),
            line(
                "ResponseComplete",
                "a",
                "patch",
                "2026-01-01T00:01:00.000000Z",
            ),
            line(
                "ResponseComplete",
                "a",
                "patch",
                "2026-01-01T00:02:00.000000Z",
            ),
            line(
                "ResponseStarted",
                "a",
                "patch",
                "2026-01-01T00:02:00.000000Z",
            ),
            line(
                "ResponseComplete",
                "b",
                "update",
                "2026-01-01T00:02:00.000000Z",
            ),
            "{\"stage\":\"Respon".to_owned(),
        ]
        .join("\n");
        let mut writes = Writes::new();
        count(log.as_bytes(), "2026-01-01T00:01:00Z", &mut writes).expect("readable");
        let expected = [
            ("a", "patch pods/status", 2),
            ("b", "update pods/status", 1),
        ];
        let expected: Writes = expected
            .into_iter()
            .map(|(user, what, times)| (user.into(), [(what.to_owned(), times)].into()))
            .collect();
        assert_eq!(writes, expected);
    }
}
