//! `percolate put` and `rm`.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use http::Method;
use percolate_api::http::{EffectWord, WriteReply};
use serde_json::{Map, Value, json};

use super::api::{Api, Call};
use super::error::ClientError;
use super::import::document;
use super::path;
use super::printer::Printer;
use crate::cli::data::{Content, Pair};
use crate::cli::{Put, PutEdge, PutEntity, PutItem, PutMoment, PutResource, Remove};

/// A write as HTTP says it.
#[derive(Debug, PartialEq)]
struct Write {
    method: Method,
    path: String,
    body: Value,
}

pub(super) async fn put(arguments: Put) -> Result<(), ClientError> {
    let write = match arguments.item {
        PutItem::Resource(resource) => put_resource(resource)?,
        PutItem::Entity(entity) => put_entity(entity),
        PutItem::Edge(edge) => put_edge(edge),
        PutItem::Moment(moment) => put_moment(moment)?,
    };
    let api = Api::new(&arguments.connection)?;
    let call = Call::new(write.method, write.path)
        .with_json(&write.body)?
        .if_match(arguments.if_match.as_deref())?;
    let answer: WriteReply = api.answer(&call).await?;
    Printer {
        format: arguments.connection.output,
    }
    .show(&answer, effect)
}

pub(super) async fn remove(arguments: Remove) -> Result<(), ClientError> {
    let api = Api::new(&arguments.connection)?;
    let call = Call::new(Method::DELETE, path::of_item(&arguments.item))
        .if_match(arguments.if_match.as_deref())?;
    let answer: WriteReply = api.answer(&call).await?;
    Printer {
        format: arguments.connection.output,
    }
    .show(&answer, effect)
}

fn effect(answer: &WriteReply) -> String {
    let word = match answer.effect {
        EffectWord::Created => "created",
        EffectWord::Updated => "updated",
        EffectWord::Unchanged => "unchanged",
        EffectWord::Deleted => "deleted",
    };
    format!("{word} {}", answer.meta.etag.trim_matches('"'))
}

fn put_resource(resource: PutResource) -> Result<Write, ClientError> {
    let guessed = resource
        .content
        .file
        .as_deref()
        .and_then(document::content_type);
    let mut body = Map::new();
    let (member, content) = document::content(content(resource.content)?);
    body.insert(member.to_owned(), content.into());
    if let Some(content_type) = resource.content_type.as_deref().or(guessed) {
        body.insert("content_type".to_owned(), content_type.into());
    }
    if !resource.metadata.is_empty() {
        body.insert("metadata".to_owned(), object(resource.metadata));
    }
    Ok(Write {
        method: Method::PUT,
        path: path::of("resources", &[&resource.id]),
        body: body.into(),
    })
}

/// With a type the entity is put whole; without one, what is named is changed.
fn put_entity(entity: PutEntity) -> Write {
    let mut body = Map::from_iter([("properties".to_owned(), object(entity.property))]);
    if !entity.label.is_empty() {
        body.insert("labels".to_owned(), entity.label.into());
    }
    let method = match entity.entity_type {
        Some(entity_type) => {
            body.insert("type".to_owned(), entity_type.into());
            Method::PUT
        }
        None => Method::PATCH,
    };
    Write {
        method,
        path: path::of("entities", &[&entity.id]),
        body: body.into(),
    }
}

fn put_edge(edge: PutEdge) -> Write {
    let path = path::of("edges", &[&edge.src, &edge.edge_type, &edge.dst]);
    Write {
        method: Method::PUT,
        path,
        body: json!({ "properties": object(edge.property) }),
    }
}

fn put_moment(moment: PutMoment) -> Result<Write, ClientError> {
    let timestamp = moment
        .timestamp
        .unwrap_or_else(|| jiff::Timestamp::now().to_string());
    let mut body = Map::from_iter([
        ("timestamp".to_owned(), timestamp.into()),
        ("content".to_owned(), text(moment.content)?.into()),
    ]);
    if !moment.metadata.is_empty() {
        body.insert("metadata".to_owned(), object(moment.metadata));
    }
    Ok(Write {
        method: Method::PUT,
        path: path::of("moments", &[&moment.id]),
        body: body.into(),
    })
}

fn text(content_given: Content) -> Result<String, ClientError> {
    String::from_utf8(content(content_given)?)
        .map_err(|_| ClientError::usage("the content of a moment is UTF-8 text"))
}

fn content(content: Content) -> Result<Vec<u8>, ClientError> {
    let Some(file) = content.file else {
        return Ok(content.content.unwrap_or_default().into_bytes());
    };
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(&file)
    };
    bytes.map_err(ClientError::file("read", &file))
}

fn object(pairs: Vec<Pair>) -> Value {
    Value::Object(
        pairs
            .into_iter()
            .map(|pair| (pair.key, pair.value))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, ClientCommand, Command};

    fn write(arguments: &[&str]) -> Write {
        let arguments = ["percolate", "put"].iter().chain(arguments);
        let Command::Client(command) = Cli::try_from_arguments(arguments).unwrap().command else {
            panic!("not for a node")
        };
        let ClientCommand::Put(put) = *command else {
            panic!("not a put")
        };
        match put.item {
            PutItem::Resource(resource) => put_resource(resource).unwrap(),
            PutItem::Entity(entity) => put_entity(entity),
            PutItem::Edge(edge) => put_edge(edge),
            PutItem::Moment(moment) => put_moment(moment).unwrap(),
        }
    }

    #[test]
    fn what_is_typed_is_what_is_sent() {
        let cases: [(&[&str], Method, &str, Value); 5] = [
            (
                &["resource", "a/b", "--content", "x", "-m", "k=1"],
                Method::PUT,
                "/api/v1/resources/a%2Fb",
                json!({"content": "x", "metadata": {"k": 1}}),
            ),
            (
                &[
                    "entity",
                    "ada",
                    "--type",
                    "person",
                    "-p",
                    "born=1815",
                    "-l",
                    "people",
                ],
                Method::PUT,
                "/api/v1/entities/ada",
                json!({"type": "person", "properties": {"born": 1815}, "labels": ["people"]}),
            ),
            (
                &["entity", "ada", "-p", "born=null"],
                Method::PATCH,
                "/api/v1/entities/ada",
                json!({"properties": {"born": null}}),
            ),
            (
                &["edge", "a", "knows", "b"],
                Method::PUT,
                "/api/v1/edges/a/knows/b",
                json!({"properties": {}}),
            ),
            (
                &[
                    "moment",
                    "m",
                    "--content",
                    "x",
                    "--timestamp",
                    "2026-01-31T12:00:00Z",
                ],
                Method::PUT,
                "/api/v1/moments/m",
                json!({"timestamp": "2026-01-31T12:00:00Z", "content": "x"}),
            ),
        ];
        for (arguments, method, path, body) in cases {
            assert_eq!(
                write(arguments),
                Write {
                    method,
                    path: path.to_owned(),
                    body
                },
                "{arguments:?}"
            );
        }
    }
}
