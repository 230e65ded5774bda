//! The mark on a store that must not serve any more: a small file beside the database.
//!
//! JSON, for people too: `{"reason": "Damaged", "replica": "<32 hexadecimal digits>", "what": "…"}`.
//! A disk that cannot take it cannot be opened for writing either, so that it does not serve anyway.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use percolate_core::identity::ReplicaId;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Found};
use crate::store::aside;

/// The file, below the data directory.
const FILE: &str = "quarantined";
/// Where it is written before it counts.
const DRAFT: &str = "quarantined.new";

/// Why a store must not serve, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What is wrong with it.
    pub fault: Fault,
    /// The replica that it was; `None` if nobody could tell.
    pub replica: Option<ReplicaId>,
    /// What was seen.
    pub what: String,
}

#[derive(Serialize, Deserialize)]
struct Written {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    what: String,
}

impl Mark {
    /// The mark in `directory`. One that cannot be read counts as damage.
    pub fn read(directory: &Path) -> Option<Self> {
        let bytes = match fs::read(directory.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => Vec::new(),
        };
        let written: Option<Written> = serde_json::from_slice(&bytes).ok();
        let fault = written
            .as_ref()
            .and_then(|written| Fault::named(&written.reason));
        let replica = written
            .as_ref()
            .and_then(|written| written.replica.as_ref()?.parse().ok());
        Some(Self {
            fault: fault.unwrap_or(Fault::Damaged),
            replica: replica.or_else(|| aside::identity(directory)),
            what: written.map_or_else(
                || "the mark on the store cannot be read".to_owned(),
                |written| written.what,
            ),
        })
    }
}

/// Whether there is a mark in `directory`.
pub fn is_there(directory: &Path) -> bool {
    // What cannot be told counts as a mark: reading it then says what hinders.
    !matches!(directory.join(FILE).try_exists(), Ok(false))
}

/// Marks the store in `directory`, durably.
pub fn set(directory: &Path, found: &Found) -> io::Result<()> {
    let written = Written {
        reason: found.fault.reason().name.to_owned(),
        replica: aside::identity(directory).map(|replica| replica.to_string()),
        what: found.what.clone(),
    };
    let bytes = serde_json::to_vec(&written).map_err(io::Error::other)?;
    let mut draft = File::create(directory.join(DRAFT))?;
    draft.write_all(&bytes)?;
    draft.sync_all()?;
    fs::rename(directory.join(DRAFT), directory.join(FILE))?;
    File::open(directory)?.sync_all()
}

/// Takes the mark away.
pub fn lift(directory: &Path) -> io::Result<()> {
    fs::remove_file(directory.join(FILE))?;
    File::open(directory)?.sync_all()
}
