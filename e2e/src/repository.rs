//! Where the repository lies. Asked when a program runs and not when it is compiled: clones of a
//! machine share their compiled programs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What the root of the repository holds and no folder above or below it.
const MARK: &str = "charts/percolate/Chart.yaml";

/// The root of the repository that the working directory lies in.
pub(crate) fn root() -> Result<PathBuf> {
    let from = std::env::current_dir().context("the working directory is gone")?;
    let found = from.ancestors().find(|folder| folder.join(MARK).is_file());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "{} does not lie in a clone of the repository: change to one and try again",
            from.display()
        )
    })
}
