//! How the operator is started: flags, each also an environment variable.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use percolate_crds::duration;

/// Makes `PercolateTenants` be what their manifests say.
#[derive(Debug, Clone, Parser)]
#[command(name = "percolate-operator", version)]
pub struct Settings {
    /// Image of the nodes of tenants that name none.
    #[arg(long, env = "PERCOLATE_NODE_IMAGE")]
    pub node_image: String,

    /// Namespaces whose tenants are looked after, separated by commas. Default: all.
    #[arg(
        long,
        env = "PERCOLATE_WATCH_NAMESPACES",
        value_delimiter = ',',
        num_args = 0..
    )]
    pub watch_namespaces: Vec<String>,

    /// Where health and metrics are served.
    #[arg(long, env = "PERCOLATE_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,

    /// Name of this process among several operators.
    #[arg(long, env = "POD_NAME", default_value = "percolate-operator")]
    pub pod_name: String,

    /// Namespace of the lease by which several operators agree who is at work.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,

    /// Work without a lease. Only where there is never a second operator.
    #[arg(long, env = "PERCOLATE_WITHOUT_LEASE")]
    pub without_lease: bool,

    /// Tenants looked at together.
    #[arg(
        long,
        env = "PERCOLATE_CONCURRENCY",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub concurrency: u16,

    /// How long a machine may be silent before the pods on it are replaced.
    #[arg(long, env = "PERCOLATE_MACHINE_LOST_AFTER", default_value = "20s", value_parser = duration::parse)]
    pub machine_lost_after: Duration,

    /// How long a pod may wait for a volume on a lost machine before the volume is given up.
    #[arg(long, env = "PERCOLATE_VOLUME_LOST_AFTER", default_value = "60s", value_parser = duration::parse)]
    pub volume_lost_after: Duration,

    /// Ports on which nodes reach the API server, for their NetworkPolicy.
    #[arg(
        long,
        env = "PERCOLATE_API_SERVER_PORTS",
        value_delimiter = ',',
        default_value = "443,6443"
    )]
    pub api_server_ports: Vec<i32>,
}

impl Settings {
    /// What to watch: one entry for each namespace, or one for all.
    pub fn scopes(&self) -> Vec<Option<String>> {
        let mut named: Vec<Option<String>> = self
            .watch_namespaces
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .map(Some)
            .collect();
        named.sort_unstable();
        named.dedup();
        if named.is_empty() { vec![None] } else { named }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_trimmed_and_none_means_all() {
        for (given, expected) in [
            ("", vec![None]),
            (" , ", vec![None]),
            ("a", vec![Some("a".to_owned())]),
            ("b, a,b", vec![Some("a".to_owned()), Some("b".to_owned())]),
        ] {
            let settings = Settings::parse_from([
                "percolate-operator",
                "--node-image=node",
                &format!("--watch-namespaces={given}"),
            ]);
            assert_eq!(settings.scopes(), expected, "{given:?}");
        }
    }
}
