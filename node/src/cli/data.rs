//! Arguments of the commands that read and write a tenant's data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use percolate_api::http::EventId;
use percolate_crds::duration::{ParseDurationError, parse};

use super::Connection;

/// Arguments of `percolate put`.
#[derive(Debug, Clone, Args)]
pub struct Put {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// Write only if the item still has this version (the etag that `get -o json` shows).
    #[arg(long, global = true, value_name = "ETAG")]
    pub if_match: Option<String>,
    /// What to write.
    #[command(subcommand)]
    pub item: PutItem,
}

/// What `percolate put` writes.
#[derive(Debug, Clone, Subcommand)]
pub enum PutItem {
    /// A document; its content cannot change later, except with --if-match.
    Resource(PutResource),
    /// A thing with a type, properties and labels.
    Entity(PutEntity),
    /// A relation between two items.
    Edge(PutEdge),
    /// Something that happened; it cannot change later.
    Moment(PutMoment),
}

/// Content given on the command line, in a file or on standard input.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Content {
    /// The content itself.
    #[arg(long, value_name = "TEXT")]
    pub content: Option<String>,
    /// File with the content, - for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Arguments of `percolate put resource`.
#[derive(Debug, Clone, Args)]
pub struct PutResource {
    /// The resource's id.
    pub id: String,
    /// Its content.
    #[command(flatten)]
    pub content: Content,
    /// Media type; guessed from the file's name if it is left out.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Metadata; VALUE is JSON, or else text. May be given many times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<Pair>,
}

/// Arguments of `percolate put entity`.
#[derive(Debug, Clone, Args)]
pub struct PutEntity {
    /// The entity's id.
    pub id: String,
    /// Its type: the properties given are then all it has. Without a type, an entity that exists is
    /// changed and keeps the properties that are not named.
    #[arg(short, long = "type", value_name = "TYPE")]
    pub entity_type: Option<String>,
    /// A property; VALUE is JSON, or else text; null removes it. May be given many times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub property: Vec<Pair>,
    /// A label. May be given many times; together they replace the labels it has.
    #[arg(short, long, value_name = "LABEL")]
    pub label: Vec<String>,
}

/// Arguments of `percolate put edge`.
#[derive(Debug, Clone, Args)]
pub struct PutEdge {
    /// Id of the item it begins at.
    pub src: String,
    /// What it says, for example: knows
    #[arg(value_name = "TYPE")]
    pub edge_type: String,
    /// Id of the item it ends at.
    pub dst: String,
    /// A property; VALUE is JSON, or else text. May be given many times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub property: Vec<Pair>,
}

/// Arguments of `percolate put moment`.
#[derive(Debug, Clone, Args)]
pub struct PutMoment {
    /// The moment's id.
    pub id: String,
    /// Its content.
    #[command(flatten)]
    pub content: Content,
    /// When it happened, RFC 3339 such as 2026-01-31T12:00:00Z; now if it is left out.
    #[arg(short, long, value_name = "TIME")]
    pub timestamp: Option<String>,
    /// Metadata; VALUE is JSON, or else text. May be given many times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<Pair>,
}

/// Arguments of `percolate get`.
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// How fresh the answer must be.
    #[arg(long, global = true, value_enum, default_value_t = Consistency::Session)]
    pub consistency: Consistency,
    /// How old at most what is shown may be, for example 2s; a follower that cannot prove it asks the leader.
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub max_staleness: Option<String>,
    /// What to show.
    #[command(subcommand)]
    pub item: Item,
}

/// Arguments of `percolate rm`.
#[derive(Debug, Clone, Args)]
pub struct Remove {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// Delete only if the item still has this version (the etag that `get -o json` shows).
    #[arg(long, global = true, value_name = "ETAG")]
    pub if_match: Option<String>,
    /// What to delete.
    #[command(subcommand)]
    pub item: Item,
}

/// Names one item.
#[derive(Debug, Clone, Subcommand)]
pub enum Item {
    /// A document.
    #[command(alias = "resources")]
    Resource {
        /// Its id.
        id: String,
    },
    /// A thing with a type, properties and labels.
    #[command(alias = "entities")]
    Entity {
        /// Its id.
        id: String,
    },
    /// A relation between two items.
    #[command(alias = "edges")]
    Edge {
        /// Id of the item it begins at.
        src: String,
        /// What it says.
        #[arg(value_name = "TYPE")]
        edge_type: String,
        /// Id of the item it ends at.
        dst: String,
    },
    /// Something that happened.
    #[command(alias = "moments")]
    Moment {
        /// Its id.
        id: String,
    },
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Sees everything this client has written or read.
    Session,
    /// Sees everything anybody was told is written.
    Linearizable,
    /// Whatever the node has; never waits.
    Local,
}

