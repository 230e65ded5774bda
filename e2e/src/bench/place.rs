//! Where one peer works: a temporary directory, free ports of loopback, an environment.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A directory that goes away with everything in it when this is dropped.
pub(super) struct Place {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

impl Place {
    /// A new place below `parent`, which decides on the file system.
    pub(super) fn below(parent: &Path) -> Result<Self> {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
        let directory = tempfile::Builder::new()
            .prefix("percolate-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        Ok(Self {
            directory,
            environment: Vec::new(),
        })
    }

    /// What processes that are started from here on find in their environment.
    pub(super) fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// The environment of its processes, beside the usual.
    pub(super) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file, and says where it is.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Makes a directory below its own.
    pub(super) fn create(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

/// Ports that nothing listens on, at any address of this machine.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until all are found, or the same one would be found again.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no port is free")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_place() {
        let place = Place::below(&std::env::temp_dir()).expect("a place");
        let file = place.write("file", "content").expect("written");
        assert!(file.exists());
        drop(place);
        assert!(!file.exists());
    }

    #[test]
    fn free_ports_differ() {
        let ports = free_ports::<8>().expect("free");
        for (at, port) in ports.iter().enumerate() {
            assert!(!ports[..at].contains(port));
        }
    }
}
