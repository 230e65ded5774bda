//! A cluster with Percolate on it, however far it already is.
//!
//! ```text
//! KUBECONFIG or cluster up ─► images packed, loaded ─► helm upgrade --install ─► operator available
//! ```
//!
//! Everything is done again only when its inputs changed, so that each story can ask for it. On a
//! cluster of the user's, whose nodes cannot be reached, images come from a registry or are there.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::task::spawn_blocking;

use crate::cluster::{Cluster, existing_kubeconfig};
use crate::command::{run, succeeds};
use crate::image::{self, BuiltImage, Images};
use crate::programs::{Kubernetes, helm};
use crate::progress::{say, step};
use crate::repository;

/// Where the operator runs.
pub const SYSTEM_NAMESPACE: &str = "percolate-system";
/// The name of the Helm release, and so of the operator's Deployment.
pub const RELEASE: &str = "percolate";
/// Node image on a cluster of the user's.
pub const NODE_IMAGE_VARIABLE: &str = "PERCOLATE_NODE_IMAGE";
/// Operator image on a cluster of the user's.
pub const OPERATOR_IMAGE_VARIABLE: &str = "PERCOLATE_OPERATOR_IMAGE";
/// Two replicas, one that may be lost, and one place to go to.
const NODES: u8 = 3;
/// The operator starts in seconds; pulling its image may take longer.
const OPERATOR_TIMEOUT: &str = "180s";

/// A cluster on which Percolate is installed.
#[derive(Clone)]
pub struct Installation {
    /// The local cluster; none on a cluster of the user's, to which no fault can be done.
    pub cluster: Option<Cluster>,
    /// For reading what stories wait for; what people do is done with [`Self::kubectl`].
    pub client: kube::Client,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

impl Installation {
    /// Does whatever is missing.
    pub async fn ready() -> Result<Self> {
        // Before any TLS: with two providers compiled in, rustls refuses to choose by itself.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (cluster, kubeconfig, kubectl) = spawn_blocking(prepare).await??;
        let client = client(&kubeconfig).await?;
        Ok(Self {
            cluster,
            client,
            kubeconfig,
            kubectl,
        })
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs `kubectl` to its end and gives back what it printed.
    pub async fn run_kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.kubectl();
        command.args(arguments);
        spawn_blocking(move || run(&mut command)).await?
    }

    /// Does something blocking to the local cluster.
    pub async fn on_cluster<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cluster) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cluster = self
            .cluster
            .clone()
            .context("faults can be done to the local cluster only: unset KUBECONFIG")?;
        spawn_blocking(move || work(&cluster)).await?
    }

    /// The kubeconfig in use.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Scales the operator, and waits until it is so.
    pub async fn scale_operator(&self, replicas: u8) -> Result<()> {
        let deployment = format!("deployment/{RELEASE}");
        let count = format!("--replicas={replicas}");
        self.run_kubectl(&["-n", SYSTEM_NAMESPACE, "scale", &deployment, &count])
            .await?;
        let wait = ["-n", SYSTEM_NAMESPACE, "rollout", "status", &deployment];
        self.run_kubectl(&[&wait[..], &["--timeout", OPERATOR_TIMEOUT]].concat())
            .await
            .map(drop)
    }
}

/// A client of the API server that this kubeconfig names.
async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

fn prepare() -> Result<(Option<Cluster>, PathBuf, PathBuf)> {
    if let Some(kubeconfig) = existing_kubeconfig()? {
        let kubectl = kubectl_program()?;
        install_on_own_cluster(&kubectl, &kubeconfig)?;
        return Ok((None, kubeconfig, kubectl));
    }
    let cluster = Cluster::from_environment()?;
    cluster.up(NODES)?;
    let kubectl = Kubernetes::ready()?.program("kubectl");
    install_on_local_cluster(&cluster, &kubectl)?;
    Ok((Some(cluster.clone()), cluster.kubeconfig(), kubectl))
}

