//! `percolate-e2e`: brings up a local Kubernetes, makes images, loads them, plays the demo, measures.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use percolate_e2e::cluster::{Cluster, existing_kubeconfig};
use percolate_e2e::programs::{Addons, Kubernetes, helm};
use percolate_e2e::progress::say;
use percolate_e2e::{bench, demo, image, prerequisites};

/// A real Kubernetes on this machine, images for it, and the demonstration.
#[derive(Parser)]
#[command(name = "percolate-e2e", version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Install and build everything a cluster needs, without starting one
    Setup,
    /// The local cluster; with KUBECONFIG set to another one, that is used and left as it is
    #[command(subcommand)]
    Cluster(ClusterAction),
    /// Images without a container engine
    #[command(subcommand)]
    Image(ImageAction),
    /// A tenant's life: applied, filled, read, killed, failed over, scaled
    Demo {
        /// Folder of documents to import; default: the repository's Markdown
        folder: Option<PathBuf>,
    },
    /// Percolate measured: durable writes beside its peers, catch-up, bootstrap, memory, failover, idle
    Bench(BenchArguments),
}

#[derive(Args)]
struct BenchArguments {
    /// Seconds that are measured, per peer and number of clients
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of writing before that
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up: u64,
    /// Only what has one of these words in its name, for instance: writes (all the databases), redis,floor,
    /// catch-up, bootstrap, memory, failover, idle
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where data are written while it runs; the disk below it is what is measured
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Folder for the table, plots and raw results; what an earlier run wrote there is replaced
    #[arg(long)]
    write: Option<PathBuf>,
    #[command(flatten)]
    sizes: bench::Sizes,
}

#[derive(Subcommand)]
enum ClusterAction {
    /// Start the cluster, or check and heal the one that runs
    Up {
        /// Nodes, each in a network namespace of its own; 0 starts the control plane alone
        #[arg(long, default_value_t = 3)]
        nodes: u8,
    },
    /// Remove the cluster and everything that belongs to it
    Down,
    /// Load an image into every node: an archive, or a name that `image build` printed
    Load {
        /// File or name
        image: String,
    },
    /// Print the path of the kubeconfig
    Kubeconfig,
    /// Undo every fault: plug cables, resume stopped processes
    Heal,
}

#[derive(Subcommand)]
enum ImageAction {
    /// Compile and pack both images; prints `name=reference` lines
    Build {
        /// Pack the programs as they are
        #[arg(long)]
        no_compile: bool,
    },
}

fn main() -> ExitCode {
    // Before any TLS: with two providers compiled in, rustls refuses to choose by itself.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Arguments::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<()> {
    match action {
        Action::Setup => setup(),
        Action::Cluster(action) => match existing_kubeconfig()? {
            Some(kubeconfig) => existing_cluster(&action, &kubeconfig),
            None => local_cluster(&action),
        },
        Action::Demo { folder } => tokio::runtime::Runtime::new()
            .context("cannot start the runtime")?
            .block_on(demo::run_demo(folder.as_deref())),
        Action::Bench(arguments) => run_bench(arguments),
        Action::Image(ImageAction::Build { no_compile }) => {
            let images = image::build(!no_compile)?;
            print(&format!(
                "node={}\noperator={}",
                images.node.reference, images.operator.reference
            ))
        }
    }
}

fn run_bench(arguments: BenchArguments) -> Result<()> {
    let options = bench::Options {
        seconds: arguments.seconds,
        warm_up: arguments.warm_up,
        only: arguments.only,
        sizes: arguments.sizes,
        directory: arguments.directory,
        write: arguments.write,
    };
    let found = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")?
        .block_on(bench::run(&options))?;
    print(&found.table)?;
    if !found.problems.is_empty() {
        let problems = found.problems.join("; ");
        bail!("not everything could be measured: {problems}");
    }
    Ok(())
}

fn setup() -> Result<()> {
    prerequisites::ensure()?;
    Kubernetes::ready()?;
    Addons::ready()?;
    helm()?;
    image::first_images()?;
    say("everything is there; `percolate-e2e cluster up` starts a cluster");
    Ok(())
}

fn local_cluster(action: &ClusterAction) -> Result<()> {
    let cluster = Cluster::from_environment()?;
    match action {
        ClusterAction::Up { nodes } => {
            cluster.up(*nodes)?;
            say(&format!(
                "to use it: export KUBECONFIG={} PATH=$PATH:{}",
                cluster.kubeconfig().display(),
                cluster.programs().display()
            ));
            Ok(())
        }
        ClusterAction::Down => cluster.down(),
        ClusterAction::Load { image } => cluster.load_image(&image::find_archive(image)?),
        ClusterAction::Kubeconfig => print(&cluster.kubeconfig().display().to_string()),
        ClusterAction::Heal => cluster.heal(),
    }
}

fn existing_cluster(action: &ClusterAction, kubeconfig: &Path) -> Result<()> {
    let shown = kubeconfig.display();
    match action {
        ClusterAction::Up { .. } => {
            say(&format!(
                "KUBECONFIG is set: the cluster of {shown} is used, none is brought up"
            ));
            Ok(())
        }
        ClusterAction::Down => {
            say(&format!(
                "KUBECONFIG is set: the cluster of {shown} is left as it is"
            ));
            Ok(())
        }
        ClusterAction::Kubeconfig => print(&shown.to_string()),
        ClusterAction::Load { image } => bail!(
            "KUBECONFIG is set to {shown}, whose nodes this program cannot reach: \
             push {image} to a registry, or use your cluster's own command to load an archive"
        ),
        ClusterAction::Heal => {
            bail!("KUBECONFIG is set to {shown}: this program did no fault to it")
        }
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}
