//! One generation of certificates: what stands in the directory, verified to belong together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::{BULK, HTTP2};

/// This node's certificate, followed by what leads to the authority.
const CERTIFICATE: &str = "tls.crt";
/// The certificate's private key.
const KEY: &str = "tls.key";
/// Every authority to trust; two while one replaces the other.
const AUTHORITY: &str = "ca.crt";

/// The link that a Kubernetes volume exchanges to deliver all of a Secret's new files at once.
const VOLUME_DATA: &str = "..data";

/// What servers offer by ALPN, best first; the first of them to other nodes only.
const SERVED_PROTOCOLS: [&str; 3] = [BULK, HTTP2, "http/1.1"];

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or unreadable.
    #[error("cannot read {path}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("cannot parse {file}")]
    ParsePem {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("there is no certificate in {file}")]
    NoCertificate {
        /// Its name.
        file: &'static str,
    },
    /// Certificate, key and authority cannot be used together.
    #[error("cannot use the certificates")]
    UseCertificates {
        /// What is wrong.
        source: rustls::Error,
    },
    /// The authority cannot be trusted to verify anything.
    #[error("cannot verify with the authorities in {AUTHORITY}")]
    BuildVerifier {
        /// What is wrong.
        source: rustls::client::VerifierBuilderError,
    },
}

/// The three files' bytes, read together.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

impl Files {
    pub(super) fn read(directory: &Path) -> Result<Self, TlsError> {
        // Resolve the volume's link once: reading through it could mix two deliveries.
        let directory =
            fs::canonicalize(directory.join(VOLUME_DATA)).unwrap_or_else(|_| directory.to_owned());
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map_err(|source| TlsError::ReadFile { path, source })
        };
        Ok(Self {
            certificate: read(CERTIFICATE)?,
            key: read(KEY)?,
            authority: read(AUTHORITY)?,
        })
    }
}

/// Usable settings made of one reading of the files.
pub(super) struct Generation {
    pub(super) files: Files,
    /// For servers that take any client.
    pub(super) open: Arc<ServerConfig>,
    /// For servers that take only clients of the same authority.
    pub(super) mutual: Arc<ServerConfig>,
    /// This node's certificate, as a client.
    pub(super) identity: Arc<CertifiedKey>,
    /// How a client verifies servers.
    pub(super) verifier: Arc<WebPkiServerVerifier>,
}

/// Not the files: one of them is a private key.
impl std::fmt::Debug for Generation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Generation").finish_non_exhaustive()
    }
}

impl Generation {
    pub(super) fn build(files: Files) -> Result<Self, TlsError> {
        let provider = provider();
        let chain = certificates(CERTIFICATE, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|source| TlsError::ParsePem { file: KEY, source })?;
        let identity = CertifiedKey::from_der(chain, key, &provider).map_err(unusable)?;
        let identity = Arc::new(identity);
        let mut roots = RootCertStore::empty();
        for authority in certificates(AUTHORITY, &files.authority)? {
            roots.add(authority).map_err(unusable)?;
        }
        let roots = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|source| TlsError::BuildVerifier { source })?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|source| TlsError::BuildVerifier { source })?;
        let server = |mutual| {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(unusable)?;
            let builder = if mutual {
                builder.with_client_cert_verifier(Arc::clone(&clients))
            } else {
                builder.with_no_client_auth()
            };
            let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(
                CertifiedKey::clone(&identity),
            )));
            let served = SERVED_PROTOCOLS.into_iter();
            let served = served.filter(|protocol| mutual || *protocol != BULK);
            config.alpn_protocols = served.map(Vec::from).collect();
            Ok(Arc::new(config))
        };
        let (open, mutual) = (server(false)?, server(true)?);
        Ok(Self {
            files,
            open,
            mutual,
            identity,
            verifier,
        })
    }
}

/// The one crypto provider, named at each use: nothing depends on which is installed as default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::ParsePem { file, source })?;
    if certificates.is_empty() {
        Err(TlsError::NoCertificate { file })
    } else {
        Ok(certificates)
    }
}

fn unusable(source: rustls::Error) -> TlsError {
    TlsError::UseCertificates { source }
}
