//! Certificates of this node, and the connections they secure: TLS 1.3 everywhere, mutual between nodes.
//!
//! ```text
//! directory (tls.crt, tls.key, ca.crt) -> Generation -> serve   (a new connection takes the newest)
//!            ^ read every few seconds                -> connect (a new handshake takes the newest)
//! ```
//! A generation is taken whole or not at all: certificate, key and trust bundle always belong
//! together. A bad one is reported and the last good one stays in use. Connections made earlier go on.

mod connect;
mod generation;
mod rotating;
mod serve;
mod stalling;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};

pub use self::connect::{ConnectError, Connector};
pub use self::generation::TlsError;
use self::generation::{Files, Generation};
pub use self::serve::{Limits, Security, serve};

/// How often the directory is read. The operator renews weeks ahead and the kubelet takes a minute
/// to deliver, so this only has to be short for people who wait for it.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// HTTP/2, by ALPN.
const HTTP2: &str = "h2";

/// HTTP/2 on which whole stores are copied: served by threads of its own ([`crate::bulk`]).
const BULK: &str = "percolate-bulk";

/// The certificates in use; clones share them and follow their rotation.
#[derive(Debug, Clone)]
pub struct Tls {
    directory: PathBuf,
    generation: Arc<ArcSwap<Generation>>,
}

impl Tls {
    /// Read `tls.crt`, `tls.key` and `ca.crt` in `directory`.
    pub fn load(directory: &Path) -> Result<Self, TlsError> {
        let generation = Generation::build(Files::read(directory)?)?;
        Ok(Self {
            directory: directory.to_owned(),
            generation: Arc::new(ArcSwap::from_pointee(generation)),
        })
    }

    /// Take over what is in the directory now; `true` when it had changed. On an error the last
    /// good generation stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = Files::read(&self.directory)?;
        if files == self.generation.load().files {
            return Ok(false);
        }
        self.generation.store(Arc::new(Generation::build(files)?));
        Ok(true)
    }

    /// Follow the directory. Never returns; stop it by dropping it.
    pub async fn watch(self) {
        let mut last_problem = None;
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            let tls = self.clone();
            let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else {
                continue;
            };
            let problem = reloaded.as_ref().err().map(describe);
            match &problem {
                // Said once, not at every look.
                Some(problem) if last_problem.as_ref() != Some(problem) => {
                    tracing::error!(directory = %self.directory.display(), %problem, "keeping the certificates in use");
                }
                None if matches!(reloaded, Ok(true)) => {
                    tracing::info!(directory = %self.directory.display(), "took new certificates");
                }
                _ => {}
            }
            last_problem = problem;
        }
    }

    /// Settings for a client of other nodes: trusts this tenant's authority only, and shows this
    /// node's certificate when asked. Follows rotation by itself. `protocols` are offered by ALPN.
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        rotating::client(Arc::clone(&self.generation), protocols)
    }

    /// Settings of the newest generation for a server that takes any client.
    fn open_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.generation.load().open)
    }

    /// Settings of the newest generation for a server that only takes clients of this tenant's authority.
    fn mutual_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.generation.load().mutual)
    }
}

/// An error with its causes, in one line.
fn describe(error: &TlsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
