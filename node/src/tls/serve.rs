//! The accept loop of every port: bounded connections, bounded handshakes, HTTP/1.1 or HTTP/2 as
//! negotiated, and an end that lets requests finish.
//!
//! ```text
//! accept -> permit -> handshake (newest certificates) -> router, until the client or shutdown ends it
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::stalling::Stalling;
use super::{BULK, HTTP2, Tls};

/// Pause after a failed accept: the usual cause is too many open files, which only time cures.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often a silent HTTP/2 connection is asked whether anybody is there, and how long it may think.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once on one HTTP/2 connection: what the protocol's authors recommend at least. One
/// connection must not take a node's places all by itself.
const STREAMS_PER_CONNECTION: u32 = 128;

/// Requests that a client may take back before they were looked at; more end the connection. Opening and
/// taking back costs a client nothing and a server a good deal ("rapid reset").
const RESET_STREAMS: usize = 32;

/// Bytes of a request's head. Ids have 256 bytes at most, three of them escaped fit in well.
const HEAD_BYTES: u32 = 16 * 1024;

/// Bytes read ahead on an HTTP/1.1 connection: the longest head, and pieces of a body.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes a client may send ahead, per request and per connection: bounds memory, and is enough to
/// fill a gigabit link at 10 ms.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// What a port asks of its clients.
#[derive(Debug, Clone)]
pub enum Security {
    /// TLS; clients prove themselves within the protocol.
    Open(Tls),
    /// TLS with a client certificate of the tenant's authority.
    Mutual {
        /// The certificates.
        tls: Tls,
        /// Who serves connections on which whole stores are copied.
        bulk: Handle,
    },
    /// Without TLS: for what everybody may know.
    None,
}

/// What one port may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of an HTTP/1.1 request to the end of its head.
    pub request_head: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stalled: Duration,
    /// What requests get to finish in at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // About 30 KiB each while idle: 512 stay within a small pod's memory.
            connections: 512,
            handshake: Duration::from_secs(5),
            request_head: Duration::from_secs(10),
            // As long as a client may take for its body: an answer that nobody reads holds memory.
            stalled: Duration::from_secs(30),
            // Well within a pod's 60 s of grace, which a hand-over needs too.
            drain: Duration::from_secs(15),
        }
    }
}

/// Serve `router` on `listener` until `shutdown`, then let requests finish, at most
/// [`Limits::drain`]. Handlers find the client's address in [`ConnectInfo<SocketAddr>`].
pub async fn serve(
    listener: TcpListener,
    security: Security,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((tcp, client, permit)) => {
                let connection = Connection {
                    client,
                    limits,
                    shutdown: shutdown.clone(),
                };
                let (security, router) = (security.clone(), router.clone());
                connections.spawn(async move {
                    connection.run(tcp, &security, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "cut off connections that were still busy"
        );
    }
}

/// The permit comes first: what cannot be served yet is left to the kernel.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (tcp, client) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok((tcp, client, permit))
}

struct Connection {
    client: SocketAddr,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run(self, tcp: TcpStream, security: &Security, router: Router) {
        let settings = match security {
            Security::Open(tls) => tls.open_server(),
            Security::Mutual { tls, .. } => tls.mutual_server(),
            Security::None => return self.serve(tcp, false, router).await,
        };
        let handshake = TlsAcceptor::from(settings).accept(tcp);
        let stream = match tokio::time::timeout(self.limits.handshake, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return tracing::debug!(client = %self.client, %error, "refused a TLS handshake");
            }
            Err(_) => {
                return tracing::debug!(client = %self.client, "a TLS handshake took too long");
            }
        };
        let speaks = |protocol: &str| {
            let negotiated = stream.get_ref().1.alpn_protocol();
            negotiated == Some(protocol.as_bytes())
        };
        let (http2, is_bulk) = (speaks(HTTP2), speaks(BULK));
        let served = self.serve(stream, http2 || is_bulk, router);
        match security {
            Security::Mutual { bulk, .. } if is_bulk => {
                let _ = bulk.spawn(served).await;
            }
            _ => served.await,
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        http2: bool,
        router: Router,
    ) {
        let builder = self.builder(http2);
        let client = ConnectInfo(self.client);
        let service = router.map_request(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(client);
            request.map(axum::body::Body::new)
        });
        let stream = TokioIo::new(Stalling::new(stream, self.limits.stalled));
        let connection = builder.serve_connection(stream, TowerToHyperService::new(service));
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // `serve` above waits no longer than this either; a task must not outlive it.
                match tokio::time::timeout(self.limits.drain, connection).await {
                    Ok(served) => served,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(client = %self.client, %error, "a connection broke");
        }
    }

    /// The protocol is fixed by the handshake: guessing it from the first bytes would let a silent
    /// client wait for ever before any time limit applies.
    fn builder(&self, http2: bool) -> Builder<TokioExecutor> {
        let builder = Builder::new(TokioExecutor::new());
        let mut builder = if http2 {
            builder.http2_only()
        } else {
            builder.http1_only()
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.request_head)
            .max_buf_size(BUFFER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_header_list_size(HEAD_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        builder
    }
}
