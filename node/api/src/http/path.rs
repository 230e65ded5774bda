//! Paths of items, and the cursors of lists.

use std::fmt::Write;

use percolate_core::model::{ItemId, ItemKey, Kind};

use super::request::BadRequest;

/// What all paths of the API begin with.
pub const API_BASE: &str = "/api/v1";

/// The path of an item: `/api/v1/edges/ada/knows/grace`, ids percent-encoded.
pub fn item_path(key: &ItemKey) -> String {
    let mut path = format!("{API_BASE}/{}", key.kind().plural());
    for id in key.ids() {
        path.push('/');
        path.push_str(&encode_segment(id.as_str()));
    }
    path
}

/// A text as one segment of a path: everything but the unreserved characters of RFC 3986 is encoded.
pub fn encode_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte));
            }
            // Writing to a String does not fail.
            _ => drop(write!(segment, "%{byte:02X}")),
        }
    }
    segment
}

/// The text of a segment; `None` if an escape is broken or the result is not UTF-8.
pub fn decode_segment(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => (hex_digit(rest.next()?)? << 4) | hex_digit(rest.next()?)?,
            plain => plain,
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).ok()
}

/// The `next` of a list that ends with this item, and the `after` of the one that follows: the id,
/// or an edge's three as in its path.
pub fn cursor(key: &ItemKey) -> String {
    match key {
        ItemKey::Resource(id) | ItemKey::Entity(id) | ItemKey::Moment(id) => id.to_string(),
        ItemKey::Edge {
            src,
            edge_type,
            dst,
        } => [src, edge_type, dst]
            .map(|id| encode_segment(id.as_str()))
            .join("/"),
    }
}

/// Reads a cursor of a list of this kind.
pub fn parse_cursor(kind: Kind, after: &str) -> Result<ItemKey, BadRequest> {
    let refused = || BadRequest::Cursor {
        text: after.to_owned(),
    };
    if kind != Kind::Edge {
        return ItemKey::of(kind, ItemId::new(after)?).ok_or_else(refused);
    }
    let ids = after
        .split('/')
        .map(|segment| decode_segment(segment).ok_or_else(refused));
    let ids = ids.collect::<Result<Vec<String>, _>>()?;
    let [src, edge_type, dst] = <[String; 3]>::try_from(ids).map_err(|_| refused())?;
    Ok(ItemKey::Edge {
        src: ItemId::new(src)?,
        edge_type: ItemId::new(edge_type)?,
        dst: ItemId::new(dst)?,
    })
}

fn hex_digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