/// The kinds of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Documents.
    #[value(alias = "resource")]
    Resources,
    /// Things with a type, properties and labels.
    #[value(alias = "entity")]
    Entities,
    /// Relations between two items.
    #[value(alias = "edge")]
    Edges,
    /// Things that happened.
    #[value(alias = "moment")]
    Moments,
}

/// Arguments of `percolate ls`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// Which items.
    #[arg(value_enum)]
    pub kind: Kind,
    /// Only entities with this label.
    #[arg(long)]
    pub label: Option<String>,
    /// Only items changed at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Begin after this id (the `next` of an earlier listing).
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// Stop after so many items; without it, list all.
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,
    /// How fresh the answer must be.
    #[arg(long, value_enum, default_value_t = Consistency::Session)]
    pub consistency: Consistency,
    /// How old at most what is shown may be, for example 2s; a follower that cannot prove it asks the leader.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_staleness: Option<String>,
}

/// Arguments of `percolate import`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = IMPORT_HELP)]
pub struct Import {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// Folder of documents, or file of JSON lines, or - for JSON lines on standard input.
    #[arg(value_name = "FOLDER|FILE|-")]
    pub source: PathBuf,
    /// Put this before every id of a folder's documents, for example: notes/
    #[arg(long, default_value = "", value_name = "PREFIX")]
    pub prefix: String,
    /// Import a folder's binary files as well, in Base64.
    #[arg(long)]
    pub binary: bool,
    /// Replace resources that exist with other content (otherwise they are refused and counted).
    #[arg(long)]
    pub overwrite: bool,
    /// Batches on the way at a time.
    #[arg(long, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub in_flight: u8,
}

const IMPORT_HELP: &str = "\
A folder: every readable text file becomes a resource whose id is its path in the folder, with a
content type from its name. Hidden files, symbolic links and binary files are skipped and counted.

JSON lines: one item per line, as `percolate export` writes them, for example
  {\"kind\":\"resource\",\"id\":\"a\",\"content\":\"text\"}
  {\"kind\":\"entity\",\"id\":\"ada\",\"type\":\"person\",\"properties\":{\"born\":1815},\"labels\":[\"person\"]}
  {\"kind\":\"edge\",\"src\":\"ada\",\"type\":\"wrote\",\"dst\":\"a\"}
  {\"kind\":\"moment\",\"id\":\"m\",\"timestamp\":\"2026-01-31T12:00:00Z\",\"content\":\"text\"}

An import that was interrupted is resumed by running it again: what is there already is unchanged.";

/// Arguments of `percolate export`.
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// File to write, which must not exist; without it, standard output.
    #[arg(value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Only items of this kind. May be given many times.
    #[arg(long, value_enum)]
    pub kind: Vec<Kind>,
}

/// Arguments of `percolate watch`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = WATCH_HELP)]
pub struct Watch {
    /// Where to connect.
    #[command(flatten)]
    pub connection: Connection,
    /// Go on after this position (the first column, or `position` with -o json); without it, begin
    /// with every item there is.
    #[arg(long, value_name = "POSITION")]
    pub from: Option<EventId>,
    /// Only items of this kind.
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
}

const WATCH_HELP: &str = "\
Prints each item with its latest state, in the order of change, and goes on as items change:
position, put or delete, kind, id, time, beginning of the content. An item that changed more than
once since the last look is printed once, as it is now. With -o json, a line holds the whole item:
  {\"event\":\"put\",\"position\":\"57.0@…\",\"item\":{\"kind\":\"resource\",\"id\":\"a\",…}}
  {\"event\":\"delete\",\"position\":\"58.0@…\",\"item\":{\"kind\":\"resource\",\"id\":\"a\",…}}
Nothing is missed or printed twice when connections end. To go on later, give the last position
to --from, at any node; with its history (after the @) a restored tenant is told from this one.";

/// A name with a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value.
    pub value: serde_json::Value,
}

/// As the API takes it.
fn duration(text: &str) -> Result<String, ParseDurationError> {
    parse(text).map(|_| text.to_owned())
}

fn pair(text: &str) -> Result<Pair, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the KEY of KEY=VALUE is empty".to_owned());
    }
    let value =
        serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.to_owned()));
    Ok(Pair {
        key: key.to_owned(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_json_or_else_text() {
        let cases = [
            ("a=1", Some(json!(1))),
            ("a=\"1\"", Some(json!("1"))),
            ("a=b=c", Some(json!("b=c"))),
            ("a=", Some(json!(""))),
            ("a=null", Some(json!(null))),
            ("a=[1,2]", Some(json!([1, 2]))),
            ("a", None),
            ("=b", None),
        ];
        for (text, expected) in cases {
            assert_eq!(pair(text).ok().map(|pair| pair.value), expected, "{text}");
        }
    }
}