/// The user's own if `PATH` has it, else built.
fn kubectl_program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path)
        .map(|directory| directory.join("kubectl"))
        .find(|kubectl| kubectl.is_file());
    match own {
        Some(kubectl) => Ok(kubectl),
        None => Ok(Kubernetes::ready()?.program("kubectl")),
    }
}

fn install_on_own_cluster(kubectl: &Path, kubeconfig: &Path) -> Result<()> {
    let image = |variable: &str| {
        std::env::var(variable)
            .ok()
            .filter(|image| !image.is_empty())
    };
    match (image(OPERATOR_IMAGE_VARIABLE), image(NODE_IMAGE_VARIABLE)) {
        (Some(operator), Some(node)) => install_chart(kubeconfig, &operator, &node)?,
        _ if is_installed(kubectl, kubeconfig) => {
            say("Percolate is installed on this cluster and is used as it is");
        }
        _ => bail!(
            "Percolate is not installed on the cluster of {}, and its nodes cannot be given images from here: \
             push those that `make image` prints to a registry the cluster pulls from, and set \
             {OPERATOR_IMAGE_VARIABLE} and {NODE_IMAGE_VARIABLE} to their names there",
            kubeconfig.display()
        ),
    }
    await_operator(kubectl, kubeconfig)
}

fn install_on_local_cluster(cluster: &Cluster, kubectl: &Path) -> Result<()> {
    let images = packed_images()?;
    let kubeconfig = cluster.kubeconfig();
    // Beside the kubeconfig, in the state of the cluster: gone with it.
    let stamp = kubeconfig.with_file_name("installed");
    let wanted = [
        images.node.reference.clone(),
        images.operator.reference.clone(),
        fingerprint(&[chart()?])?,
        cluster.node_names().join(" "),
    ]
    .join("\n");
    let is_current = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if !is_current || !is_installed(kubectl, &kubeconfig) {
        for image in [&images.node, &images.operator] {
            cluster.load_image(&image.archive)?;
        }
        install_chart(
            &kubeconfig,
            &images.operator.reference,
            &images.node.reference,
        )?;
        fs::write(&stamp, wanted)?;
    }
    await_operator(kubectl, &kubeconfig)
}

fn is_installed(kubectl: &Path, kubeconfig: &Path) -> bool {
    succeeds(Command::new(kubectl).env("KUBECONFIG", kubeconfig).args([
        "-n",
        SYSTEM_NAMESPACE,
        "get",
        "deployment",
        RELEASE,
    ]))
}

fn install_chart(kubeconfig: &Path, operator: &str, node: &str) -> Result<()> {
    let helm = helm()?;
    let (repository, tag) = operator
        .rsplit_once(':')
        .with_context(|| format!("{operator} has no tag"))?;
    step("the chart is installed", || {
        run(Command::new(helm)
            .env("KUBECONFIG", kubeconfig)
            .args(["upgrade", "--install", RELEASE])
            .arg(chart()?)
            .args(["--namespace", SYSTEM_NAMESPACE, "--create-namespace"])
            .arg("--set-string")
            .arg(format!(
                "image.repository={repository},image.tag={tag},nodeImage={node}"
            )))
        .map(drop)
    })
}

/// Also after a story that stopped the operator and ended half-way.
fn await_operator(kubectl: &Path, kubeconfig: &Path) -> Result<()> {
    let deployment = format!("deployment/{RELEASE}");
    let in_system = || {
        let mut command = Command::new(kubectl);
        command
            .env("KUBECONFIG", kubeconfig)
            .args(["-n", SYSTEM_NAMESPACE]);
        command
    };
    step("the operator is available", || {
        run(in_system().args(["scale", &deployment, "--replicas=1"]))?;
        let status = run(in_system().args([
            "rollout",
            "status",
            &deployment,
            "--timeout",
            OPERATOR_TIMEOUT,
        ]));
        status.map(drop).with_context(|| {
            let pods = run(in_system().args(["get", "pods", "-o", "wide"]));
            let logs = run(in_system().args(["logs", &deployment, "--tail=30"]));
            format!(
                "the operator does not start\n{}\n{}",
                pods.unwrap_or_default(),
                logs.unwrap_or_default()
            )
        })
    })
}

