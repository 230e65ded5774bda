//! Connections to other nodes, for `tonic::transport::Endpoint::connect_with_connector` and hyper.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{BULK, HTTP2, Tls};

/// Longest wait for a connection with its handshake. Below the takeover time of 2.5 s, so that a
/// peer that swallows packets is tried again before it is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address names no host, or one that no certificate can name.
    #[error("{uri} names no host to verify")]
    NoHost {
        /// The address.
        uri: Uri,
    },
    /// No connection, or no agreement on whom to trust.
    #[error("cannot connect to {uri}")]
    Connect {
        /// The address.
        uri: Uri,
        /// The operating system's or TLS' answer.
        source: io::Error,
    },
    /// Nothing came back.
    #[error("connecting to {uri} took longer than {CONNECT_TIMEOUT:?}")]
    TimedOut {
        /// The address.
        uri: Uri,
    },
}

/// Makes mutual TLS connections with the newest certificates.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
}

impl Connector {
    /// A connector that offers HTTP/2 only, as gRPC needs.
    pub fn new(tls: &Tls) -> Self {
        Self::offering(tls, &[HTTP2])
    }

    /// The same for copies of whole stores. A node of an older version takes it for any other.
    pub fn bulk(tls: &Tls) -> Self {
        Self::offering(tls, &[BULK, HTTP2])
    }

    fn offering(tls: &Tls, protocols: &[&str]) -> Self {
        Self {
            tls: TlsConnector::from(Arc::new(tls.client(protocols))),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
        let (Some(host), port) = (uri.host(), uri.port_u16().unwrap_or(443)) else {
            return Err(ConnectError::NoHost { uri });
        };
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let Ok(name) = ServerName::try_from(host.clone()) else {
            return Err(ConnectError::NoHost { uri });
        };
        let handshake = async {
            let tcp = TcpStream::connect((host, port)).await?;
            // Heartbeats and small appends must not wait for each other.
            tcp.set_nodelay(true)?;
            self.tls.connect(name, tcp).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
            Ok(Err(source)) => Err(ConnectError::Connect { uri, source }),
            Err(_) => Err(ConnectError::TimedOut { uri }),
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
