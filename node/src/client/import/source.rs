//! Where imported items come from: files of a folder, or lines of JSON.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use percolate_api::http::MAX_BODY_BYTES;
use percolate_core::model::Json;
use percolate_core::model::limits::MAX_ITEM_BYTES;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::error::ClientError;
use super::super::printer::note;
use super::document;

/// Longest line: what a node takes as a body.
const LINE_BYTES: u64 = MAX_BODY_BYTES as u64;

/// One item to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// An operation of a batch, without the word `op`.
    pub(super) item: Map<String, Value>,
    /// What people call it: a file, or a line.
    pub(super) name: String,
    /// Bytes of its source, for progress and batches.
    pub(super) bytes: usize,
}

/// What was left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Skipped {
    /// Files that are not UTF-8 text.
    pub(super) binary: usize,
    /// Files whose name is not UTF-8.
    pub(super) unnamed: usize,
    /// Symbolic links: they may lead out of the folder, or in circles.
    pub(super) links: usize,
}

/// What was found besides records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Left out on purpose.
    pub(super) skipped: Skipped,
    /// Lines that are no items, files that are too large; each was named.
    pub(super) refused: usize,
}

/// An opened source.
pub(super) struct Source {
    input: Input,
    total_bytes: Option<u64>,
    findings: Findings,
}

enum Input {
    Files {
        documents: Vec<Document>,
        /// Whether those that are no text are read too.
        binary: bool,
    },
    Lines(Box<dyn BufRead + Send>),
}

/// A file to read as a resource.
struct Document {
    path: PathBuf,
    id: String,
    bytes: u64,
}

impl Record {
    /// What names the item: the same for two records of one item.
    pub(super) fn key(&self) -> String {
        let parts = ["kind", "id", "src", "type", "dst"].map(|name| match self.item.get(name) {
            // An entity's type is not part of its name.
            Some(Value::String(_)) if name == "type" && self.item.contains_key("id") => "",
            Some(Value::String(part)) => part.as_str(),
            _ => "",
        });
        parts.join("\0")
    }
}

impl Source {
    /// Open a folder, a file of JSON lines, or standard input (`-`). Ids of a folder's documents
    /// begin with `prefix`; binary files are left out unless `binary`.
    pub(super) fn open(source: &Path, prefix: &str, binary: bool) -> Result<Self, ClientError> {
        if source == Path::new("-") {
            return Ok(Self::lines(BufReader::new(io::stdin()), None));
        }
        let metadata = fs::metadata(source).map_err(ClientError::file("read", source))?;
        if !metadata.is_dir() {
            let file = File::open(source).map_err(ClientError::file("read", source))?;
            return Ok(Self::lines(BufReader::new(file), Some(metadata.len())));
        }
        let mut documents = Vec::new();
        let mut findings = Findings::default();
        walk(source, prefix, &mut documents, &mut findings.skipped)?;
        let total_bytes = Some(documents.iter().map(|document| document.bytes).sum());
        Ok(Self {
            input: Input::Files { documents, binary },
            total_bytes,
            findings,
        })
    }

    fn lines(reader: impl BufRead + Send + 'static, total_bytes: Option<u64>) -> Self {
        Self {
            input: Input::Lines(Box::new(reader)),
            total_bytes,
            findings: Findings::default(),
        }
    }

    /// How much there is to read, if that is known beforehand.
    pub(super) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Read everything; stops early when `take` takes no more.
    pub(super) fn read(
        self,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<Findings, ClientError> {
        match self.input {
            Input::Files { documents, binary } => {
                read_files(documents, binary, self.findings, take)
            }
            Input::Lines(reader) => read_lines(reader, take),
        }
    }
}

/// Hidden files and folders are not documents: they belong to programs.
fn walk(
    folder: &Path,
    prefix: &str,
    found: &mut Vec<Document>,
    skipped: &mut Skipped,
) -> Result<(), ClientError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(ClientError::file("read", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            skipped.unnamed += 1;
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let metadata = entry
            .metadata()
            .map_err(ClientError::file("read", entry.path()))?;
        let id = format!("{prefix}{name}");
        if metadata.is_symlink() {
            skipped.links += 1;
        } else if metadata.is_dir() {
            walk(&entry.path(), &format!("{id}/"), found, skipped)?;
        } else if metadata.is_file() {
            found.push(Document {
                path: entry.path(),
                id,
                bytes: metadata.len(),
            });
        }
    }
    Ok(())
}

fn read_files(
    documents: Vec<Document>,
    binary: bool,
    mut findings: Findings,
    take: &mut dyn FnMut(Record) -> bool,
) -> Result<Findings, ClientError> {
    for Document { path, id, bytes } in documents {
        if bytes > MAX_ITEM_BYTES as u64 {
            findings.refused += 1;
            note(&format!(
                "refused {id}: it has {bytes} bytes, an item may have {MAX_ITEM_BYTES}"
            ));
            continue;
        }
        let content = fs::read(&path).map_err(ClientError::file("read", &path))?;
        let bytes = content.len();
        let (member, content) = document::content(content);
        if member != "content" && !binary {
            findings.skipped.binary += 1;
            continue;
        }
        let fallback = if member == "content" {
            "text/plain"
        } else {
            "application/octet-stream"
        };
        let content_type = document::content_type(&path).unwrap_or(fallback).to_owned();
        let members = [
            ("kind", "resource".to_owned()),
            ("id", id.clone()),
            (member, content),
            ("content_type", content_type),
        ];
        let item = members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::String(value)))
            .collect();
        if !take(Record {
            item,
            name: id,
            bytes,
        }) {
            break;
        }
    }
    Ok(findings)
}

