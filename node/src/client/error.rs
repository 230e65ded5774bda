//! Why a command did not do what it was asked.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use percolate_api::http::{Code, Problem};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was asked makes no sense; nothing was sent.
    #[error("{reason}")]
    Usage {
        /// What is wrong with it.
        reason: String,
    },
    /// No node answered.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Where one was looked for.
        url: String,
        /// What the transport said last.
        reason: String,
    },
    /// The node refused.
    #[error("{}", problem.detail)]
    Refused {
        /// Its answer.
        problem: Box<Problem>,
    },
    /// Something answered, but not as a node does.
    #[error("{url} answered with {status} and no explanation: is it a Percolate node?")]
    Strange {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write the output")]
    Output {
        /// The operating system's answer.
        source: io::Error,
    },
    /// Some items were not taken; they have been named already.
    #[error("{refused} of {total} items were refused")]
    Incomplete {
        /// How many.
        refused: usize,
        /// Of how many.
        total: usize,
    },
}

impl ClientError {
    pub(super) fn usage(reason: impl Into<String>) -> Self {
        Self::Usage {
            reason: reason.into(),
        }
    }

    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// The code a node refused with.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { problem } => Some(problem.code),
            _ => None,
        }
    }

    /// 1 failed, 2 wrong usage, 3 not reachable.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } => ExitCode::from(2),
            Self::Unreachable { .. } => ExitCode::from(3),
            Self::Refused { .. }
            | Self::Strange { .. }
            | Self::File { .. }
            | Self::Output { .. }
            | Self::Incomplete { .. } => ExitCode::FAILURE,
        }
    }
}
