//! Images without a container engine.
//!
//! ```text
//! Debian packages ─► rootfs ─► base layer ─┬─► percolate-node:<hash>      (percolate)
//! cargo's programs, stripped ──► own layer ┴─► percolate-operator:<hash>  (percolate-operator)
//!                  └─► busybox ───────────┴─► busybox:1 (volumes), pause:1 (a pod's namespaces)
//! ```
//!
//! Our images are tagged by content, so that a changed program is a new image and an unchanged one is
//! not loaded again. `e2e/image/Containerfile` makes the same images where there is an engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use self::oci::{Image, Layer, Start};
use crate::cluster::layout::cache;
use crate::command::{line, run, system};
use crate::progress::{say, step};
use crate::repository;

mod oci;
mod rootfs;

/// A shell and small tools, loaded into every node; the provisioner of volumes runs it.
pub const BUSYBOX: &str = "percolate.local/busybox:1";
/// Holds the namespaces of every pod.
pub const PAUSE: &str = "percolate.local/pause:1";
/// Archives of one image that are kept: the current one, and two to go back to.
const KEPT_ARCHIVES: usize = 3;
/// Waits for ever and ends at once when told to; `wait` also buries children that were left to it.
const PAUSE_SCRIPT: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait; done";

/// An image and the file it can be loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its full name with tag.
    pub reference: String,
    /// Its OCI archive.
    pub archive: PathBuf,
}

/// The images of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// With `percolate`.
    pub node: BuiltImage,
    /// With `percolate-operator`.
    pub operator: BuiltImage,
}

/// Compiles the programs (if `compile`) and packs them.
pub fn build(compile: bool) -> Result<Images> {
    let programs = programs_directory()?;
    if compile {
        cargo_build()?;
    }
    Ok(Images {
        node: pack(&programs, "percolate-node", "percolate")?,
        operator: pack(&programs, "percolate-operator", "percolate-operator")?,
    })
}

/// The archives that every node needs before its first pod.
pub fn first_images() -> Result<Vec<PathBuf>> {
    let directory = archives()?;
    let images: [(&str, &[&str]); 2] = [
        (BUSYBOX, &["/bin/sh"]),
        (PAUSE, &["/bin/sh", "-c", PAUSE_SCRIPT]),
    ];
    let layers = [rootfs::base()?, rootfs::busybox()?];
    let mut written = Vec::new();
    for (reference, entrypoint) in images {
        let archive = directory.join(file_name(reference));
        let image = Image {
            layers: &layers,
            start: Start {
                entrypoint,
                user: "",
            },
        };
        image.write(reference, &archive)?;
        written.push(archive);
    }
    Ok(written)
}

/// The archive that `image` means: a file, or the full name of an image that [`build`] made.
pub fn find_archive(image: &str) -> Result<PathBuf> {
    let file = PathBuf::from(image);
    if file.is_file() {
        return Ok(file);
    }
    let archive = archives()?.join(file_name(image));
    if archive.is_file() {
        return Ok(archive);
    }
    bail!("{image} is neither an image archive nor an image that `percolate-e2e image build` made");
}

/// Where cargo puts a program of ours.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(programs_directory()?.join(name))
}

fn pack(programs: &Path, image_name: &str, program: &str) -> Result<BuiltImage> {
    step(&format!("{image_name} is packed"), || {
        let base = rootfs::base()?;
        let own = program_layer(&programs.join(program), program)?;
        let entrypoint = format!("/usr/local/bin/{program}");
        let start = Start {
            entrypoint: &[&entrypoint],
            user: rootfs::USER,
        };
        let layers = [base, own];
        let image = Image {
            layers: &layers,
            start,
        };
        let reference = format!("percolate.local/{image_name}:{}", image.content_tag());
        let archive = archives()?.join(file_name(&reference));
        if archive.exists() {
            fs::File::open(&archive)?.set_modified(SystemTime::now())?;
        } else {
            image.write(&reference, &archive)?;
        }
        fs::remove_file(layers[1].file())?;
        remove_old_archives(image_name)?;
        Ok(BuiltImage { reference, archive })
    })
}

fn program_layer(program: &Path, name: &str) -> Result<Layer> {
    if !program.is_file() {
        bail!(
            "{} is not there: build it first, or leave out --no-compile",
            program.display()
        );
    }
    let layers = archives()?.join("layers");
    fs::create_dir_all(&layers)?;
    let root = tempfile::tempdir_in(&layers)?;
    let directory = root.path().join("root");
    fs::create_dir_all(directory.join("usr/local/bin"))?;
    let packed = directory.join("usr/local/bin").join(name);
    run(system("strip").arg("-o").arg(&packed).arg(program))?;
    Layer::pack(&directory, &layers)
}

fn cargo_build() -> Result<()> {
    let mut command = Command::new("nice");
    command
        .args([
            "cargo",
            "build",
            "--package",
            "percolate-node",
            "--package",
            "percolate-operator",
        ])
        .current_dir(repository::root()?);
    say(&format!("  {}", line(&command)));
    // Its own progress goes straight to the terminal.
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the programs do not build");
    }
    Ok(())
}

fn programs_directory() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let metadata = run(Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(repository::root()?))?;
    Ok(serde_json::from_str::<Metadata>(&metadata)?
        .target_directory
        .join("debug"))
}

fn remove_old_archives(image_name: &str) -> Result<()> {
    let prefix = format!("{image_name}-");
    let mut found = Vec::new();
    for entry in fs::read_dir(archives()?)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort();
    let surplus = found.len().saturating_sub(KEPT_ARCHIVES);
    for (_, archive) in found.into_iter().take(surplus) {
        fs::remove_file(archive)?;
    }
    Ok(())
}

fn archives() -> Result<PathBuf> {
    let directory = cache()?.join("images");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// `percolate.local/percolate-node:abc` lies in `percolate-node-abc.tar`.
fn file_name(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    format!("{}.tar", name.replace(':', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_named_after_its_image() {
        assert_eq!(
            file_name("percolate.local/percolate-node:abc"),
            "percolate-node-abc.tar"
        );
    }

    #[test]
    fn what_is_no_image_is_refused_with_a_sentence() {
        let error = find_archive("percolate.local/nothing:0").expect_err("there is none");
        assert!(
            error.to_string().contains("percolate-e2e image build"),
            "{error}"
        );
    }
}
