//! What a leader knows of one follower, and what to send it next.

use super::message::{Append, Mismatch};
use super::{Millis, StateDigest};
use crate::identity::{Epoch, Index};
use crate::log::{Head, ReadLog, SharedEntry};

/// Largest frame of entries. Large enough to use the wire, small enough that a heartbeat behind
/// one is not late.
const FRAME_BYTES: usize = 1 << 20;

/// Entries sent and not yet durable at the follower, at most: bounds what a slow follower can
/// make the leader hold, while a fast one never runs dry within a round trip.
const WINDOW_ENTRIES: Index = 16_384;

/// Frames of full size sent and not yet answered, at most.
const WINDOW_FRAMES: usize = 8;

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
    /// Last index of each full frame under way.
    frames: Vec<Index>,
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
    sent_at: Millis,
    /// Answer to what it just said at the next opportunity.
    answer_due: bool,
    /// Latest round it was asked.
    pub(super) asked: u64,
    /// Commit index it was last told.
    told_commit: Index,
    /// When it was last told what state the leader has come to.
    named_at: Option<Millis>,
}

impl Progress {
    pub(super) fn new(pod: String, next: Index, now: Millis) -> Self {
        Self {
            pod,
            phase: Phase::Probing,
            next,
            acked: 0,
            frames: Vec::new(),
            heard_at: now,
            advanced_at: now,
            round: 0,
            joining: false,
            leaving_until: now,
            sent_at: now,
            answer_due: true,
            asked: 0,
            told_commit: 0,
            named_at: None,
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    /// Frames to send now. `due` asks for at least one, if only as a heartbeat.
    pub(super) fn frames(
        &mut self,
        now: Millis,
        leader: &Sender,
        log: &impl ReadLog,
        due: bool,
    ) -> Vec<Append> {
        if self.next <= leader.base {
            // What it lacks was trimmed: a probe there tells it so.
            self.phase = Phase::Probing;
            self.frames.clear();
            self.next = leader.base + 1;
        }
        let mut frames = Vec::new();
        while self.may_send(leader.last) {
            let entries = log.read(self.next, FRAME_BYTES);
            let Some(previous) = log.head(self.next - 1) else {
                break;
            };
            let Some(end) = entries.last().map(|entry| entry.head.index) else {
                break;
            };
            if end < leader.last {
                self.frames.push(end);
            }
            self.next = end + 1;
            frames.push(self.append(now, leader, previous, entries));
        }
        let news = self.phase == Phase::Streaming
            && leader.commit > self.told_commit
            && self.acked + 1 >= self.next;
        if frames.is_empty()
            && (due || news || self.answer_due)
            && let Some(previous) = log.head(self.next - 1)
        {
            frames.push(self.append(now, leader, previous, Vec::new()));
        }
        if !frames.is_empty() {
            self.sent_at = now;
            self.answer_due = false;
        }
        frames
    }

    fn may_send(&self, last: Index) -> bool {
        let in_window = self.next <= self.acked.saturating_add(WINDOW_ENTRIES)
            && self.frames.len() < WINDOW_FRAMES;
        self.phase == Phase::Streaming && self.next <= last && in_window
    }

    fn append(
        &mut self,
        now: Millis,
        leader: &Sender,
        previous: Head,
        entries: Vec<SharedEntry>,
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
            start,
            counted,
            digest,
        }
    }

    /// Whether a heartbeat is due.
    pub(super) fn heartbeat_due(&self, now: Millis, every: Millis) -> bool {
        now - self.sent_at >= every
    }

    /// The follower agrees up to `matched` and has `durable` of it on disk.
    pub(super) fn appended(&mut self, now: Millis, round: u64, matched: Index, durable: Index) {
        self.heard_at = now;
        self.round = self.round.max(round);
        if self.phase == Phase::Probing && matched + 1 >= self.next {
            self.phase = Phase::Streaming;
            self.next = matched + 1;
        }
        if durable > self.acked || durable + 1 >= self.next {
            self.advanced_at = now;
        }
        self.acked = self.acked.max(durable);
        self.frames.retain(|end| *end > matched);
    }

    /// The follower lacks what was sent: go back to the last entry both have, or to the beginning.
    pub(super) fn mismatch(&mut self, now: Millis, mismatch: &Mismatch, log: &impl ReadLog) {
        self.heard_at = now;
        let common = mismatch
            .heads
            .iter()
            .find(|head| log.head(head.index) == Some(**head));
        self.phase = Phase::Probing;
        self.frames.clear();
        self.next = common.map_or(log.base().index, |head| head.index) + 1;
    }

    /// Whether it answers, and gets on with what it was sent: its disk may hang while its
    /// process answers, so that is given twice the time.
    pub(super) fn is_live(&self, now: Millis, within: Millis) -> bool {
        now - self.heard_at <= within && now - self.advanced_at <= 2 * within
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
        self.frames.clear();
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
