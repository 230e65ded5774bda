//! zstd on the way in and out, with bounds on what a small body may blow up to.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::sync::Semaphore;

use super::body::{Held, Share};

/// Answers below this are sent as they are: the frame would cost more than it saves.
pub(super) const WORTH_COMPRESSING_BYTES: usize = 1024;

/// Up to this size, compressing takes less than a millisecond and stays on the event loop.
const QUICK_BYTES: usize = 128 * 1024;

/// The field's default: faster than a disk, most of the gain.
const LEVEL: i32 = 3;

/// Largest window a sender may demand (8 MiB): what zstd's own levels up to 19 need, and a bound
/// on the memory of one decoder.
const WINDOW_LOG_MAX: u32 = 23;

/// Decoders at work at a time, each with a window of up to 8 MiB; others wait for them. More than the
/// processors of most pods.
static DECODERS: Semaphore = Semaphore::const_new(4);

/// How much is decoded at a time: the step in which memory is asked for.
const STEP_BYTES: usize = 64 * 1024;

/// Why a body could not be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// Only zstd is spoken.
    #[error("content encoding {encoding:?} is not supported")]
    UnknownEncoding {
        /// What the header said.
        encoding: String,
    },
    /// Not zstd, cut short, or with a window larger than allowed.
    #[error("the body is not valid zstd: {reason}")]
    Malformed {
        /// What the decoder said.
        reason: String,
    },
    /// Decoding stopped at the limit.
    #[error("the body is larger than {limit} bytes when decompressed")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Other bodies fill the memory set aside for them.
    #[error("too many request bodies are held")]
    MemoryFull,
}

/// The plain body of a request, at most `limit` bytes. What it has beyond `body` itself is held of
/// `memory`, one permit a byte.
pub(super) async fn decode(
    headers: &HeaderMap,
    body: Bytes,
    limit: usize,
    memory: &Arc<Semaphore>,
) -> Result<Held, DecodeError> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(Held::new(body, Share::default()));
    };
    match encoding.as_bytes() {
        b"identity" => Ok(Held::new(body, Share::default())),
        b"zstd" => {
            let _decoder = DECODERS.acquire().await;
            let memory = Arc::clone(memory);
            // How much comes out is not known yet: never on the event loop.
            tokio::task::spawn_blocking(move || unzstd(&body, limit, &memory))
                .await
                .unwrap_or_else(|error| {
                    Err(DecodeError::Malformed {
                        reason: error.to_string(),
                    })
                })
        }
        other => Err(DecodeError::UnknownEncoding {
            encoding: String::from_utf8_lossy(other).chars().take(64).collect(),
        }),
    }
}

/// Whether the client can read zstd.
pub(super) fn accepts_zstd(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|choice| {
            let mut parts = choice.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("zstd"));
            let refused = parts.any(|parameter| {
                parameter
                    .strip_prefix("q=")
                    .is_some_and(|q| q.parse() == Ok(0.0_f32))
            });
            named && !refused
        })
}

/// One zstd frame with `plain`; `None` if zstd failed, which leaves the caller with the plain body.
pub(super) async fn encode(plain: Bytes) -> Option<Bytes> {
    if plain.len() <= QUICK_BYTES {
        return compressed(&plain);
    }
    tokio::task::spawn_blocking(move || compressed(&plain))
        .await
        .ok()
        .flatten()
}

fn compressed(plain: &[u8]) -> Option<Bytes> {
    zstd::bulk::compress(plain, LEVEL).ok().map(Bytes::from)
}

