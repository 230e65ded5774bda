//! A port of this machine that leads to a pod, by `kubectl port-forward`: how people without a route
//! to the pods reach a tenant. The tenant's certificate names 127.0.0.1 for that purpose.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use percolate_crds::names;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::tenant::Tenant;

/// The first connection through API server and kubelet.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Open until dropped.
pub struct Forward {
    port: u16,
    _kubectl: Child,
}

impl Forward {
    /// Leads to the API of one pod.
    pub async fn to(tenant: &Tenant, pod: &str) -> Result<Self> {
        let mut command = Command::from(tenant.installation.kubectl());
        command
            .args(["--namespace", &tenant.namespace, "port-forward"])
            .arg(format!("pod/{pod}"))
            .arg(format!(":{}", names::API_PORT))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut kubectl = command.spawn().context("cannot run kubectl")?;
        let output = kubectl.stdout.take().context("kubectl has no output")?;
        let mut lines = BufReader::new(output).lines();
        let first = timeout(START_LIMIT, lines.next_line())
            .await
            .with_context(|| format!("no port was forwarded to {pod} in time"))??;
        let Some(port) = first.as_deref().and_then(local_port) else {
            bail!("no port was forwarded to {pod}: {first:?}");
        };
        // Read on, or kubectl would stop when the pipe is full: it prints a line per connection.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            port,
            _kubectl: kubectl,
        })
    }

    /// Where the tenant's API is.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

/// From `Forwarding from 127.0.0.1:34567 -> 8000`.
fn local_port(line: &str) -> Option<u16> {
    let address = line.strip_prefix("Forwarding from ")?.split(' ').next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_what_kubectl_says() {
        let cases = [
            ("Forwarding from 127.0.0.1:34567 -> 8000", Some(34567)),
            ("Forwarding from [::1]:34567 -> 8000", Some(34567)),
            ("error: pod not found", None),
        ];
        for (line, expected) in cases {
            assert_eq!(local_port(line), expected, "{line}");
        }
    }
}
