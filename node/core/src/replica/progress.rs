//! What a leader knows of one follower, and what to send it next.

use std::collections::VecDeque;

use super::freshness::Proven;
use super::message::{Append, Appended, Mismatch};
use super::{Millis, StateDigest};
use crate::identity::{Epoch, Index};
use crate::log::{Head, ReadLog, SharedEntry};
use crate::register::ReplicaState;

/// Largest frame of entries, and what is read from the log at once: clients wait as long as that takes.
/// Large enough that what a frame costs by itself does not matter.
const FRAME_BYTES: usize = 256 << 10;

/// Entries sent and not yet durable at the follower, at most: bounds what a slow follower can
/// make the leader hold, while a fast one never runs dry within a round trip.
const WINDOW_ENTRIES: Index = 16_384;

/// Bytes of payload sent and not yet durable at the follower, at most, but for the frame that passes
/// this. Bounds what a follower whose disk hangs has to hold, and what waits for the wire here; enough
/// for a wire of a gigabit and syncs of fifty milliseconds.
const WINDOW_BYTES: usize = 8 << 20;

/// How the follower's log relates to the leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Where they last agree is being found out: nothing but heartbeats is sent.
    Probing,
    /// They agree; entries are sent ahead of their answers.
    Streaming,
}

/// One follower, as its leader sees it.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) pod: String,
    phase: Phase,
    /// First index not yet sent.
    next: Index,
    /// Durable at the follower in this epoch up to here.
    pub(super) acked: Index,
    /// Frames not yet durable there: the last index of each, and its bytes.
    frames: VecDeque<(Index, usize)>,
    /// The bytes of all of them.
    bytes_under_way: usize,
    heard_at: Millis,
    /// Last time it got further, or had nothing to get further with.
    advanced_at: Millis,
    /// Latest round it has answered.
    pub(super) round: u64,
    /// Waited for on all new writes though not in sync yet (R4).
    pub(super) joining: bool,
    /// Its process said that it is about to stop; forgotten after this time, for a late message
    /// must not keep out a process that has come back.
    pub(super) leaving_until: Millis,
    /// Last time it was sent something that it answers at once.
    answer_asked_at: Millis,
    /// Answer to what it just said at the next opportunity.
    answer_due: bool,
    /// Latest round it was asked.
    pub(super) asked: u64,
    /// Commit index it was last told.
    told_commit: Index,
    /// How much it has copied of the snapshot it was given, of a hundred.
    pub(super) snapshot: Option<u8>,
    /// The latest mark it sent, and the latest that was proven.
    pub(super) mark: u64,
    pub(super) proven: Option<Proven>,
    /// When it was last told what state the leader has come to.
    named_at: Option<Millis>,
    /// More entries could be sent than the last frame took.
    pub(super) owes: bool,
}

