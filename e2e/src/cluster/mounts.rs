//! What is mounted, read from the kernel, and how to unmount all that a cluster left.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where.
    pub(super) point: PathBuf,
    /// What kind, for instance `cgroup2`.
    pub(super) file_system: String,
    /// Options of the file system, for instance `rw,memory`.
    pub(super) options: String,
}

/// Everything mounted, in the order of mounting.
pub(super) fn mounts() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read what is mounted")?;
    Ok(text.lines().filter_map(parse).collect())
}

/// Unmounts everything below `directory`.
///
/// # Errors
/// When something stays mounted: the caller must then not delete below `directory`, it might delete
/// what was mounted there.
pub(super) fn unmount_below(directory: &Path) -> Result<()> {
    // The last mounted first: it may lie on an earlier one.
    for mount in below(directory)?.into_iter().rev() {
        unmount(&mount.point, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", mount.point.display()))?;
    }
    let left = below(directory)?;
    if let Some(mount) = left.first() {
        bail!("{} is still mounted", mount.point.display());
    }
    Ok(())
}

fn below(directory: &Path) -> Result<Vec<Mount>> {
    let mut mounts = mounts()?;
    mounts.retain(|mount| mount.point.starts_with(directory));
    Ok(mounts)
}

fn parse(line: &str) -> Option<Mount> {
    const POINT: usize = 4;
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    Some(Mount {
        point: PathBuf::from(unescape(place.split(' ').nth(POINT)?)),
        file_system: kind.next()?.to_owned(),
        options: kind.nth(1)?.to_owned(),
    })
}

/// The kernel writes these four characters of a path in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_place_kind_and_options_with_or_without_optional_fields() {
        for (line, point, file_system, options) in [
            (
                "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
                "/sys/fs/cgroup/cpu",
                "cgroup",
                "rw,cpu",
            ),
            (
                "40 1 8:1 /a /with\\040space rw shared:1 master:2 - ext4 /dev/vda rw",
                "/with space",
                "ext4",
                "rw",
            ),
        ] {
            let mount = parse(line).expect("a valid line");
            let expected = Mount {
                point: point.into(),
                file_system: file_system.into(),
                options: options.into(),
            };
            assert_eq!(mount, expected);
        }
    }

    #[test]
    fn this_machines_mounts_can_be_read() {
        let mounts = mounts().expect("readable");
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/proc")));
    }
}
