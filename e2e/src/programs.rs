//! Programs that are built from Go modules, once, into a directory that outlives checkouts.
//!
//! Each module under `e2e/cluster/` and `e2e/bench/` pins one project by `go.mod` and `go.sum`; its
//! directory in the cache carries a hash of both, of a program of its own, and of the build flags, so that what
//! has changed is a new directory.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::layout::cache;
use crate::digest;
use crate::progress::{elapsed, say};
use crate::repository;

/// The Kubernetes that the cluster runs.
pub const KUBERNETES_VERSION: &str = "v1.37.2";
/// How often a long build says how far it is.
const REPORT_INTERVAL: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);
/// The linker drops what debuggers read (`-s -w`): not to make it saves an eighth of the time, and gives the
/// same program. That is why the directory's name does not depend on it.
const COMPILER_FLAGS: &str = "-gcflags=all=-dwarf=false";
/// Hex digits of the hash in a directory's name: enough against chance, short enough to read.
const HASH_DIGITS: usize = 12;

/// A Go module whose `tool` entries are built.
#[derive(Debug, Clone, Copy)]
struct Module {
    /// The folder of the repository that its directory lies in.
    folder: &'static str,
    /// Its directory there.
    name: &'static str,
    /// What the first build costs, for the person who waits.
    first_build: &'static str,
    /// Without its version flags Kubernetes calls itself v0.0.0-master and clients cannot read that.
    linker_flags: &'static str,
    /// Whether a part of it is written in C.
    has_c: bool,
}

/// What a module has that is not just another's program.
const PROGRAM: &str = "main.go";

/// What the cluster runs.
const CLUSTER: &str = "e2e/cluster";
/// What the benchmark measures beside Percolate.
const BENCH: &str = "e2e/bench";

const KUBERNETES: Module = Module {
    folder: CLUSTER,
    name: "kubernetes",
    first_build: "about 8 min on 2 cores",
    linker_flags: "-s -w \
        -X k8s.io/component-base/version.gitVersion=v1.37.2 \
        -X k8s.io/component-base/version.gitMajor=1 \
        -X k8s.io/component-base/version.gitMinor=37 \
        -X k8s.io/component-base/version.gitCommit=unknown \
        -X k8s.io/component-base/version.gitTreeState=clean",
    has_c: false,
};
const COREDNS: Module = Module {
    folder: CLUSTER,
    name: "coredns",
    first_build: "some seconds after Kubernetes",
    linker_flags: "-s -w",
    has_c: false,
};
const LOCAL_PATH_PROVISIONER: Module = Module {
    folder: CLUSTER,
    name: "local-path-provisioner",
    first_build: "some seconds after Kubernetes",
    linker_flags: "-s -w",
    has_c: false,
};
const HELM: Module = Module {
    folder: CLUSTER,
    name: "helm",
    first_build: "about 1 min on 2 cores",
    linker_flags: "-s -w",
    has_c: false,
};
const ETCD: Module = Module {
    folder: BENCH,
    name: "etcd",
    first_build: "about half a minute on 2 cores",
    linker_flags: "-s -w",
    has_c: false,
};
const NATS: Module = Module {
    folder: BENCH,
    name: "nats",
    first_build: "about half a minute on 2 cores",
    linker_flags: "-s -w",
    has_c: false,
};
const RQLITE: Module = Module {
    folder: BENCH,
    name: "rqlite",
    first_build: "about 2 min on 2 cores",
    linker_flags: "-s -w",
    has_c: true,
};

/// The programs of Kubernetes.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    directory: PathBuf,
}

impl Kubernetes {
    /// Builds what is not built yet.
    pub fn ready() -> Result<Self> {
        Ok(Self {
            directory: built(KUBERNETES)?,
        })
    }

    #[cfg(test)]
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The path of one program, for instance `kubelet`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `kubectl` with this kubeconfig.
    pub fn kubectl(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(self.program("kubectl"));
        command.env("KUBECONFIG", kubeconfig);
        command
    }
}

/// The programs that the cluster runs besides Kubernetes.
#[derive(Debug, Clone)]
pub struct Addons {
    /// The DNS server.
    pub coredns: PathBuf,
    /// The provisioner of volumes.
    pub local_path_provisioner: PathBuf,
}

impl Addons {
    /// Builds what is not built yet.
    pub fn ready() -> Result<Self> {
        Ok(Self {
            coredns: built(COREDNS)?.join("coredns"),
            local_path_provisioner: built(LOCAL_PATH_PROVISIONER)?.join("local-path-provisioner"),
        })
    }
}

/// Helm: the user's own if `PATH` has it, else built.
pub fn helm() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path)
        .map(|directory| directory.join("helm"))
        .find(|helm| helm.is_file());
    match own {
        Some(helm) => Ok(helm),
        None => Ok(built(HELM)?.join("helm")),
    }
}