fn unzstd(body: &[u8], limit: usize, memory: &Arc<Semaphore>) -> Result<Held, DecodeError> {
    let malformed = |error: std::io::Error| DecodeError::Malformed {
        reason: error.to_string(),
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(malformed)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(malformed)?;
    let (mut plain, mut share) = (Vec::new(), Share::default());
    loop {
        // One byte more than allowed tells "at the limit" from "over it" without decoding the rest.
        let step = STEP_BYTES.min(limit + 1 - plain.len());
        let read = (&mut decoder)
            .take(step as u64)
            .read_to_end(&mut plain)
            .map_err(malformed)?;
        if plain.len() > limit {
            return Err(DecodeError::TooLarge { limit });
        }
        if !share.grow(memory, read) {
            return Err(DecodeError::MemoryFull);
        }
        if read < step {
            return Ok(Held::new(plain.into(), share));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoded body, with memory enough.
    async fn decode(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, DecodeError> {
        let memory = Arc::new(Semaphore::new(2 * limit));
        let decoded = super::decode(headers, body, limit, &memory).await;
        decoded.map(|held| held.into_parts().0)
    }

    fn encoded(encoding: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())])
    }

    #[tokio::test]
    async fn bodies_come_back_as_sent() {
        let plain = Bytes::from_static(b"{\"content\":\"text\"}");
        assert_eq!(
            decode(&HeaderMap::new(), plain.clone(), 100).await.as_ref(),
            Ok(&plain)
        );
        assert_eq!(
            decode(&encoded("zstd"), compressed(&plain).unwrap(), 100)
                .await
                .as_ref(),
            Ok(&plain)
        );
        let two_frames = [compressed(&plain).unwrap(), compressed(&plain).unwrap()].concat();
        assert_eq!(
            decode(&encoded("zstd"), two_frames.into(), 100)
                .await
                .unwrap()
                .len(),
            2 * plain.len()
        );
    }

    #[tokio::test]
    async fn hostile_bodies_are_refused_cheaply() {
        let limit = 64 * 1024;
        let bomb = compressed(&vec![0; 64 * 1024 * 1024]).unwrap();
        assert!(bomb.len() < limit, "the bomb is small on the wire");
        assert_eq!(
            decode(&encoded("zstd"), bomb, limit).await,
            Err(DecodeError::TooLarge { limit })
        );
        let at_limit = compressed(&vec![0; limit]).unwrap();
        assert_eq!(
            decode(&encoded("zstd"), at_limit, limit)
                .await
                .map(|body| body.len()),
            Ok(limit)
        );
        // A frame header: no content size, window log 31.
        let wide = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
        // Dictionary id 7, window log 10.
        let dictionary =
            Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x00, 0x07, 0x01, 0x00, 0x00]);
        let cut = compressed(b"some text that is cut").unwrap().slice(..12);
        for (name, body) in [
            ("wide", wide),
            ("dictionary", dictionary),
            ("cut", cut),
            ("noise", Bytes::from_static(b"noise")),
        ] {
            let decoded = decode(&encoded("zstd"), body, limit).await;
            assert!(
                matches!(decoded, Err(DecodeError::Malformed { .. })),
                "{name}: {decoded:?}"
            );
        }
        assert!(matches!(
            decode(&encoded("gzip"), Bytes::new(), limit).await,
            Err(DecodeError::UnknownEncoding { .. })
        ));
    }

    #[tokio::test]
    async fn what_a_small_body_becomes_has_a_share_of_the_memory() {
        let (limit, memory) = (1 << 20, Arc::new(Semaphore::new(1 << 20)));
        let body = |bytes: usize| compressed(&vec![0; bytes]).unwrap();
        let zstd = encoded("zstd");
        let first = super::decode(&zstd, body(600_000), limit, &memory).await;
        let first = first.expect("there is room");
        assert_eq!(memory.available_permits(), (1 << 20) - 600_000);
        let second = super::decode(&zstd, body(600_000), limit, &memory).await;
        assert_eq!(second.unwrap_err(), DecodeError::MemoryFull);
        drop(first);
        assert_eq!(memory.available_permits(), 1 << 20, "all is given back");
        assert!(
            super::decode(&zstd, body(limit), limit, &memory)
                .await
                .is_ok()
        );
    }

    #[test]
    fn zstd_is_sent_only_to_who_reads_it() {
        let cases = [
            ("zstd", true),
            ("gzip, zstd", true),
            ("ZSTD;q=0.5", true),
            ("zstd;q=0", false),
            ("zstd; q=0.0", false),
            ("gzip", false),
            ("*", false),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepts_zstd(&headers), expected, "{value}");
        }
        assert!(!accepts_zstd(&HeaderMap::new()));
    }
}
