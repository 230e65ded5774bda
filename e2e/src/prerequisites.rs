//! What the machine must have before a cluster can be brought up: checked first, and installed where
//! Debian has it. What is missing is said in one sentence, with the way around it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cluster::cgroup;
use crate::command::{SYSTEM_PATH, run, system};
use crate::progress::step;

/// A program that must be there, and the Debian package that has it.
const PACKAGED: [(&str, &str); 10] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("strip", "binutils"),
];

/// Checks everything and installs the packages that are missing.
pub fn ensure() -> Result<()> {
    check_machine()?;
    check_go()?;
    install(&missing_packages())
}

/// The program of Redis, installed if it is missing. Debian's package `redis-server` would only add
/// a link to it and a service that nobody asked for.
pub fn redis() -> Result<PathBuf> {
    const PROGRAM: &str = "redis-check-rdb";
    if !is_present(PROGRAM) {
        if !rustix::process::geteuid().is_root() {
            bail!("Redis is missing: run 'sudo apt-get install redis-tools'");
        }
        install(&["redis-tools"])?;
    }
    let found = SYSTEM_PATH
        .split(':')
        .map(|directory| Path::new(directory).join(PROGRAM));
    found
        .into_iter()
        .find(|path| path.exists())
        .context("the package redis-tools brought no redis-check-rdb")
}

fn check_machine() -> Result<()> {
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let overlay_can_be_loaded = std::process::Command::new("modprobe")
        .arg("overlay")
        .env("PATH", SYSTEM_PATH)
        .output()
        .is_ok_and(|output| output.status.success());
    let missing_controllers = cgroup::missing_controllers()?;
    let problem = if !rustix::process::geteuid().is_root() {
        "you are not root, and network namespaces and mounts need that".to_owned()
    } else if !file_systems.contains("overlay") && !overlay_can_be_loaded {
        "this kernel has no overlayfs, on which containers stand".to_owned()
    } else if !missing_controllers.is_empty() {
        format!(
            "this machine offers no cgroup controller {}",
            missing_controllers.join(", ")
        )
    } else {
        return Ok(());
    };
    bail!(sentence(&problem));
}

fn check_go() -> Result<()> {
    match run(std::process::Command::new("go").arg("version")) {
        Ok(_) => Ok(()),
        Err(_) => bail!(sentence(
            "Go, which builds Kubernetes, is not on your PATH (1.21 or later, see https://go.dev/dl)"
        )),
    }
}

/// Packages whose program is not there.
fn missing_packages() -> Vec<&'static str> {
    PACKAGED
        .into_iter()
        .filter(|(program, _)| !is_present(program))
        .map(|(_, package)| package)
        .collect()
}

fn is_present(program: &str) -> bool {
    // Joining an absolute path gives that path.
    SYSTEM_PATH
        .split(':')
        .any(|directory| Path::new(directory).join(program).exists())
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_present("apt-get") {
        bail!(sentence(&format!(
            "these Debian packages (or their like) are missing: {list}"
        )));
    }
    step(&format!("{list}: installed with apt-get"), || {
        run(system("apt-get").args(["update", "--quiet"]))?;
        run(system("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(packages))
        .map(drop)
    })
}

fn sentence(problem: &str) -> String {
    format!(
        "no cluster can be brought up: {problem}; set KUBECONFIG to use a cluster you already have"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_or_path() {
        assert!(is_present("sh"));
        assert!(is_present("/bin/sh"));
        assert!(!is_present("no-such-program"));
        assert!(!is_present("/no/such/program"));
    }

    #[test]
    fn a_problem_comes_with_the_way_around_it() {
        let sentence = sentence("you are not root");
        assert!(sentence.contains("you are not root"));
        assert!(sentence.contains("KUBECONFIG"));
    }
}
