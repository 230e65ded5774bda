//! What a process takes for its clock and for its disk's syncs: the test's end of `shim.c`, which the
//! C compiler that RocksDB needs anyway compiles once in a run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static LIBRARY: OnceLock<PathBuf> = OnceLock::new();

/// The wishes of one process, kept over its restarts.
pub(crate) struct Shim {
    path: PathBuf,
    wishes: File,
}

/// One of the fields in `shim.c`, by its place.
#[derive(Clone, Copy)]
enum Wish {
    AheadSeconds,
    RateThousandths,
    SyncsHang,
    Hanging,
}

impl Shim {
    /// One that changes nothing, in a new file at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        fs::write(&path, [0; 4 * 8]).expect("writable");
        let wishes = File::options().read(true).write(true).open(&path);
        Self {
            wishes: wishes.expect("just written"),
            path,
        }
    }

    /// What makes a program obey.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        let library = LIBRARY.get_or_init(compiled);
        [
            ("LD_PRELOAD", library.clone()),
            ("PERCOLATE_SHIM", self.path.clone()),
        ]
    }

    /// Put the wall clock so far ahead, or back.
    pub(crate) fn set_wall_clock(&self, ahead_seconds: i64) {
        self.set(Wish::AheadSeconds, ahead_seconds);
    }

    /// How fast all clocks run, in thousandths. Only before the process starts: the monotonic one
    /// would not be.
    pub(crate) fn set_rate(&self, thousandths: i64) {
        self.set(Wish::RateThousandths, thousandths);
    }

    /// Whether syncs of files hang from now on.
    pub(crate) fn set_syncs_hang(&self, hang: bool) {
        self.set(Wish::SyncsHang, i64::from(hang));
    }

    /// How many syncs hang, or have hung.
    pub(crate) fn hanging(&self) -> i64 {
        let mut bytes = [0; 8];
        let read = self.wishes.read_exact_at(&mut bytes, at(Wish::Hanging));
        read.expect("readable");
        i64::from_ne_bytes(bytes)
    }

    fn set(&self, wish: Wish, value: i64) {
        let written = self.wishes.write_all_at(&value.to_ne_bytes(), at(wish));
        written.expect("writable");
    }
}

fn at(wish: Wish) -> u64 {
    wish as u64 * 8
}

fn compiled() -> PathBuf {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("percolate-shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/shim.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .status();
    let is_compiled = status.expect("cc, of a C compiler, is there").success();
    assert!(is_compiled, "cc compiles {}", source.display());
    library
}
