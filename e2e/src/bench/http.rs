//! A client that speaks just enough HTTP/1.1 to cost next to nothing: the machine's cores are for
//! the servers. One request at a time per connection, which stays open.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longer heads and bodies are not for this client.
const ANSWER_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 4096;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A connection, with or without TLS.
pub(super) struct Connection<S> {
    stream: S,
    host: String,
    /// Header lines that every request carries, each with its line end.
    headers: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What stands in the head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    body: usize,
    length: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Over a stream that is connected to `host`.
    pub(super) fn new(stream: S, host: &str, headers: &str) -> Self {
        Self {
            stream,
            host: host.to_owned(),
            headers: headers.to_owned(),
            request: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Sends JSON and gives back status and body of the answer.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, &[u8])> {
        let (host, headers, length) = (&self.host, &self.headers, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.stream.flush().await?;
        self.answer.clear();
        let head = loop {
            match head_of(&self.answer)? {
                Some(head) if self.answer.len() >= head.body + head.length => break head,
                _ => self.read_more().await?,
            }
        };
        Ok((
            head.status,
            &self.answer[head.body..head.body + head.length],
        ))
    }

    /// The same, where any status but success is an error.
    pub(super) async fn succeed(&mut self, method: &str, path: &str, body: &str) -> Result<&[u8]> {
        let (status, body) = self.send(method, path, body).await?;
        if !(200..300).contains(&status) {
            bail!(
                "{method} {path}: {status} {}",
                String::from_utf8_lossy(body)
            );
        }
        Ok(body)
    }

    async fn read_more(&mut self) -> Result<()> {
        ensure!(self.answer.len() < ANSWER_BYTES, "an answer is too long");
        self.answer.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.answer).await?;
        ensure!(count > 0, "the connection was closed before the answer");
        Ok(())
    }
}

/// The head, once it is there to its end.
fn head_of(answer: &[u8]) -> Result<Option<Head>> {
    let Some(end) = answer
        .windows(END_OF_HEAD.len())
        .position(|window| window == END_OF_HEAD)
    else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..end]).context("an answer's head is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .context("an answer has no status")?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    if length.is_none() && status == 204 {
        length = Some(0);
    }
    Ok(Some(Head {
        status,
        body: end + END_OF_HEAD.len(),
        length: length.context("an answer does not say its length")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 201 Created\r\ncontent-LENGTH: 5\r\nA: b\r\n\r\nhello";
        let head = Head {
            status: 201,
            body: whole.len() - 5,
            length: 5,
        };
        assert_eq!(head_of(whole).expect("readable"), Some(head));
        assert_eq!(head_of(&whole[..30]).expect("not yet wrong"), None);
        assert!(head_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head_of(b"nonsense\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let (near, mut far) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            let mut request = vec![0; 1024];
            let count = far.read(&mut request).await.expect("readable");
            for piece in [
                "HTTP/1.1 409 Conf",
                "lict\r\nContent-Length: 4\r\n\r\nno",
                "pe",
            ] {
                far.write_all(piece.as_bytes()).await.expect("writable");
                tokio::task::yield_now().await;
            }
            request.truncate(count);
            String::from_utf8(request).expect("UTF-8")
        });
        let mut connection = Connection::new(near, "there", "A: b\r\n");
        let error = connection
            .succeed("PUT", "/x", "{}")
            .await
            .expect_err("a conflict");
        assert_eq!(error.to_string(), "PUT /x: 409 nope");
        let request = server.await.expect("ended");
        assert!(request.starts_with("PUT /x HTTP/1.1\r\nHost: there\r\nA: b\r\n"));
        assert!(request.ends_with("Content-Length: 2\r\n\r\n{}"));
    }
}
