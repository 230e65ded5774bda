//! The rules of the house, checked so that nobody has to remember them: short files and functions,
//! names that say something, a head on every module, dependencies in one direction, a pure core,
//! and documents that name only files which exist. Needs no cluster.
//!
//! Each rule is a function from text to complaints, so that it can be seen to fail (`rules_of_*`);
//! the tests below apply it to the whole tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file longer than this has more than one subject.
const FILE_LINES: usize = 600;
/// What fits on one screen is read in one go.
const FUNCTION_LINES: usize = 70;
/// Names under which anything could be filed, and in time is.
const EMPTY_NAMES: [&str; 10] = [
    "util", "utils", "helper", "helpers", "common", "types", "misc", "shared", "stuff", "mod",
];
/// Each crate and those of ours it may depend on.
const DIRECTION: [(&str, &[&str]); 6] = [
    ("percolate-crds", &[]),
    ("percolate-core", &[]),
    ("percolate-api", &["percolate-core"]),
    (
        "percolate-node",
        &["percolate-api", "percolate-core", "percolate-crds"],
    ),
    ("percolate-operator", &["percolate-api", "percolate-crds"]),
    (
        "percolate-e2e",
        &["percolate-api", "percolate-core", "percolate-crds"],
    ),
];
/// All that the core may use: nothing here can read a clock, a disk, a socket or chance.
const PURE: [&str; 4] = ["blake3", "serde", "serde_json", "thiserror"];
const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

#[test]
fn files_are_short() {
    code_everywhere(long_file);
}

#[test]
fn functions_are_short() {
    code_everywhere(long_functions);
}

#[test]
fn names_say_something() {
    everywhere(|path, _| empty_name(path));
}

#[test]
fn every_module_has_a_head() {
    everywhere(|path, text| {
        let belongs_to_a_module_with_a_head =
            is_tests(path) && path.iter().any(|part| part == "src");
        if belongs_to_a_module_with_a_head {
            vec![]
        } else {
            missing_head(text)
        }
    });
}

#[test]
fn crates_depend_in_one_direction() {
    let complaints: Vec<_> = our_dependencies()
        .into_iter()
        .filter(|(krate, dependency, _)| {
            dependency.starts_with("percolate-") && !may_depend(krate, dependency)
        })
        .map(|(krate, dependency, _)| format!("{krate} must not depend on {dependency}"))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let impure: Vec<_> = our_dependencies()
        .into_iter()
        .filter(|(krate, name, kind)| {
            krate == "percolate-core" && kind != "dev" && !PURE.contains(&name.as_str())
        })
        .map(|(_, name, _)| name)
        .collect();
    assert!(
        impure.is_empty(),
        "percolate-core must stay pure, but depends on {}",
        impure.join(", ")
    );
}

