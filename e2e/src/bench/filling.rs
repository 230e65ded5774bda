//! Filling a leader quickly: batches of many writes, by a few clients at a time.
//!
//! ```text
//! Filling ─► clients ─► POST /batch, one transaction of many operations each ─► seconds
//! ```
//! An operation is the write of one item. Values are random text: they compress by a quarter, as text
//! of letters and digits does, and not because they resemble each other.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::Rng as _;
use rand::distr::Alphanumeric;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::deployment::{Access, HttpsConnection, wait};

/// Enough to keep a leader busy, and few enough that their requests weigh little in its memory.
const CLIENTS: usize = 3;
/// Longer than the values of one batch and those of the next few: what is near in the log differs.
const TEXT_BYTES: usize = 8 << 20;
/// Odd and large: its multiples fall all over the text.
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;
/// A batch that takes longer is a failure.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);
/// What was acknowledged is applied at once; what remains is the engine's own work.
const APPLIED_WITHIN: Duration = Duration::from_mins(1);

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filling {
    /// Requests.
    pub(super) batches: u64,
    /// Operations of each.
    pub(super) operations_each: u64,
    /// Bytes of each value.
    pub(super) value_bytes: usize,
}

impl Filling {
    /// As many batches as so many bytes of values need.
    pub(super) fn of_bytes(bytes: u64, operations_each: u64, value_bytes: usize) -> Self {
        Self {
            batches: bytes.div_ceil(operations_each * value_bytes as u64),
            operations_each,
            value_bytes,
        }
    }

    /// All its operations.
    pub(super) fn operations(self) -> u64 {
        self.batches * self.operations_each
    }
}

/// Writes all of it at `leader`; the seconds that took.
pub(super) async fn fill(access: &Access, leader: usize, filling: Filling) -> Result<f64> {
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let connection = access.connect(leader).await?;
        clients.spawn(write(connection, filling, Arc::clone(&next)));
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    wait("all is applied", APPLIED_WITHIN, || async move {
        let levels = access.levels(leader).await;
        levels.is_ok_and(|levels| levels.applied == levels.last)
    })
    .await?;
    Ok(seconds)
}

async fn write(
    mut connection: HttpsConnection,
    filling: Filling,
    next: Arc<AtomicU64>,
) -> Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= filling.batches {
            return Ok(());
        }
        let body = body(number, filling);
        timeout(
            ANSWERED_WITHIN,
            connection.succeed("POST", "/api/v1/batch", &body),
        )
        .await
        .context("a batch was not answered")??;
    }
}

/// JSON, written by hand: the processor is for the servers.
fn body(batch: u64, filling: Filling) -> String {
    let each = filling.operations_each;
    let mut body = String::from(r#"{"ops":["#);
    for number in batch * each..(batch + 1) * each {
        let comma = if number == batch * each { "" } else { "," };
        // Letters and digits need no quoting; writing to a String cannot fail.
        let _ = write!(
            body,
            r#"{comma}{{"op":"put","kind":"resource","id":"filling-{number:010}","content":"{}"}}"#,
            text(number, filling.value_bytes)
        );
    }
    body.push_str("]}");
    body
}

fn text(number: u64, bytes: usize) -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let letters = rand::rng().sample_iter(Alphanumeric);
        letters.take(TEXT_BYTES).map(char::from).collect()
    });
    let places = (TEXT_BYTES - bytes) as u64;
    let place = usize::try_from(number.wrapping_mul(SCATTER) % places).unwrap_or(0);
    &text[place..place + bytes]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_batch_is_json_with_every_operation_once() {
        let filling = Filling {
            batches: 2,
            operations_each: 3,
            value_bytes: 40,
        };
        let body: Value = serde_json::from_str(&body(1, filling)).expect("JSON");
        let operations = body["ops"].as_array().expect("a list");
        let ids: Vec<&str> = operations
            .iter()
            .filter_map(|operation| operation["id"].as_str())
            .collect();
        assert_eq!(
            ids,
            [
                "filling-0000000003",
                "filling-0000000004",
                "filling-0000000005"
            ]
        );
        let lengths = operations
            .iter()
            .map(|operation| operation["content"].as_str().map_or(0, str::len));
        assert!(lengths.into_iter().all(|length| length == 40));
        assert_ne!(operations[0]["content"], operations[1]["content"]);
    }

    #[test]
    fn bytes_are_rounded_up_to_whole_batches() {
        for (bytes, batches) in [(1, 1), (1000, 1), (1001, 2), (10_000, 10)] {
            let filling = Filling::of_bytes(bytes, 10, 100);
            assert_eq!(
                (filling.batches, filling.operations()),
                (batches, batches * 10)
            );
        }
    }
}
