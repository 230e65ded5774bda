//! How far an import is, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::printer::note;
use super::Counts;

/// How often a log gets a line.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress shared by all lanes.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    /// For who reads lines: whether there is somebody, and what was said last.
    lines: bool,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    items: usize,
    bytes: u64,
    at: Instant,
}

impl Progress {
    /// Shows nothing if it is not `wanted`.
    pub(super) fn new(total_bytes: Option<u64>, wanted: bool) -> Self {
        let bar = if !wanted {
            ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::hidden())
        } else if let Some(total) = total_bytes {
            ProgressBar::new(total).with_style(style(
                "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg} eta {eta}",
            ))
        } else {
            ProgressBar::new_spinner().with_style(style("{spinner} {bytes} {bytes_per_sec} {msg}"))
        };
        let lines = wanted && bar.is_hidden();
        Self {
            bar,
            lines,
            told: Mutex::new(Told {
                items: 0,
                bytes: 0,
                at: Instant::now(),
            }),
        }
    }

    /// Some items of the source are done with.
    pub(super) fn advance(&self, counts: Counts, bytes: usize) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.items += counts.total();
        told.bytes += bytes as u64;
        self.bar.set_message(format!("{} items", told.items));
        self.bar.set_position(told.bytes);
        if self.lines && told.at.elapsed() >= LINE_EVERY {
            told.at = Instant::now();
            note(&format!("{} items, {} bytes", told.items, told.bytes));
        }
    }

    /// Write something else meanwhile.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Take the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