fn read_lines(
    mut reader: Box<dyn BufRead + Send>,
    take: &mut dyn FnMut(Record) -> bool,
) -> Result<Findings, ClientError> {
    let mut findings = Findings::default();
    for number in 1.. {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LINE_BYTES + 1)
            .read_until(b'\n', &mut line);
        let bytes = read.map_err(ClientError::file("read", "the JSON lines"))?;
        if bytes == 0 {
            break;
        }
        if bytes as u64 > LINE_BYTES {
            return Err(ClientError::usage(format!(
                "line {number} is longer than {LINE_BYTES} bytes"
            )));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let name = format!("line {number}");
        match item(&line) {
            Ok(item) => {
                if !take(Record { item, name, bytes }) {
                    break;
                }
            }
            Err(reason) => {
                findings.refused += 1;
                note(&format!("refused {name}: {reason}"));
            }
        }
    }
    Ok(findings)
}

fn item(line: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let value = Json::parse(text).map_err(|error| format!("not an item: {error}"))?;
    let Value::Object(item) = Value::from(value) else {
        return Err("not a JSON object".to_owned());
    };
    if item.contains_key("op") {
        return Err("an item has no \"op\": import only puts".to_owned());
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: Source) -> (Vec<Record>, Findings) {
        let mut records = Vec::new();
        let findings = source.read(&mut |record| {
            records.push(record);
            true
        });
        (records, findings.unwrap())
    }

    #[test]
    fn a_folder_gives_its_documents_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("b.md", b"# B");
        write("a/deep/x.txt", b"x");
        write("a/y.json", b"{}");
        write(".git/config", b"hidden");
        write("image.png", &[0x89, 0x50]);
        std::os::unix::fs::symlink("b.md", folder.path().join("link.md")).unwrap();
        let (records, findings) = read(Source::open(folder.path(), "notes/", false).unwrap());
        let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(
            names,
            ["notes/a/deep/x.txt", "notes/a/y.json", "notes/b.md"]
        );
        assert_eq!(records[2].item["content_type"], "text/markdown");
        assert_eq!(
            findings.skipped,
            Skipped {
                binary: 1,
                unnamed: 0,
                links: 1
            }
        );
        let (records, findings) = read(Source::open(folder.path(), "", true).unwrap());
        assert_eq!(records[3].item["content_base64"], "iVA=");
        assert_eq!(findings.skipped.binary, 0);
    }

    #[test]
    fn lines_that_are_no_items_are_named_and_passed_over() {
        let text = "{\"kind\":\"moment\",\"id\":\"m\"}\n\n[1]\nnonsense\n{\"op\":\"delete\"}\n{\"kind\":\"edge\",\"src\":\"a\",\"type\":\"t\",\"dst\":\"b\"}";
        let (records, findings) = read(Source::lines(io::Cursor::new(text), None));
        let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["line 1", "line 6"]);
        assert_eq!(findings.refused, 3);
    }

    #[test]
    fn records_of_one_item_have_one_key() {
        let key = |text: &str| {
            Record {
                item: item(text.as_bytes()).unwrap(),
                name: String::new(),
                bytes: 0,
            }
            .key()
        };
        let entity = key(r#"{"kind":"entity","id":"a","type":"person"}"#);
        assert_eq!(
            entity,
            key(r#"{"kind":"entity","id":"a","type":"robot","labels":[]}"#)
        );
        assert_ne!(entity, key(r#"{"kind":"resource","id":"a"}"#));
        let edge = key(r#"{"kind":"edge","src":"a","type":"knows","dst":"b"}"#);
        assert_ne!(
            edge,
            key(r#"{"kind":"edge","src":"a","type":"likes","dst":"b"}"#)
        );
    }
}
