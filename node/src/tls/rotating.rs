//! Client settings that follow rotation: made once, they verify and identify with the newest
//! generation at every handshake. Whoever holds them (an HTTP client's pool) needs not be rebuilt.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::generation::{Generation, provider};

#[derive(Debug)]
struct Newest(Arc<ArcSwap<Generation>>);

/// # Panics
/// Never: the provider supports TLS 1.3.
pub(super) fn client(generation: Arc<ArcSwap<Generation>>, protocols: &[&str]) -> ClientConfig {
    let newest = Arc::new(Newest(generation));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider supports TLS 1.3")
        // "Dangerous" is a verifier of one's own; this one only picks whose verification is used.
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&newest) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(newest);
    config.alpn_protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    // A resumed session is not verified again and would outlive the authority it was made under.
    config.resumption = Resumption::disabled();
    config
}

impl ServerCertVerifier for Newest {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.load().verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .load()
            .verifier
            .verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .load()
            .verifier
            .verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().verifier.supported_verify_schemes()
    }
}

impl ResolvesClientCert for Newest {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().identity))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
