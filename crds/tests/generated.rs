//! Files that are printed by `crdgen` and kept in the tree are those that it prints now.
//! `PERCOLATE_FIX=1` (which `make fix` sets) writes them instead.

use std::fs;
use std::path::Path;
use std::process::Command;

const CONDITIONS_HEAD: &str = "# Conditions of a PercolateTenant\n\n\
    Printed by `crdgen conditions` (`make fix`). Every type is present from the first reconcile on.\n\n";

#[test]
fn the_chart_holds_the_crds_of_the_code() {
    check("charts/percolate/files/crds.yaml", &crdgen(&[]));
}

#[test]
fn the_documents_hold_the_conditions_of_the_code() {
    let table = crdgen(&["conditions"]);
    check("docs/conditions.md", &format!("{CONDITIONS_HEAD}{table}"));
}

fn check(file: &str, printed: &str) {
    let path = Path::new("..").join(file); // tests run in the folder of their crate
    if std::env::var_os("PERCOLATE_FIX").is_some() {
        fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .expect("the folder can be made");
        fs::write(&path, printed).expect("the file can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = kept
        .lines()
        .zip(printed.lines())
        .position(|(kept, printed)| kept != printed);
    let line = differs.unwrap_or(kept.lines().count().min(printed.lines().count())) + 1;
    assert!(
        kept == printed,
        "{file} is out of date from line {line} on: run `make fix` and commit it"
    );
}

fn crdgen(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_crdgen"))
        .args(arguments)
        .output()
        .expect("crdgen runs");
    assert!(
        output.status.success(),
        "crdgen: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("crdgen prints UTF-8")
}
