//! Prints what the CRDs are generated from: `crdgen` the YAML of both, `crdgen conditions` the
//! documentation's table of condition reasons.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use kube::CustomResourceExt as _;
use percolate_crds::{PercolateReplication, PercolateTenant, conditions};

fn main() -> ExitCode {
    match print(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the last resort; there is nowhere to report its failure.
            let _ = writeln!(io::stderr(), "crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(what: Option<&str>) -> io::Result<()> {
    let text = match what {
        None => crds_yaml()?,
        Some("conditions") => conditions::markdown(),
        Some(other) => {
            return Err(io::Error::other(format!(
                "unknown argument {other:?} (usage: crdgen [conditions])"
            )));
        }
    };
    io::stdout().write_all(text.as_bytes())
}

fn crds_yaml() -> io::Result<String> {
    let mut text = String::new();
    for crd in [PercolateTenant::crd(), PercolateReplication::crd()] {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&crd).map_err(io::Error::other)?);
    }
    Ok(text)
}