#[test]
fn documents_name_files_that_exist() {
    let complaints: Vec<_> = DOCUMENTS
        .iter()
        .filter_map(|name| Some((name, fs::read_to_string(root().join(name)).ok()?)))
        .flat_map(|(name, text)| {
            let gone = named_files(&text)
                .into_iter()
                .filter(|file| !root().join(file).exists());
            gone.map(move |file| format!("{name} names {file}, which does not exist"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_table_of_faults_names_tests_that_exist() {
    let table = fs::read_to_string(root().join("docs/fault-coverage.md")).expect("a table");
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = table.lines().map(cells).collect();
    let rows = rows
        .iter()
        .filter(|row| row.len() == 5 && row[1].starts_with('F'));
    let mut complaints = vec![];
    let mut covered = BTreeSet::new();
    for row in rows {
        covered.insert(row[1].clone());
        for (test, file) in row[2].split(", ").zip(row[3].split(", ")) {
            let file = file.trim_matches('`').split('`').next().unwrap_or_default();
            let (test, file) = (test.trim_matches('`'), root().join(file));
            let source = fs::read_to_string(&file).unwrap_or_default();
            if test != "–" && !source.contains(&format!("fn {test}(")) {
                complaints.push(format!("{}: {} has no test {test}", row[1], file.display()));
            }
        }
    }
    complaints.extend(
        (1..=36)
            .map(|number| format!("F{number}"))
            .filter(|name| !covered.contains(name)),
    );
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn rules_of_length_complain() {
    let long_body = format!(
        "fn f(\n    a: u8,\n) {{\n{}}}\n",
        "    a;\n".repeat(FUNCTION_LINES)
    );
    let in_impl = format!(
        "impl A {{\n    pub async fn g() {{\n{}    }}\n}}\n",
        "        a;\n".repeat(FUNCTION_LINES)
    );
    let only_declared = "fn f() {}\ntrait T {\n    fn g(\n    );\n}\n";
    let tests_at_the_end = format!(
        "fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "\n".repeat(FILE_LINES)
    );
    check([
        ("a long file", long_file(&"\n".repeat(FILE_LINES + 1)), 1),
        (
            "a file at the limit",
            long_file(&"\n".repeat(FILE_LINES)),
            0,
        ),
        (
            "a long file of tests",
            long_file(without_tests(&tests_at_the_end)),
            0,
        ),
        ("a long function", long_functions(&long_body), 1),
        ("a long method", long_functions(&in_impl), 1),
        (
            "one-liners and declarations",
            long_functions(only_declared),
            0,
        ),
    ]);
}

#[test]
fn rules_of_names_complain() {
    let files_of = |text| named_files(text).into_iter().collect();
    check([
        (
            "a file named for nothing",
            empty_name(Path::new("node/src/utils.rs")),
            1,
        ),
        (
            "a folder named for nothing",
            empty_name(Path::new("node/src/common/oplog.rs")),
            1,
        ),
        (
            "a mod.rs",
            empty_name(Path::new("node/src/store/mod.rs")),
            1,
        ),
        (
            "a named file",
            empty_name(Path::new("node/src/store/oplog.rs")),
            0,
        ),
        ("no head", missing_head("use std::fs;\n"), 1),
        ("a head", missing_head("//! Owns the log.\n"), 0),
        (
            "files in a document",
            files_of("see `crds/src/lib.rs`, `make`, [x](docs/a.md#b)"),
            2,
        ),
    ]);
    assert!(may_depend("percolate-api", "percolate-core"));
    assert!(!may_depend("percolate-core", "percolate-api"));
}

/// (case, what the rule said, how many complaints were due).
fn check<const N: usize>(cases: [(&str, Vec<String>, usize); N]) {
    for (name, complaints, expected) in cases {
        assert_eq!(complaints.len(), expected, "{name}: {complaints:?}");
    }
}

/// Applies a rule to code, not to its tests: cases are data, and may be many.
fn code_everywhere(rule: impl Fn(&str) -> Vec<String>) {
    everywhere(|path, text| {
        if is_tests(path) {
            vec![]
        } else {
            rule(without_tests(text))
        }
    });
}

fn is_tests(path: &Path) -> bool {
    path.iter()
        .any(|part| part == "tests" || part == "tests.rs")
}

/// Applies a rule to every Rust file of ours and fails with all complaints at once.
fn everywhere(rule: impl Fn(&Path, &str) -> Vec<String>) {
    let files = sources();
    assert!(
        files.len() > DIRECTION.len(),
        "found only {} source files: is this the workspace?",
        files.len()
    );
    let complaints: Vec<_> = files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(root().join(path)).expect("a source file is UTF-8");
            rule(path, &text)
                .into_iter()
                .map(|complaint| format!("{}: {complaint}", path.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn long_file(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > FILE_LINES {
        vec![format!(
            "{lines} lines, at most {FILE_LINES}: split it by subject"
        )]
    } else {
        vec![]
    }
}

/// What stands before the tests module, which comes last by convention.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {")
        .map_or(text, |end| &text[..end])
}

fn long_functions(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| {
            let name = function_name(line)?;
            let length = function_length(&lines[at..]);
            let complaint = || {
                format!(
                    "line {}: fn {name} has {length} lines, at most {FUNCTION_LINES}",
                    at + 1
                )
            };
            (length > FUNCTION_LINES).then(complaint)
        })
        .collect()
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let qualifier = |word: &&str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\""].contains(word)
    };
    if words.by_ref().find(|word| !qualifier(word))? != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

/// Lines from a function's first to its last. Relies on rustfmt: a body closes at the indentation it began at.
fn function_length(lines: &[&str]) -> usize {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let own = indentation(lines[0]);
    if lines[0].ends_with(['}', ';']) {
        return 1;
    }
    let closes = |line: &&str| {
        indentation(line) == own
            && (line.trim_start().starts_with('}') || line.ends_with([';', '}']))
    };
    lines
        .iter()
        .skip(1)
        .position(closes)
        .map_or(lines.len(), |offset| offset + 2)
}

fn empty_name(path: &Path) -> Vec<String> {
    path.with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .filter(|part| EMPTY_NAMES.contains(&part.as_str()))
        .map(|part| format!("'{part}' names no thing of the domain"))
        .collect()
}

fn missing_head(text: &str) -> Vec<String> {
    if text.starts_with("//! ") {
        vec![]
    } else {
        vec!["begins without a //! head that says what it owns".to_owned()]
    }
}

fn may_depend(krate: &str, dependency: &str) -> bool {
    DIRECTION
        .iter()
        .any(|(name, allowed)| *name == krate && allowed.contains(&dependency))
}

/// Paths in backticks and relative links of a Markdown text.
fn named_files(text: &str) -> BTreeSet<String> {
    let known = ["rs", "proto", "yaml", "toml", "md", "json", "sh"];
    let is_file = |name: &str| {
        let plain = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        plain
            && name.contains('/')
            && Path::new(name)
                .extension()
                .is_some_and(|e| known.iter().any(|k| e == *k))
    };
    let quoted = text.split('`').skip(1).step_by(2);
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next());
    quoted
        .chain(linked)
        .filter(|name| is_file(name))
        .map(str::to_owned)
        .collect()
}

/// (crate, dependency, kind: normal, dev or build) of the workspace's own manifests.
fn our_dependencies() -> Vec<(String, String, String)> {
    let arguments = [
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("normal").to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .flat_map(|package| {
            let of = |dependency: &serde_json::Value| {
                (
                    text(&package["name"]),
                    text(&dependency["name"]),
                    text(&dependency["kind"]),
                )
            };
            list(&package["dependencies"])
                .iter()
                .map(of)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Every Rust file of ours, relative to the root.
fn sources() -> Vec<PathBuf> {
    let mut folders: Vec<_> = ["crds", "node", "operator", "e2e"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    let mut files = vec![];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of the workspace")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(
                    path.strip_prefix(root())
                        .expect("below the root")
                        .to_owned(),
                );
            }
        }
    }
    files.sort();
    files
}

/// Tests run in the folder of their crate, which lies in the workspace.
fn root() -> &'static Path {
    Path::new("..")
}
