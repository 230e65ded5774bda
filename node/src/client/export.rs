//! `percolate export`: every item as a line of JSON that `import` takes back.
//!
//! Versions and times of change stay behind: they belong to the tenant's history, and an item that
//! is imported elsewhere begins another. Pages are read one after the other while others may write:
//! an item written meanwhile may be in the export or not, each item is whole.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use percolate_api::http::ItemView;
use serde_json::Value;

use super::api::Api;
use super::error::ClientError;
use super::printer::note;
use super::reading::Pages;
use crate::cli::{Export, Kind};

/// All kinds, in the order of the store: what edges point to comes before them.
const KINDS: [Kind; 4] = [Kind::Resources, Kind::Entities, Kind::Edges, Kind::Moments];

/// Members of an item that say where it stands in this tenant's history.
const HISTORY: [&str; 3] = ["version", "updated_at", "etag"];

pub(super) async fn run(arguments: Export) -> Result<(), ClientError> {
    let api = Api::new(&arguments.connection)?;
    let mut out = open(arguments.target.as_deref())?;
    let mut count = 0_usize;
    for kind in KINDS
        .into_iter()
        .filter(|kind| arguments.kind.is_empty() || arguments.kind.contains(kind))
    {
        let mut pages = Pages::new(kind, None, None);
        // Everything that anybody was told is written, on every page: the session goes on from there.
        pages.filter = vec![("consistency", Some("linearizable".to_owned()))];
        while let Some(items) = pages.next(&api).await? {
            for item in items {
                writeln!(out, "{}", exported(&item)?)
                    .map_err(|source| ClientError::Output { source })?;
                count += 1;
            }
        }
    }
    out.flush()
        .map_err(|source| ClientError::Output { source })?;
    note(&format!("{count} items exported"));
    Ok(())
}

fn open(target: Option<&Path>) -> Result<Box<dyn Write>, ClientError> {
    let Some(file) = target else {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    };
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    Ok(Box::new(BufWriter::new(
        opened.map_err(ClientError::file("create", file))?,
    )))
}

fn exported(item: &ItemView) -> Result<Value, ClientError> {
    let line = serde_json::to_value(item).map_err(|error| ClientError::Output {
        source: io::Error::other(error),
    })?;
    let Value::Object(members) = line else {
        return Ok(line);
    };
    Ok(Value::Object(
        members
            .into_iter()
            .filter(|(name, _)| !HISTORY.contains(&name.as_str()))
            .collect(),
    ))
}
