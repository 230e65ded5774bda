//! What no copy of a whole replica can beat by much: its files through a TCP connection, from disk to disk.
//!
//! ```text
//! sender: reads file after file ─► loopback ─► receiver: writes each, syncs it
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::closed_loop::as_float;
use super::cores;

/// What the engine calls the files that it never changes once they are written.
const FINISHED: &str = "sst";

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct PlainCopy {
    /// How much.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) seconds: f64,
}

impl PlainCopy {
    /// Bytes per second.
    pub(super) fn per_second(self) -> f64 {
        as_float(self.bytes) / self.seconds
    }
}

/// Copies the finished files of the store in `data`, which may be in use, beside it, received on these `cores`;
/// nothing stays.
pub(super) fn measure(data: &Path, cores: Option<&str>) -> Result<PlainCopy> {
    let [links, copies] = ["plain-links", "plain-copies"].map(|name| data.with_file_name(name));
    for directory in [&links, &copies] {
        fs::create_dir_all(directory)?;
    }
    let files = link(data, &links)?;
    let made = copy(&files, &copies, cores);
    for directory in [&links, &copies] {
        fs::remove_dir_all(directory)?;
    }
    made
}

/// Links, because the engine removes files that it has merged into others.
fn link(from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let mut links = Vec::new();
    let mut directories = vec![from.to_owned()];
    while let Some(directory) = directories.pop() {
        for found in fs::read_dir(&directory)? {
            let path = found?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == FINISHED) {
                let link = to.join(format!("{}", links.len()));
                fs::hard_link(&path, &link)
                    .with_context(|| format!("cannot link {}", path.display()))?;
                links.push(link);
            }
        }
    }
    Ok(links)
}

fn copy(files: &[PathBuf], to: &Path, cores: Option<&str>) -> Result<PlainCopy> {
    let sizes: Vec<u64> = files
        .iter()
        .map(|file| Ok(fs::metadata(file)?.len()))
        .collect::<Result<_>>()?;
    let bytes: u64 = sizes.iter().sum();
    ensure!(bytes > 0, "there is nothing to copy");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let taking = scope.spawn(|| {
            cores::stay_on(cores)?;
            receive(&sizes, &listener, to)
        });
        let sent = TcpStream::connect(address)
            .map_err(Into::into)
            .and_then(|stream| send(files, &stream));
        let taken = taking
            .join()
            .map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
        taken.and(sent)
    })?;
    Ok(PlainCopy {
        bytes,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn send(files: &[PathBuf], mut stream: &TcpStream) -> Result<()> {
    for file in files {
        io::copy(&mut File::open(file)?, &mut stream).context("cannot send a file")?;
    }
    Ok(())
}

fn receive(sizes: &[u64], listener: &TcpListener, to: &Path) -> Result<()> {
    let (stream, _) = listener.accept()?;
    for (number, bytes) in sizes.iter().enumerate() {
        let mut file = File::create(to.join(format!("{number}")))?;
        let copied = io::copy(&mut (&stream).take(*bytes), &mut file)?;
        ensure!(copied == *bytes, "the sender ended too early");
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_files_are_copied_whole_and_nothing_stays() {
        let place = tempfile::tempdir().expect("a place");
        let data = place.path().join("acme-0");
        fs::create_dir_all(data.join("store")).expect("created");
        for (name, bytes) in [("1.sst", 70_000), ("2.sst", 1), ("3.log", 99)] {
            fs::write(data.join("store").join(name), vec![b'x'; bytes]).expect("written");
        }
        let copied = measure(&data, None).expect("copied");
        assert_eq!(copied.bytes, 70_001);
        let left = fs::read_dir(place.path()).expect("readable").count();
        assert_eq!(left, 1, "only the data");
    }

    #[test]
    fn nothing_to_copy_is_no_figure() {
        let place = tempfile::tempdir().expect("a place");
        let data = place.path().join("acme-0");
        fs::create_dir_all(&data).expect("created");
        assert!(measure(&data, None).is_err());
    }
}