fn chart() -> Result<PathBuf> {
    Ok(repository::root()?.join("charts/percolate"))
}

/// The images of the programs as they are, packed anew only when a program changed.
fn packed_images() -> Result<Images> {
    let programs: Vec<PathBuf> = ["percolate", "percolate-operator"]
        .iter()
        .map(|name| image::program(name))
        .collect::<Result<_>>()?;
    let record = crate::cluster::layout::cache()?.join("images/packed");
    let fingerprint = fingerprint(&programs)?;
    if let Some(images) = recorded_images(&record, &fingerprint) {
        return Ok(images);
    }
    let images = image::build(false)?;
    let lines = [&images.node, &images.operator]
        .map(|image| format!("{} {}", image.reference, image.archive.display()));
    fs::write(&record, format!("{}\n{fingerprint}", lines.join("\n")))?;
    Ok(images)
}

fn recorded_images(record: &Path, fingerprint: &str) -> Option<Images> {
    let text = fs::read_to_string(record).ok()?;
    let mut lines = text.splitn(3, '\n');
    let mut image = || {
        let (reference, archive) = lines.next()?.split_once(' ')?;
        let archive = PathBuf::from(archive);
        archive.is_file().then(|| BuiltImage {
            reference: reference.to_owned(),
            archive,
        })
    };
    let images = Images {
        node: image()?,
        operator: image()?,
    };
    (lines.next()? == fingerprint).then_some(images)
}

/// Size and time of every file there: enough to see that one changed, without reading it.
fn fingerprint(roots: &[PathBuf]) -> Result<String> {
    let mut found = roots.to_vec();
    let mut text = String::new();
    while let Some(path) = found.pop() {
        let metadata = fs::metadata(&path)
            .with_context(|| format!("{} is not there: run `make build`", path.display()))?;
        if metadata.is_dir() {
            let mut entries = fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>>>()?;
            entries.sort();
            found.extend(entries);
            continue;
        }
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {modified}", path.display(), metadata.len());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_new_file_changes_the_fingerprint() {
        let directory = tempfile::tempdir().unwrap();
        let roots = [directory.path().to_owned()];
        fs::write(directory.path().join("a"), "1").unwrap();
        let first = fingerprint(&roots).unwrap();
        assert_eq!(fingerprint(&roots).unwrap(), first);
        fs::write(directory.path().join("a"), "12").unwrap();
        let second = fingerprint(&roots).unwrap();
        assert_ne!(first, second);
        fs::write(directory.path().join("b"), "").unwrap();
        assert_ne!(fingerprint(&roots).unwrap(), second);
    }

    #[test]
    fn a_missing_program_is_told_with_what_to_do() {
        let error = fingerprint(&[PathBuf::from("/nowhere/percolate")]).unwrap_err();
        assert!(error.to_string().contains("make build"), "{error}");
    }

    #[test]
    fn packed_images_are_used_again_only_for_the_same_programs() {
        let directory = tempfile::tempdir().unwrap();
        let (record, archive) = (
            directory.path().join("packed"),
            directory.path().join("a.tar"),
        );
        fs::write(&archive, "").unwrap();
        let line = format!("example.local/a:1 {}", archive.display());
        fs::write(&record, format!("{line}\n{line}\nx 1 2\ny 3 4\n")).unwrap();
        let images = recorded_images(&record, "x 1 2\ny 3 4\n").unwrap();
        assert_eq!(images.node.reference, "example.local/a:1");
        assert_eq!(recorded_images(&record, "x 1 3\n"), None);
        fs::remove_file(&archive).unwrap();
        assert_eq!(recorded_images(&record, "x 1 2\ny 3 4\n"), None);
    }
}
