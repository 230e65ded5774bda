//! What can go wrong in a pass over a tenant, and what follows from it: one table.
//!
//! | kind | condition | backoff | meaning |
//! |---|---|---|---|
//! | `Transient` | Reconciling / Retrying | exponential | the API server or the network; goes by itself |
//! | `Conflict` | none | at once, then exponential | our view was old; look again |
//! | `Taken` | Stalled / `NameTaken` | slow | an object we need belongs to somebody else |
//! | `Invalid` | Stalled / `InvalidSpec` | slow | the manifest cannot be turned into objects |
//! | `Forbidden` | Stalled / Forbidden | slow | the operator's role lacks something |
//! | `Bug` | Stalled / `InvalidSpec` | slow | the API server cannot be meant by what we send |
//!
//! `Slow` kinds are looked at again when the tenant changes, so waiting long costs nobody anything.

use std::time::Duration;

use percolate_crds::conditions::{self, Reason};

use crate::{controller::validate::InvalidSpec, credentials::CredentialError};

/// First wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after failures that may go by themselves.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Wait after a failure that needs somebody to act.
const SLOW_WAIT: Duration = Duration::from_mins(1);
/// Longest such wait.
const LONGEST_SLOW_WAIT: Duration = Duration::from_mins(10);

/// Why a pass over a tenant ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A call to the API server failed.
    #[error("could not {action}")]
    Call {
        /// What was tried.
        action: String,
        /// Why it failed. Boxed, because it is large and rare.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object exists and is not ours.
    #[error("{kind} {name:?} belongs to {owner}")]
    Taken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// An act was planned on a view that is not true any more.
    #[error("{what} has changed since it was last seen")]
    Stale {
        /// What has changed.
        what: String,
    },
    /// The manifest cannot be turned into objects.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
    /// Credentials could not be made.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The pass took too long.
    #[error("the pass took longer than {0:?}")]
    TimedOut(Duration),
}

/// What kind of failure it is: the key of the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Goes by itself.
    Transient,
    /// An old view.
    Conflict,
    /// Somebody else's object.
    Taken,
    /// A manifest to correct.
    Invalid,
    /// A permission to give.
    Forbidden,
    /// Ours to mend.
    Bug,
}

impl ReconcileError {
    /// Wraps a failed call.
    pub fn call(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Call {
            action: action.into(),
            source: Box::new(source),
        }
    }

    /// The row of the table.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Call { source, .. } => kind_of_call(source),
            Self::Taken { .. } => ErrorKind::Taken,
            Self::Stale { .. } => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Credentials(_) => ErrorKind::Bug,
            Self::TimedOut(_) => ErrorKind::Transient,
        }
    }

    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn kind_of_call(error: &kube::Error) -> ErrorKind {
    let kube::Error::Api(status) = error else {
        return ErrorKind::Transient;
    };
    if status.is_conflict() || status.is_already_exists() || status.is_not_found() {
        ErrorKind::Conflict
    } else if status.is_forbidden() {
        ErrorKind::Forbidden
    } else if status.is_invalid() {
        ErrorKind::Invalid
    } else if status.code == 400 {
        ErrorKind::Bug
    } else {
        ErrorKind::Transient
    }
}

impl ErrorKind {
    /// The condition it shows as, if people should see it.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Transient => Some(conditions::RETRYING),
            Self::Conflict => None,
            Self::Taken => Some(conditions::NAME_TAKEN),
            Self::Invalid | Self::Bug => Some(conditions::INVALID_SPEC),
            Self::Forbidden => Some(conditions::FORBIDDEN),
        }
    }

    /// First and longest wait before the next attempt.
    pub fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Transient | Self::Conflict => (FIRST_WAIT, LONGEST_WAIT),
            Self::Taken | Self::Invalid | Self::Forbidden | Self::Bug => {
                (SLOW_WAIT, LONGEST_SLOW_WAIT)
            }
        }
    }

    /// Value of the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Conflict => "conflict",
            Self::Taken => "taken",
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
            Self::Bug => "bug",
        }
    }
}
