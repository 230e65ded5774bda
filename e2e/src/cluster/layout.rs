//! Where everything of the cluster lies on disk.
//!
//! | path | what | lives |
//! |---|---|---|
//! | `<cache>/bin/<name>-<hash>/` | programs built from Go modules | until deleted by hand |
//! | `<cache>/debian/`, `<cache>/images/` | Debian packages and image archives | until deleted by hand |
//! | `<state>/` | one cluster: keys, configuration, logs, etcd, volumes | until `cluster down` |
//!
//! `<cache>` is `$XDG_CACHE_HOME/percolate` or `$HOME/.cache/percolate`; `<state>` is
//! `$PERCOLATE_CLUSTER_DIR` or `<cache>/cluster`. State is on a disk, not below `/run`: images and
//! volumes would fill a memory file system, and overlayfs cannot lie on another overlayfs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::address::Node;

/// Moves the state of the cluster elsewhere.
pub const STATE_VARIABLE: &str = "PERCOLATE_CLUSTER_DIR";

/// Directory of what is kept between clusters.
pub fn cache() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(cache).join("percolate"));
    }
    let home = env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/percolate"))
}

/// The paths of one cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
}

impl Layout {
    /// The layout that the environment asks for.
    pub fn from_environment() -> Result<Self> {
        match env::var_os(STATE_VARIABLE) {
            Some(state) => Ok(Self::at(PathBuf::from(state))),
            None => Ok(Self::at(cache()?.join("cluster"))),
        }
    }

    /// A layout below `state`.
    pub fn at(state: PathBuf) -> Self {
        Self { state }
    }

    /// The root of it all; `down` removes it.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Held while one `up` or `down` is at work. Beside the state, because `down` removes that.
    pub fn lock(&self) -> PathBuf {
        self.state.with_extension("lock")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// The kubeconfig of one component or user.
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.keys().join(format!("{user}.kubeconfig"))
    }

    /// Keys, certificates and kubeconfigs.
    pub fn keys(&self) -> PathBuf {
        self.state.join("keys")
    }

    /// Configuration files of the components.
    pub fn configuration(&self) -> PathBuf {
        self.state.join("configuration")
    }

    /// One record per process that was started.
    pub fn processes(&self) -> PathBuf {
        self.state.join("processes")
    }

    /// What each process prints.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// The API server's audit log and its rotated predecessors.
    pub fn audit(&self) -> PathBuf {
        self.state.join("audit")
    }

    /// etcd's data.
    pub fn etcd(&self) -> PathBuf {
        self.state.join("etcd")
    }

    /// Everything of one node.
    pub fn node(&self, node: Node) -> PathBuf {
        self.state.join("nodes").join(node.to_string())
    }

    /// The socket of the node's containerd.
    pub fn containerd_socket(&self, node: Node) -> PathBuf {
        self.node(node).join("containerd.sock")
    }

    /// The node's own disk for volumes: a lost node takes them with it.
    pub fn volumes(&self, node: Node) -> PathBuf {
        self.node(node).join("volumes")
    }
}
