//! Reads the store's files again, though nobody asks for what is in them, and finds bytes that have
//! changed since.
//!
//! ```text
//! live files ─▶ each byte read ─▶ hash ─▶ first time: written down ─▶ store/verified
//!                                         later: equal, or damaged
//! ```
//! The engine's files never change once they are written, so a hash of the whole file says more than
//! the checksums of its blocks, costs no decompression, and leaves the engine's cache alone. What a
//! checksum was right about when it was first read, but is not what was applied, a recount finds
//! ([`super::state_hash`]). The write-ahead log is not read: the engine checks it at every opening,
//! and what is in it goes into files soon.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::error::StoreError;
use super::replacing::DATABASE;
use super::{Store, oplog};
use crate::fault::{Fault, Found};

/// Read at once: few wakeups at a low rate, and no memory worth mentioning.
const CHUNK_BYTES: usize = 1 << 20;

/// Where the hashes stand, in the database's directory: they go where its files go.
const VERIFIED: &str = "verified";

/// Entries read at once when the whole log is examined.
const LOG_BYTES: usize = 1 << 20;

/// What each file was when it was first read.
#[derive(Debug, Default)]
pub struct Verified(BTreeMap<String, blake3::Hash>);

/// What one pass over all files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All files are as they were when they were first read.
    Whole {
        /// Bytes read.
        bytes: u64,
    },
    /// It was told to end early.
    Ended,
}

impl Store {
    /// What earlier processes have written down of this store's files.
    pub fn verified(&self) -> Verified {
        Verified::read(&self.verified_path())
    }

    /// Reads every file of the engine and compares it with what it was. `pace` is told how many bytes
    /// were read; it may wait, and ends the pass by saying no. With `from_medium` the kernel's cache is
    /// passed by, so that bytes are seen which went wrong on the disk alone.
    ///
    /// Damage stops the store, as damage does wherever it is found.
    pub fn scrub(
        &self,
        verified: &mut Verified,
        from_medium: bool,
        mut pace: impl FnMut(usize) -> bool,
    ) -> Result<Pass, Found> {
        let mut known = BTreeMap::new();
        let mut bytes = 0;
        for name in self.live_files()? {
            let path = self.directory.join(DATABASE).join(&name);
            let mut counted = |read: usize| {
                bytes += read as u64;
                pace(read)
            };
            let hash = match hash_of(&path, from_medium, &mut counted) {
                Ok(Some(hash)) => hash,
                Ok(None) => return Ok(Pass::Ended),
                // Compacted away since it was listed; or it is gone, and still counted on.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.live_files()?.contains(&name) {
                        return Err(self.damaged(&name, "is gone"));
                    }
                    continue;
                }
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(self.damaged(&name, &format!("cannot be read: {error}"))),
            };
            if verified.0.get(&name).is_some_and(|first| *first != hash) {
                return Err(self.damaged(&name, "is not as it was written"));
            }
            known.insert(name, hash);
        }
        if known != verified.0 {
            verified.0 = known;
            if let Err(error) = verified.write(&self.verified_path()) {
                // After the next start the files are taken as they are then.
                tracing::debug!(%error, "cannot write down what was verified");
            }
        }
        Ok(Pass::Whole { bytes })
    }

    /// Reads everything there is: files, items, the log. For a store that is suspected of damage.
    pub fn examine(&self, mut pace: impl FnMut(usize) -> bool) -> Result<(), Found> {
        self.scrub(&mut self.verified(), true, &mut pace)?;
        let blamed = |error: StoreError| {
            let fault = error.fault().unwrap_or(Fault::Damaged);
            Found::new(fault, &error)
        };
        self.recount(&mut pace).map_err(blamed)?;
        let durable = self.durable();
        let mut head = durable.base;
        while head.index < durable.last.index {
            for entry in oplog::read(&self.db, head.index + 1, LOG_BYTES).map_err(blamed)? {
                if !entry.follows(head) {
                    return Err(blamed(StoreError::Broken {
                        index: entry.head.index,
                        last: head.index,
                    }));
                }
                head = entry.head;
                pace(entry.payload.len());
            }
        }
        Ok(())
    }

    /// The engine's immutable files, as they are counted on now.
    fn live_files(&self) -> Result<Vec<String>, Found> {
        let files = self
            .db
            .live_files()
            .map_err(StoreError::reading("list its files"))
            .map_err(|error| {
                let found = Found::new(error.fault().unwrap_or(Fault::DiskFailed), &error);
                self.report(found.clone());
                found
            })?;
        let names = files.into_iter().map(|file| file.name);
        Ok(names
            .map(|name| name.trim_start_matches('/').to_owned())
            .collect())
    }

    fn damaged(&self, name: &str, what: &str) -> Found {
        let found = Found {
            fault: Fault::Damaged,
            what: format!("the file {name} {what}"),
        };
        self.report(found.clone());
        found
    }

    fn verified_path(&self) -> PathBuf {
        self.directory.join(DATABASE).join(VERIFIED)
    }
}

impl Verified {
    /// What stands in the file at `path`: nothing, if it is not there or not whole.
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        Self::parse(&text).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let (lines, seal) = text.trim_end().rsplit_once('\n')?;
        if blake3::hash(lines.as_bytes()).to_hex().as_str() != seal {
            return None;
        }
        let file = |line: &str| {
            let (name, hash) = line.split_once(' ')?;
            Some((name.to_owned(), blake3::Hash::from_hex(hash).ok()?))
        };
        lines.lines().map(file).collect::<Option<_>>().map(Self)
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (name, hash) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {}", hash.to_hex());
        }
        let lines = text.trim_end();
        format!("{lines}\n{}\n", blake3::hash(lines.as_bytes()).to_hex())
    }

    /// Not synced: a file that is not whole after a crash is seen not to be.
    fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("new");
        fs::write(&draft, self.render())?;
        fs::rename(&draft, path)
    }
}

/// The hash of the file at `path`; `None` if `pace` said no.
fn hash_of(
    path: &Path,
    from_medium: bool,
    pace: &mut impl FnMut(usize) -> bool,
) -> io::Result<Option<blake3::Hash>> {
    let mut file = File::open(path)?;
    if from_medium {
        // Where that does not help, as in memory, the bytes are those the kernel has.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(Some(hasher.finalize()));
        }
        hasher.update(&chunk[..read]);
        if !pace(read) {
            return Ok(None);
        }
    }
}

/// Whether an error says nothing of the file.
fn is_passing(error: &io::Error) -> bool {
    const TOO_MANY_OPEN: [i32; 2] = [23, 24];
    error
        .raw_os_error()
        .is_some_and(|code| TOO_MANY_OPEN.contains(&code))
        || error.kind() == io::ErrorKind::OutOfMemory
        || error.kind() == io::ErrorKind::Interrupted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_reads_back_unless_a_byte_of_it_is_wrong() {
        for files in [0, 1, 3] {
            let names = (0..files).map(|n| (format!("{n:06}.sst"), blake3::hash(&[n])));
            let verified = Verified(names.collect());
            let text = verified.render();
            assert_eq!(Verified::parse(&text).unwrap().0, verified.0, "{text}");
            for position in 0..text.len().saturating_sub(1) {
                let mut damaged = text.clone().into_bytes();
                damaged[position] ^= 1;
                let damaged = String::from_utf8(damaged).unwrap();
                let read = Verified::parse(&damaged);
                assert!(
                    read.is_none_or(|read| read.0 == verified.0),
                    "byte {position} of {text}"
                );
            }
        }
    }
}
