//! How much of the oplog is kept, and where it is trimmed.
//!
//! A replica that was away for a while is served from the log; one that was away for longer gets a
//! snapshot, which costs as much as the whole store. So a good deal of the log is always kept, more
//! of it while somebody who answers still lacks it, and never more than a multiple.

use std::collections::VecDeque;

use percolate_core::identity::Index;

/// How many times as much is kept at most, for those who lack it.
const MOST: u64 = 16;

/// The log is trimmed in steps of this part of what is kept: each leaves a mark in the engine that
/// reads have to pass until it is compacted away.
const STEPS: u64 = 8;

/// An index up to which the log can be trimmed.
#[derive(Debug, Clone, Copy)]
struct Mark {
    index: Index,
    /// Bytes written when the log ended there.
    written: u64,
}

/// Keeps count of the log's bytes.
#[derive(Debug)]
pub(super) struct Retention {
    keep_bytes: u64,
    /// Bytes written by this process: what was there before counts as nothing, so it goes as soon
    /// as enough has come after it.
    written: u64,
    marks: VecDeque<Mark>,
    trimmed: Index,
}

impl Retention {
    /// For a log that begins after `base` and ends at `last`.
    pub(super) fn new(keep_bytes: u64, base: Index, last: Index) -> Self {
        let mark = Mark {
            index: last,
            written: 0,
        };
        Self {
            keep_bytes,
            written: 0,
            marks: VecDeque::from([mark]),
            trimmed: base,
        }
    }

    /// The log now ends at `index`, with an entry of so many bytes.
    pub(super) fn appended(&mut self, index: Index, bytes: usize) {
        self.written += bytes as u64;
        let since = self.marks.back().map_or(0, |mark| mark.written);
        if self.written - since >= self.keep_bytes / STEPS {
            let written = self.written;
            self.marks.push_back(Mark { index, written });
        }
    }

    /// The log was cut after `index`.
    pub(super) fn cut(&mut self, index: Index) {
        while self.marks.back().is_some_and(|mark| mark.index > index) {
            self.marks.pop_back();
        }
    }

    /// Where to trim now, if anywhere: not beyond `applied`, nor, unless the log has grown far too
    /// long, beyond `spare`, up to which nobody lacks anything.
    pub(super) fn trim(&mut self, applied: Index, spare: Index) -> Option<Index> {
        let mut target = None;
        while let Some(mark) = self.marks.front() {
            let behind = self.written - mark.written;
            let allowed = mark.index <= spare || behind >= self.keep_bytes.saturating_mul(MOST);
            if behind < self.keep_bytes || mark.index > applied || !allowed {
                break;
            }
            target = Some(mark.index);
            self.marks.pop_front();
        }
        let index = target.filter(|index| *index > self.trimmed)?;
        self.trimmed = index;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: u64 = 800;

    /// A log of entries of 100 bytes, from 1 to `last`.
    fn grown(last: Index) -> Retention {
        let mut retention = Retention::new(KEEP, 0, 0);
        for index in 1..=last {
            retention.appended(index, 100);
        }
        retention
    }

    #[test]
    fn the_end_of_the_log_is_always_kept_and_the_rest_as_long_as_it_is_lacked() {
        for (last, applied, spare, trimmed) in [
            (7, 7, 7, None),
            (8, 8, 8, None),
            (20, 20, 20, Some(12)),
            (20, 20, 5, Some(5)),
            (20, 5, 20, Some(5)),
            (20, 20, 0, None),
            // Sixteen times as much as is kept anyway, and nobody is waited for any more.
            (128, 128, 0, None),
            (140, 140, 0, Some(12)),
        ] {
            assert_eq!(
                grown(last).trim(applied, spare),
                trimmed,
                "of {last}, {applied} applied, {spare} spare"
            );
        }
    }

    #[test]
    fn nothing_is_trimmed_twice() {
        let mut retention = grown(20);
        assert_eq!(retention.trim(20, 20), Some(12));
        assert_eq!(retention.trim(20, 20), None);
        retention.appended(21, 100);
        assert_eq!(retention.trim(21, 21), Some(13));
    }

    #[test]
    fn what_an_earlier_process_wrote_goes_once_enough_has_come_after_it() {
        let mut retention = Retention::new(KEEP, 3, 50);
        for index in 51..58 {
            retention.appended(index, 100);
            assert_eq!(retention.trim(index, index), None);
        }
        retention.appended(58, 100);
        assert_eq!(retention.trim(58, 58), Some(50));
    }

    #[test]
    fn a_cut_log_is_not_trimmed_where_it_no_longer_is() {
        let mut retention = grown(20);
        retention.cut(10);
        for index in 11..=12 {
            retention.appended(index, 800);
        }
        assert_eq!(retention.trim(12, 12), Some(11));
    }
}
