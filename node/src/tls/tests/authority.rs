//! Certificate authorities for tests, and directories as a node finds them.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::tls::Tls;

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

pub(super) enum Expiry {
    Never,
    Passed,
}

/// A directory with `tls.crt`, `tls.key` and `ca.crt`.
pub(super) struct Files(TempDir);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// The files of a node that this authority vouches for.
    pub(super) fn node(&self, expiry: &Expiry) -> Files {
        let names = ["*.acme.tenants.svc", "localhost"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if matches!(expiry, Expiry::Passed) {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let files = Files(tempfile::tempdir().unwrap());
        files.write("tls.crt", Some(certificate.pem().as_bytes()));
        files.write("tls.key", Some(key.serialize_pem().as_bytes()));
        files.trusting(self)
    }
}

impl Files {
    pub(super) fn load(&self) -> Tls {
        Tls::load(self.0.path()).unwrap()
    }

    /// The same node, trusting another authority.
    pub(super) fn trusting(self, authority: &Authority) -> Self {
        self.write("ca.crt", Some(authority.0.pem().as_bytes()));
        self
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// `None` removes the file.
    pub(super) fn write(&self, name: &str, content: Option<&[u8]>) {
        let path = self.0.path().join(name);
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    pub(super) fn copy_to(&self, directory: &Path) {
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            fs::write(directory.join(name), self.read(name)).unwrap();
        }
    }

    pub(super) fn replace(&self, other: &Self) {
        self.copy_to(other.0.path());
    }
}
