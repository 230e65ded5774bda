//! What clients did to one key and what they were told, as they saw it.

/// A place in the order of everything clients did and were told. Finer than simulated time, which
/// it follows: no two events share a moment.
pub(crate) type Moment = u64;

/// What is written; every write writes another one.
pub(crate) type Value = u64;

/// What is read where nothing was written.
pub(crate) const NOTHING: Value = 0;

/// What was done, and for a read what it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Write(Value),
    Read(Value),
}

/// One operation of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) action: Action,
    pub(crate) invoked: Moment,
    /// `None` where no answer came: the write may take effect at any later time, or never.
    pub(crate) returned: Option<Moment>,
}
