//! Root directories of images, made from Debian packages instead of pulled from a registry.
//!
//! [`base`] is what a distroless `cc` image holds: the C and C++ libraries, certificates, a user
//! that is not root. [`busybox`] is a shell with the small tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::oci::Layer;
use crate::cluster::layout::cache;
use crate::command::{run, system};
use crate::progress::step;

/// The user that the images run as, as in distroless images.
pub(super) const USER: &str = "65532:65532";
const BASE_PACKAGES: [&str; 4] = ["libc6", "libgcc-s1", "libstdc++6", "ca-certificates"];
/// What no program at run time reads.
const DISPENSABLE: [&str; 5] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/sbin",
];
/// What the shell image offers without the word `busybox` before it.
const TOOLS: [&str; 14] = [
    "cat", "chmod", "date", "echo", "grep", "id", "ls", "mkdir", "nc", "nslookup", "rm", "sh",
    "sleep", "wget",
];
const STICKY_WORLD_WRITABLE: u32 = 0o1777;

/// The layer under both of our images.
pub(super) fn base() -> Result<Layer> {
    cached_layer("base", |root| {
        unpack(&BASE_PACKAGES, root)?;
        for directory in DISPENSABLE {
            remove_if_there(&root.join(directory))?;
        }
        join_certificates(root)?;
        merge_usr(root)?;
        write_accounts(root)?;
        fs::create_dir_all(root.join("tmp"))?;
        fs::set_permissions(
            root.join("tmp"),
            fs::Permissions::from_mode(STICKY_WORLD_WRITABLE),
        )?;
        Ok(())
    })
}

/// The layer above [`base`] of the image that provisions volumes, and of the one that holds a pod's
/// namespaces. Not `busybox-static`: a static glibc program crashes when it resolves a name.
pub(super) fn busybox() -> Result<Layer> {
    cached_layer("busybox", |root| {
        let package = tempfile::tempdir()?;
        unpack(&["busybox"], package.path())?;
        let programs = root.join("usr/bin");
        fs::create_dir_all(&programs)?;
        // Newer releases have it below `usr`.
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| package.path().join(place));
        let program = places
            .iter()
            .find(|place| place.is_file())
            .context("no busybox in its package")?;
        fs::copy(program, programs.join("busybox"))?;
        for tool in TOOLS {
            symlink("busybox", programs.join(tool))?;
        }
        symlink("usr/bin", root.join("bin"))?;
        Ok(())
    })
}

/// Makes a layer once per Debian release and keeps it: only its name changes when a package does.
fn cached_layer(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Layer> {
    let layers = cache()?.join("images/layers");
    fs::create_dir_all(&layers)?;
    let pointer = layers.join(format!("{name}-{}", release()?));
    if let Ok(digest) = fs::read_to_string(&pointer)
        && let Ok(layer) = Layer::open(layers.join(digest))
    {
        return Ok(layer);
    }
    step(
        &format!("the {name} layer is made from Debian packages"),
        || {
            let root = tempfile::tempdir_in(&layers)?;
            let root = root.path().join("root");
            fs::create_dir(&root)?;
            make(&root)?;
            let layer = Layer::pack(&root, &layers)?;
            let digest = layer.file().file_name().unwrap_or_default();
            fs::write(&pointer, digest.as_encoded_bytes())?;
            Ok(layer)
        },
    )
}

/// The libraries must be at least as new as those the programs were linked with: this machine's.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot tell which Debian this is")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (field("ID"), field("VERSION_ID")) {
        (Some(id), Some(version)) => Ok(format!("{id}{version}-{}", std::env::consts::ARCH)),
        _ => bail!("/etc/os-release names no release"),
    }
}

fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    let downloads = tempfile::tempdir()?;
    // apt gives up its rights for downloads and complains when it then cannot write here.
    let download = || {
        run(system("apt-get")
            .current_dir(downloads.path())
            .args(["download", "--quiet", "-o", "APT::Sandbox::User=root"])
            .args(packages))
    };
    if download().is_err() {
        run(system("apt-get").args(["update", "--quiet"]))?;
        download().context(
            "images are made from Debian packages; elsewhere build e2e/image/Containerfile",
        )?;
    }
    for package in debian_packages(downloads.path())? {
        run(system("dpkg-deb").arg("--extract").arg(package).arg(root))?;
    }
    Ok(())
}

fn debian_packages(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut packages: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    packages.sort();
    Ok(packages)
}

/// The one file that TLS libraries read; on a real Debian the package's script makes it.
fn join_certificates(root: &Path) -> Result<()> {
    let mut certificates: Vec<PathBuf> =
        fs::read_dir(root.join("usr/share/ca-certificates/mozilla"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
    certificates.sort();
    let mut bundle = String::new();
    for certificate in certificates {
        bundle.push_str(&fs::read_to_string(certificate)?);
    }
    fs::create_dir_all(root.join("etc/ssl/certs"))?;
    fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), bundle)?;
    Ok(())
}

/// Newer releases pack everything below `usr` and leave the links to `base-files`.
fn merge_usr(root: &Path) -> Result<()> {
    for name in ["lib", "lib64"] {
        if root.join("usr").join(name).exists() && !root.join(name).exists() {
            symlink(Path::new("usr").join(name), root.join(name))?;
        }
    }
    Ok(())
}

fn write_accounts(root: &Path) -> Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(
        etc.join("passwd"),
        "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    )?;
    fs::write(etc.join("group"), "root:x:0:\nnonroot:x:65532:\n")?;
    // Without this file glibc asks DNS before /etc/hosts.
    fs::write(etc.join("nsswitch.conf"), "hosts: files dns\n")?;
    Ok(())
}

fn remove_if_there(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}