impl Progress {
    pub(super) fn new(pod: String, next: Index, now: Millis) -> Self {
        Self {
            pod,
            phase: Phase::Probing,
            next,
            acked: 0,
            frames: VecDeque::new(),
            bytes_under_way: 0,
            heard_at: now,
            advanced_at: now,
            round: 0,
            joining: false,
            leaving_until: now,
            answer_asked_at: now,
            answer_due: true,
            asked: 0,
            told_commit: 0,
            snapshot: None,
            mark: 0,
            proven: None,
            named_at: None,
            owes: false,
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    /// The frame to send now, if any; `due` asks for one, if only as a heartbeat. One at a time: whoever is
    /// far behind is sent the next when others had their turn ([`Progress::owes`]).
    ///
    /// A follower that is streamed to tells by itself what has become durable, and answers what it
    /// is told of commits with nothing; so that is sent quietly, but for one frame per heartbeat, by
    /// whose answer it is known to live while its disk takes its time.
    pub(super) fn frame(
        &mut self,
        now: Millis,
        leader: &Sender,
        log: &impl ReadLog,
        due: bool,
    ) -> Option<Append> {
        if self.next <= leader.base {
            // What it lacks was trimmed: a probe there tells it so.
            self.phase = Phase::Probing;
            self.next = leader.base + 1;
        }
        let quiet = self.phase == Phase::Streaming && !due && !self.answer_due;
        let mut frame = self.frame_of_entries(now, leader, log, quiet);
        self.owes = frame.is_some() && self.may_send(leader.last);
        let news = self.phase == Phase::Streaming
            && leader.commit > self.told_commit
            && self.acked + 1 >= self.next;
        if frame.is_none()
            && (due || news || self.answer_due)
            && let Some(previous) = log.head(self.next - 1)
        {
            frame = Some(self.append(now, leader, previous, Vec::new(), quiet));
        }
        if frame.as_ref().is_some_and(|frame| !frame.quiet) {
            self.answer_asked_at = now;
            self.answer_due = false;
        }
        frame
    }

    fn frame_of_entries(
        &mut self,
        now: Millis,
        leader: &Sender,
        log: &impl ReadLog,
        quiet: bool,
    ) -> Option<Append> {
        if !self.may_send(leader.last) {
            return None;
        }
        let entries = log.read(self.next, FRAME_BYTES);
        let previous = log.head(self.next - 1)?;
        let end = entries.last()?.head.index;
        self.sent(end, &entries);
        // Frames of full size make room for others as soon as they have arrived.
        let is_full = end < leader.last;
        self.next = end + 1;
        Some(self.append(now, leader, previous, entries, quiet && !is_full))
    }

    fn may_send(&self, last: Index) -> bool {
        let in_window = self.next <= self.acked.saturating_add(WINDOW_ENTRIES)
            && self.bytes_under_way < WINDOW_BYTES;
        self.phase == Phase::Streaming && self.next <= last && in_window
    }

    fn sent(&mut self, end: Index, entries: &[SharedEntry]) {
        let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
        self.frames.push_back((end, bytes));
        self.bytes_under_way += bytes;
    }

    /// What is durable there is no longer under way.
    fn arrived(&mut self) {
        while let Some((end, bytes)) = self.frames.front()
            && *end <= self.acked
        {
            self.bytes_under_way -= bytes;
            self.frames.pop_front();
        }
    }

    /// What ends after `index` is to be sent again. The rest is still under way: a follower says that
    /// it has an entry before its disk does.
    fn unsend(&mut self, index: Index) {
        while let Some((end, bytes)) = self.frames.back()
            && *end > index
        {
            self.bytes_under_way -= bytes;
            self.frames.pop_back();
        }
    }

    fn append(
        &mut self,
        now: Millis,
        leader: &Sender,
        previous: Head,
        entries: Vec<SharedEntry>,
        quiet: bool,
    ) -> Append {
        self.told_commit = leader.commit;
        let Sender {
            epoch,
            round,
            commit,
            base,
            last,
            start,
            counted,
            digest,
            name_every,
        } = *leader;
        let due = self.named_at.is_none_or(|at| now - at >= name_every);
        let digest = digest.filter(|_| due);
        if digest.is_some() {
            self.named_at = Some(now);
        }
        Append {
            epoch,
            round,
            previous,
            entries,
            commit,
            base,
            last,
            quiet,
            proven: self.proven,
            start,
            counted,
            digest,
        }
    }

    /// Whether a heartbeat is due.
    pub(super) fn heartbeat_due(&self, now: Millis, every: Millis) -> bool {
        now - self.answer_asked_at >= every
    }

    /// The follower agrees up to `matched` and has `durable` of it on disk.
    pub(super) fn appended(&mut self, now: Millis, appended: &Appended) {
        let (matched, durable) = (appended.matched, appended.durable);
        self.heard_at = now;
        self.round = self.round.max(appended.round);
        self.mark = appended.mark;
        if self.phase == Phase::Probing && matched + 1 >= self.next {
            self.phase = Phase::Streaming;
            self.next = matched + 1;
            self.unsend(matched);
            self.snapshot = None;
        }
        if durable > self.acked || durable + 1 >= self.next {
            self.advanced_at = now;
        }
        self.acked = self.acked.max(durable);
        self.arrived();
    }

    /// The follower lacks what was sent: go back to the last entry both have, or to the beginning.
    pub(super) fn mismatch(&mut self, now: Millis, mismatch: &Mismatch, log: &impl ReadLog) {
        self.heard_at = now;
        let common = mismatch
            .heads
            .iter()
            .find(|head| log.head(head.index) == Some(**head));
        self.phase = Phase::Probing;
        self.next = common.map_or(log.base().index, |head| head.index) + 1;
    }

    /// Whether it answers, and gets on with what it was sent: its disk may hang while its
    /// process answers, so that is given twice the time.
    pub(super) fn is_live(&self, now: Millis, within: Millis) -> bool {
        now - self.heard_at <= within && now - self.advanced_at <= 2 * within
    }

    /// Whether it gave a sign of life so lately that it will not be missed soon.
    pub(super) fn is_heard(&self, now: Millis, within: Millis) -> bool {
        now - self.heard_at <= within
    }

    /// How far it is while it is not in sync. Who copies a snapshot has nothing to answer.
    pub(super) fn state(&self, now: Millis, within: Millis) -> ReplicaState {
        match (self.phase, self.snapshot) {
            (Phase::Probing, Some(percent)) => ReplicaState::Snapshotting { percent },
            (Phase::Streaming, _) if self.is_live(now, within) => ReplicaState::Streaming,
            (Phase::Probing | Phase::Streaming, _) => ReplicaState::Probing,
        }
    }

    /// Do not wait for the next heartbeat to tell it something.
    pub(super) fn ask_now(&mut self) {
        self.answer_due = true;
    }

    /// Whether its process is about to stop.
    pub(super) fn is_leaving(&self, now: Millis) -> bool {
        now < self.leaving_until
    }

    /// It gave a sign of life other than an answer.
    pub(super) fn heard(&mut self, now: Millis) {
        self.heard_at = now;
    }

    /// Whether it has answered for nothing sent for `within`.
    pub(super) fn is_stuck(&self, now: Millis, within: Millis) -> bool {
        self.acked + 1 < self.next && now - self.advanced_at > within
    }

    /// Nothing was answered for long: what was sent may be lost. A follower that has answered
    /// nothing yet says itself where it is; to assume it empty would send it the whole log.
    pub(super) fn probe_again(&mut self) {
        self.phase = Phase::Probing;
        if self.acked > 0 {
            self.next = self.acked + 1;
        }
    }

    /// It says where it is, which counts unless it is being streamed to already.
    pub(super) fn probe_from(&mut self, next: Index) {
        if self.phase == Phase::Probing {
            self.next = next;
        }
    }
}

/// What every frame of a leader carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    pub(super) epoch: Epoch,
    pub(super) round: u64,
    pub(super) commit: Index,
    pub(super) base: Index,
    pub(super) last: Index,
    pub(super) start: Index,
    /// Whether the receiver is in sync.
    pub(super) counted: bool,
    pub(super) digest: Option<StateDigest>,
    /// How often a follower is told the digest.
    pub(super) name_every: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::MemoryLog;

    /// Three of them are more than a frame takes.
    const ENTRY_BYTES: usize = FRAME_BYTES / 5 * 2;

    /// A leader of epoch 1 whose log this is.
    fn leader(log: &MemoryLog) -> Sender {
        Sender {
            epoch: 1,
            round: 1,
            commit: 0,
            base: 0,
            last: log.last().index,
            start: 1,
            counted: false,
            digest: None,
            name_every: 500,
        }
    }

    /// All at once would keep clients waiting; nothing but the first would keep the follower waiting.
    #[test]
    fn who_is_far_behind_is_sent_one_frame_at_a_time_until_nothing_is_owed() {
        let log = MemoryLog::of((1..=5).map(|number| vec![number; ENTRY_BYTES]));
        let mut progress = Progress::new("acme-1".to_owned(), 1, 0);
        progress.appended(
            0,
            &Appended {
                epoch: 1,
                round: 1,
                matched: 0,
                durable: 0,
                mark: 0,
            },
        );
        for (entries, owes) in [(2, true), (2, true), (1, false)] {
            let frame = progress.frame(0, &leader(&log), &log, false);
            assert_eq!(frame.expect("a frame").entries.len(), entries);
            assert_eq!(progress.owes, owes);
        }
        let nothing = progress.frame(0, &leader(&log), &log, false);
        assert!(nothing.is_none() && !progress.owes, "{nothing:?}");
    }
}
