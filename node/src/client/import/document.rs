//! Documents: which files are taken as resources, and what they are.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Content types by extension, as far as the field agrees on them.
const CONTENT_TYPES: [(&str, &str); 28] = [
    ("md", "text/markdown"),
    ("markdown", "text/markdown"),
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("tsv", "text/tab-separated-values"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("tex", "application/x-tex"),
    ("sh", "application/x-sh"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    ("eml", "message/rfc822"),
    ("ics", "text/calendar"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
];

/// The content type of a file by its name; `None` if the name says nothing.
pub(in crate::client) fn content_type(file: &Path) -> Option<&'static str> {
    let extension = file
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let known = CONTENT_TYPES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(extension));
    known.map(|(_, content_type)| *content_type)
}

/// The member of a resource that carries `bytes`, and its value: text as it is, all else in Base64.
pub(in crate::client) fn content(bytes: Vec<u8>) -> (&'static str, String) {
    match text(bytes) {
        Ok(text) => ("content", text),
        Err(bytes) => ("content_base64", STANDARD.encode(bytes)),
    }
}

/// The text in `bytes`, or what is no text.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Vec<u8>> {
    // A zero byte is valid UTF-8, but no text has one.
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(text) => Err(text.into_bytes()),
        Err(error) => Err(error.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        let cases = [
            ("a.md", Some("text/markdown")),
            ("A.MD", Some("text/markdown")),
            ("LICENSE", None),
            ("a.rs", None),
        ];
        for (file, expected) in cases {
            assert_eq!(content_type(Path::new(file)), expected, "{file}");
        }
    }

    #[test]
    fn binary_files_are_told_from_text() {
        assert_eq!(content("ä".into()), ("content", "ä".to_owned()));
        assert_eq!(
            content(vec![0x89, b'P', b'N', b'G']),
            ("content_base64", "iVBORw==".to_owned())
        );
        assert_eq!(content(vec![b'a', 0, b'b']).0, "content_base64");
    }
}
