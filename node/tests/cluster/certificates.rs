//! Certificates as the operator gives them to the replicas of one tenant.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// An authority and one certificate of it for these hosts, as client and server.
pub(crate) fn write(directory: &Path, hosts: Vec<String>) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new(hosts).expect("parameters");
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = leaf
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .expect("signed");
    for (name, content) in [
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
        ("ca.crt", authority_certificate.pem()),
    ] {
        std::fs::write(directory.join(name), content).expect("writable");
    }
}
