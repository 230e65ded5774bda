//! SHA-256 as the lower-case hex that file names and OCI descriptors are written in.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{Context, SHA256};

const READ_BUFFER: usize = 1 << 20;

/// Of several pieces, as if they were one.
pub(crate) fn of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(piece);
    }
    finish(context)
}

/// Of a file of any size.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let mut context = Context::new(&SHA256);
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(finish(context)),
            count => context.update(&buffer[..count]),
        }
    }
}

fn finish(context: Context) -> String {
    let mut hex = String::new();
    for byte in context.finish().as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_files_have_the_digest_that_sha256sum_prints() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_pieces([&b"a"[..], b"bc"]), expected);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "abc").expect("written");
        assert_eq!(of_file(file.path()).expect("readable"), expected);
    }
}
