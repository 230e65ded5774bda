//! The keys of a cluster: one authority, one server certificate, one client certificate per
//! component, and the key that signs service-account tokens.
//!
//! Every component has its own user name, so that the audit log tells who wrote what.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::address::{API_SERVICE_ADDRESS, BRIDGE_ADDRESS, Node};
use super::config;
use super::layout::Layout;

/// The authority that signed everything.
pub(super) const AUTHORITY: &str = "ca.crt";
/// The authority's key; only the controller manager, which signs requests with it, reads it.
pub(super) const AUTHORITY_KEY: &str = "ca.key";
/// What the API server shows its clients.
pub(super) const SERVER: &str = "kube-apiserver.crt";
/// Its key.
pub(super) const SERVER_KEY: &str = "kube-apiserver.key";
/// What the API server shows to kubelets.
pub(super) const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client.crt";
/// Its key.
pub(super) const KUBELET_CLIENT_KEY: &str = "kube-apiserver-kubelet-client.key";
/// Signs service-account tokens.
pub(super) const SERVICE_ACCOUNT_KEY: &str = "service-account.key";

/// Checks service-account tokens.
pub(super) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-account.pub";

/// Who calls the API server: name of the kubeconfig, user and group.
const USERS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "kubernetes-admin", Some("system:masters")),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    ),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    // The two below run on the host with an administrator's rights: what they may do is not under test.
    ("coredns", "percolate:coredns", Some("system:masters")),
    (
        "local-path-provisioner",
        "percolate:local-path-provisioner",
        Some("system:masters"),
    ),
];

/// An authority that signs for one cluster.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority and writes all keys and kubeconfigs of the control plane and `nodes`.
    pub(super) fn create(layout: &Layout, nodes: &[Node]) -> Result<()> {
        fs::create_dir_all(layout.keys()).context("cannot create the directory of keys")?;
        let authority = Self::generate()?;
        let keys = layout.keys();
        write_public(&keys.join(AUTHORITY), &authority.issuer.pem())?;
        write_secret(
            &keys.join(AUTHORITY_KEY),
            &authority.issuer.key().serialize_pem(),
        )?;
        // Kubernetes does not take the public half from a PKCS #8 file of an elliptic-curve key.
        let service_account = KeyPair::generate()?;
        write_secret(
            &keys.join(SERVICE_ACCOUNT_KEY),
            &service_account.serialize_pem(),
        )?;
        write_public(
            &keys.join(SERVICE_ACCOUNT_PUBLIC_KEY),
            &service_account.public_key_pem(),
        )?;
        authority.write_pair(&keys, SERVER, SERVER_KEY, &server()?)?;
        let kubelet_client = client("kube-apiserver-kubelet-client", Some("system:masters"));
        authority.write_pair(&keys, KUBELET_CLIENT, KUBELET_CLIENT_KEY, &kubelet_client)?;
        for (file, user, group) in USERS {
            authority.write_kubeconfig(&layout.kubeconfig_of(file), user, group)?;
        }
        for node in nodes {
            let user = format!("system:node:{node}");
            let file = layout.kubeconfig_of(&node.to_string());
            authority.write_kubeconfig(&file, &user, Some("system:nodes"))?;
        }
        fs::copy(layout.kubeconfig_of("admin"), layout.kubeconfig())?;
        Ok(())
    }

    fn generate() -> Result<Self> {
        let mut params = named("percolate-e2e", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    fn sign(&self, params: &CertificateParams) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn write_pair(
        &self,
        keys: &Path,
        certificate_file: &str,
        key_file: &str,
        params: &CertificateParams,
    ) -> Result<()> {
        let (certificate, key) = self.sign(params)?;
        write_public(&keys.join(certificate_file), &certificate)?;
        write_secret(&keys.join(key_file), &key)
    }

    fn write_kubeconfig(&self, file: &Path, user: &str, group: Option<&str>) -> Result<()> {
        let (certificate, key) = self.sign(&client(user, group))?;
        let kubeconfig = config::kubeconfig(&self.issuer.pem(), user, &certificate, &key);
        write_secret(file, &kubeconfig)
    }
}

fn named(common_name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.use_authority_key_identifier_extension = true;
    params
}

fn client(user: &str, group: Option<&str>) -> CertificateParams {
    let mut params = named(user, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn server() -> Result<CertificateParams> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        &BRIDGE_ADDRESS.to_string(),
        &API_SERVICE_ADDRESS.to_string(),
    ]
    .map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("kube-apiserver", None).distinguished_name;
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn write_public(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn write_secret(file: &Path, text: &str) -> Result<()> {
    const OWNER_ONLY: u32 = 0o600;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(OWNER_ONLY)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}