/// The etcd that is measured; not the cluster's, which is Debian's.
pub fn etcd() -> Result<PathBuf> {
    // Go names a program after the last part of its module's path that is no version.
    Ok(built(ETCD)?.join("server"))
}

/// The server of NATS, with its `JetStream`.
pub fn nats() -> Result<PathBuf> {
    Ok(built(NATS)?.join("nats-server"))
}

/// rqlite's server.
pub fn rqlite() -> Result<PathBuf> {
    Ok(built(RQLITE)?.join("rqlited"))
}

/// The directory with the module's programs.
fn built(module: Module) -> Result<PathBuf> {
    let sources = sources(module)?;
    let directory =
        cache()?
            .join("bin")
            .join(format!("{}-{}", module.name, hash(module, &sources)?));
    if !directory.exists() {
        build(module, &sources, &directory)?;
    }
    Ok(directory)
}

fn sources(module: Module) -> Result<PathBuf> {
    Ok(repository::root()?.join(module.folder).join(module.name))
}

fn hash(module: Module, sources: &Path) -> Result<String> {
    let read = |file: &str| {
        let path = sources.join(file);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (manifest, sums) = (read("go.mod")?, read("go.sum")?);
    let program = if sources.join(PROGRAM).exists() {
        read(PROGRAM)?
    } else {
        Vec::new()
    };
    let flags = module.linker_flags.as_bytes();
    let digest = digest::of_pieces([&manifest[..], &sums, &program, flags]);
    Ok(digest[..HASH_DIGITS].to_owned())
}

/// Builds into a directory of its own and renames it at the end: an interrupted build leaves no half.
fn build(module: Module, sources: &Path, directory: &Path) -> Result<()> {
    say(&format!(
        "  {} is built from its Go module (the first time {})",
        module.name, module.first_build
    ));
    let start = Instant::now();
    let partial = directory.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial)?;
    let child = Command::new("nice")
        .args([
            "go",
            "build",
            "-v",
            "-trimpath",
            COMPILER_FLAGS,
            "-ldflags",
            module.linker_flags,
            "-o",
        ])
        .arg(partial.join(""))
        .arg("tool")
        .env("CGO_ENABLED", if module.has_c { "1" } else { "0" })
        .current_dir(sources)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run go")?;
    let result = follow(module, child, start);
    if result.is_err() {
        // The build's own error is the one worth reading.
        let _ = fs::remove_dir_all(&partial);
    }
    result?;
    fs::rename(&partial, directory)?;
    say(&format!(
        "  {} is built: {}",
        module.name,
        elapsed(start.elapsed())
    ));
    Ok(())
}

/// Reads the names of packages that go prints as it compiles them, and reports how many there were.
fn follow(module: Module, mut child: Child, start: Instant) -> Result<()> {
    let packages = AtomicUsize::new(0);
    let output = child.stderr.take().context("go has no standard error")?;
    let (status, said) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| count_packages(output, &packages));
        let mut reported = start;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::sleep(POLL);
            if reported.elapsed() >= REPORT_INTERVAL {
                reported = Instant::now();
                let count = packages.load(Ordering::Relaxed);
                say(&format!(
                    "  {}: {count} packages compiled, {}",
                    module.name,
                    elapsed(start.elapsed())
                ));
            }
        };
        anyhow::Ok((status, reader.join().unwrap_or_default()))
    })?;
    if !status.success() {
        bail!("building {} failed: {said}", module.name);
    }
    Ok(())
}

/// Gives back the lines that are no names of packages: what went wrong.
fn count_packages(output: impl Read, packages: &AtomicUsize) -> String {
    let mut said = String::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if line.contains(' ') {
            said.push_str(&line);
            said.push('\n');
        } else {
            packages.fetch_add(1, Ordering::Relaxed);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_says_the_version_that_its_module_pins() {
        let pinned = fs::read_to_string(sources(KUBERNETES).expect("a repository").join("go.mod"))
            .expect("readable");
        assert!(pinned.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}")));
        assert!(
            KUBERNETES
                .linker_flags
                .contains(&format!("gitVersion={KUBERNETES_VERSION} "))
        );
    }

    #[test]
    fn other_flags_or_another_module_make_another_directory() {
        let hashes = [
            KUBERNETES,
            COREDNS,
            Module {
                linker_flags: "",
                ..COREDNS
            },
        ]
        .map(|module| hash(module, &sources(module).expect("a repository")).expect("readable"));
        assert_eq!(hashes[0].len(), HASH_DIGITS);
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    }

    #[test]
    fn complaints_are_kept_and_package_names_counted() {
        let output = "k8s.io/api/core/v1\nfoo.go:3: undefined: x\nk8s.io/api/apps/v1\n";
        let packages = AtomicUsize::new(0);
        assert_eq!(
            count_packages(output.as_bytes(), &packages),
            "foo.go:3: undefined: x\n"
        );
        assert_eq!(packages.into_inner(), 2);
    }
}
