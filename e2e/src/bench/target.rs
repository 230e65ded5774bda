//! Where cargo puts what it builds.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cluster::layout::cache;

/// A program of the project, or an example (`examples/floor`), which `make build` has made.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let target = match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => cache()?.join("target"),
    };
    let program = target.join("debug").join(name);
    ensure!(
        program.is_file(),
        "{} is not built: run `make build` first",
        program.display()
    );
    Ok(program)
}
