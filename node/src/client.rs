//! The commands that talk to a running node.
//!
//! ```text
//! cli::ClientCommand -> Api (HTTPS, retries, session) -> a node
//!                    -> Printer                       -> standard output
//! ```
//! What goes wrong ends up in one [`ClientError`], printed once, and in the exit code.

mod api;
mod error;
mod events;
mod export;
mod import;
mod path;
mod printer;
mod reading;
mod watching;
mod writing;

use std::process::ExitCode;

use crate::cli::ClientCommand;

pub use error::ClientError;

/// Carry out `command`; prints its result, or why there is none.
pub async fn run(command: ClientCommand) -> ExitCode {
    match carry_out(command).await {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has what it wants: `percolate ls ... | head`.
        Err(ClientError::Output { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            printer::complain(&error);
            error.exit_code()
        }
    }
}

async fn carry_out(command: ClientCommand) -> Result<(), ClientError> {
    match command {
        ClientCommand::Put(arguments) => writing::put(arguments).await,
        ClientCommand::Get(arguments) => reading::get(arguments).await,
        ClientCommand::Ls(arguments) => reading::list(arguments).await,
        ClientCommand::Rm(arguments) => writing::remove(arguments).await,
        ClientCommand::Import(arguments) => import::run(arguments).await,
        ClientCommand::Export(arguments) => export::run(arguments).await,
        ClientCommand::Watch(arguments) => watching::watch(arguments).await,
        ClientCommand::Status(arguments) => reading::status(arguments).await,
    }
}

#[cfg(test)]
mod tests;
