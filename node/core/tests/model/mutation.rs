//! The rules, each of which can be broken to see that the exploration notices.

/// One rule broken at a time; each must lead to a counterexample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    /// R1: frames of lower epochs than the one promised are taken.
    OldEpochsAccepted,
    /// R1: answers leave before the promise is on disk.
    PromiseNotDurable,
    /// R2: the leader counts its own entry before its own disk has it.
    AcknowledgedBeforeOwnSync,
    /// R3: a follower is left out before the register says so.
    ShrunkBeforeRegister,
    /// R2, R3: a change of unknown outcome is taken as failed.
    UnknownTakenAsFailed,
    /// R4: a learner becomes a member without having everything.
    GrownUnchecked,
    /// R5: a replica that is not in sync takes over.
    OutsiderPromoted,
    /// R5: a leader sends at its epoch before its own promise is on disk.
    SentBeforeOwnPromise,
    /// R9: a leader whose process restarted leads on in its old epoch.
    EpochKeptOnRestart,
}

impl Mutation {
    /// Whether old messages, or leaders of old, may matter again.
    pub(super) fn revives_the_past(self) -> bool {
        matches!(
            self,
            Self::OldEpochsAccepted | Self::PromiseNotDurable | Self::EpochKeptOnRestart
        )
    }

    pub(crate) const ALL: [Self; 9] = [
        Self::OldEpochsAccepted,
        Self::PromiseNotDurable,
        Self::AcknowledgedBeforeOwnSync,
        Self::ShrunkBeforeRegister,
        Self::UnknownTakenAsFailed,
        Self::GrownUnchecked,
        Self::OutsiderPromoted,
        Self::SentBeforeOwnPromise,
        Self::EpochKeptOnRestart,
    ];
}
