//! Who may use the API: whoever holds the tenant's bearer token.
//!
//! ```text
//! Authorization: Bearer <token> -> TokenSource::admits -> served | 401
//! ```
//! The token lives in a file that is read again when it changes, so a rotated Secret takes effect
//! without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// How old the knowledge of the token file may be: a mounted Secret changes a minute late anyway,
/// and one `stat` a second costs nothing.
const RECHECK_AFTER: Duration = Duration::from_secs(1);

/// Longest token accepted from a client; ours have 43 characters. Bounds the hashing.
const TOKEN_BYTES: usize = 4096;

/// Where the valid token comes from. Cheap to clone.
#[derive(Clone)]
pub struct TokenSource {
    shared: Arc<Shared>,
}

struct Shared {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

/// Only the token's hash is kept: hashes compare in constant time, whatever the length.
#[derive(Clone, Copy)]
struct Known {
    hash: Option<blake3::Hash>,
    stamp: Option<(SystemTime, u64)>,
    checked: Option<Instant>,
}

impl TokenSource {
    /// The token is the content of `file`, without white space around it. A file that is missing
    /// or empty admits nobody; one that becomes unreadable leaves the last token valid.
    pub fn file(file: PathBuf) -> Self {
        Self::new(Some(file), None)
    }

    /// The token is always `token`.
    pub fn fixed(token: &str) -> Self {
        Self::new(None, hash_of(token))
    }

    fn new(file: Option<PathBuf>, hash: Option<blake3::Hash>) -> Self {
        let known = Mutex::new(Known {
            hash,
            stamp: None,
            checked: None,
        });
        Self {
            shared: Arc::new(Shared { file, known }),
        }
    }

    /// Whether the request with these headers carries the token.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(presented) = bearer(headers) else {
            return false;
        };
        let expected = self.current(Instant::now());
        hash_of(presented).is_some_and(|presented| Some(presented) == expected)
    }

    fn current(&self, now: Instant) -> Option<blake3::Hash> {
        let mut known = self
            .shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.shared.file
            && known
                .checked
                .is_none_or(|checked| now.duration_since(checked) >= RECHECK_AFTER)
        {
            known.checked = Some(now);
            reread(file, &mut known);
        }
        known.hash
    }
}

fn reread(file: &PathBuf, known: &mut Known) {
    let stamp =
        std::fs::metadata(file).and_then(|metadata| Ok((metadata.modified()?, metadata.len())));
    match stamp {
        Ok(stamp) if known.stamp == Some(stamp) => {}
        Ok(stamp) => match std::fs::read_to_string(file) {
            Ok(text) => {
                known.stamp = Some(stamp);
                known.hash = hash_of(text.trim());
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the token file cannot be read");
            }
        },
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the token file cannot be found");
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    // Two headers could be read differently by two servers: neither counts.
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn hash_of(token: &str) -> Option<blake3::Hash> {
    let acceptable = !token.is_empty() && token.len() <= TOKEN_BYTES;
    acceptable.then(|| blake3::hash(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_one_token_is_admitted() {
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES + 1));
        let cases: [(&[&str], bool); 11] = [
            (&["Bearer secret"], true),
            (&["bearer secret"], true),
            (&[], false),
            (&["Bearer "], false),
            (&["Bearer"], false),
            (&["secret"], false),
            (&["Basic secret"], false),
            (&["Bearer secreT"], false),
            (&["Bearer secret "], false),
            (&["Bearer secret", "Bearer secret"], false),
            (&[&long], false),
        ];
        for (values, admitted) in cases {
            assert_eq!(
                TokenSource::fixed("secret").admits(&headers(values)),
                admitted,
                "{values:?}"
            );
        }
    }

    #[test]
    fn an_empty_or_missing_file_admits_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(!TokenSource::file(file.clone()).admits(&headers(&["Bearer "])));
        std::fs::write(&file, "\n").unwrap();
        assert!(!TokenSource::file(file).admits(&headers(&["Bearer "])));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "old\n").unwrap();
        let source = TokenSource::file(file.clone());
        let now = Instant::now();
        assert_eq!(source.current(now), hash_of("old"));
        std::fs::write(&file, "newer\n").unwrap();
        assert_eq!(
            source.current(now),
            hash_of("old"),
            "not looked at again so soon"
        );
        assert_eq!(source.current(now + RECHECK_AFTER), hash_of("newer"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            source.current(now + 2 * RECHECK_AFTER),
            hash_of("newer"),
            "the last token stays valid"
        );
    }
}
