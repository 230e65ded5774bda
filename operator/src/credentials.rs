//! A tenant's own authority, its nodes' certificate, and its administrator's token.
//!
//! ```text
//! <tenant>-ca    ca.crt ca.key [next.crt next.key] [previous.crt]   only the operator reads it
//! <tenant>-tls   tls.crt tls.key ca.crt(bundle)                     mounted by the nodes
//! <tenant>-admin token ca.crt(bundle) endpoint                      for people and programs
//! ```
//!
//! Everything is renewed long before it ends, and without a restart: nodes read the files again. An
//! authority is replaced in three steps a day apart (both trusted, then the new one signs, then the
//! old one is forgotten), so that at every moment every node trusts every other one. Whether
//! anything is due is decided from annotations alone; keys are read only when something is.

pub mod authority;
pub mod certificate;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use percolate_crds::names;

pub use authority::Authority;

use crate::{
    controller::{
        apply,
        desired::{self, metadata},
        observe::{ChildKind, Observed, read::child},
        validate::Tenant,
    },
    error::ReconcileError,
};

/// Random bytes of an administrator's token.
const TOKEN_BYTES: usize = 32;

/// Credentials that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Making a key or certificate failed.
    #[error("could not make {what}")]
    Make {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A Secret of ours was changed by somebody.
    #[error("secret {name:?} has no usable {key:?}: delete the secret to have it made anew")]
    Damaged {
        /// Which.
        name: String,
        /// The key in it.
        key: &'static str,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
}

/// Whether anything has to be made or renewed. From metadata alone.
pub fn is_due(tenant: &Tenant, observed: &Observed, now: Timestamp) -> bool {
    let find = |name: String| observed.children.get(&(ChildKind::Secret, name));
    let (Some(authority), Some(certificate), Some(admin)) = (
        find(names::authority_secret(&tenant.name)),
        find(names::certificate_secret(&tenant.name)),
        find(names::admin_secret(&tenant.name)),
    ) else {
        return true;
    };
    let expired = |renew_at: Option<Timestamp>| renew_at.is_none_or(|at| at <= now);
    expired(authority.renew_at)
        || expired(certificate.renew_at)
        || authority.authority.is_none()
        || certificate.authority != authority.authority
        || admin.authority != authority.authority
}

/// When something will be due next.
pub fn next_due(tenant: &Tenant, observed: &Observed) -> Option<Timestamp> {
    [
        names::authority_secret(&tenant.name),
        names::certificate_secret(&tenant.name),
    ]
    .into_iter()
    .filter_map(|name| observed.children.get(&(ChildKind::Secret, name))?.renew_at)
    .min()
}

/// Makes and renews what is due.
pub async fn renew(client: &Client, tenant: &Tenant, now: Timestamp) -> Result<(), ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &tenant.namespace);
    let authority = renew_authority(&secrets, tenant, now).await?;
    let bundle = authority.bundle();
    let trusted = desired::hash_of(&bundle);
    renew_certificate(&secrets, tenant, &authority, &trusted, now).await?;
    renew_admin(&secrets, tenant, &bundle, &trusted).await
}

async fn renew_authority(
    secrets: &Api<Secret>,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Authority, ReconcileError> {
    let name = names::authority_secret(&tenant.name);
    let present = read(secrets, tenant, &name).await?;
    let state = match &present {
        Some(secret) => Some(Authority::from_secret(
            &name,
            &texts(secret),
            renew_at(secret),
        )?),
        None => None,
    };
    let (authority, changed) = authority::advance(state, &tenant.name, now)?;
    if changed {
        let annotations = [
            (names::RENEW_AT_ANNOTATION, authority.renew_at.to_string()),
            (
                names::AUTHORITY_ANNOTATION,
                desired::hash_of(&authority.bundle()),
            ),
        ];
        let secret = make(tenant, name, annotations, authority.to_secret());
        write(secrets, secret, present.as_ref()).await?;
    }
    Ok(authority)
}

async fn renew_certificate(
    secrets: &Api<Secret>,
    tenant: &Tenant,
    authority: &Authority,
    trusted: &str,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let name = names::certificate_secret(&tenant.name);
    let present = read(secrets, tenant, &name).await?;
    let good = present.as_ref().is_some_and(|secret| {
        annotation(secret, names::AUTHORITY_ANNOTATION) == Some(trusted)
            && renew_at(secret).is_some_and(|at| at > now)
    });
    if good {
        return Ok(());
    }
    let issued = certificate::issue(authority, &tenant.name, &tenant.namespace, now)?;
    let annotations = [
        (names::RENEW_AT_ANNOTATION, issued.renew_at.to_string()),
        (names::AUTHORITY_ANNOTATION, trusted.to_owned()),
    ];
    let data = BTreeMap::from([
        ("tls.crt", issued.certificate),
        ("tls.key", issued.key),
        ("ca.crt", authority.bundle()),
    ]);
    write(
        secrets,
        make(tenant, name, annotations, data),
        present.as_ref(),
    )
    .await
}

async fn renew_admin(
    secrets: &Api<Secret>,
    tenant: &Tenant,
    bundle: &str,
    trusted: &str,
) -> Result<(), ReconcileError> {
    let name = names::admin_secret(&tenant.name);
    let present = read(secrets, tenant, &name).await?;
    let good = present
        .as_ref()
        .is_some_and(|secret| annotation(secret, names::AUTHORITY_ANNOTATION) == Some(trusted));
    if good {
        return Ok(());
    }
    let kept = present
        .as_ref()
        .and_then(|secret| texts(secret).remove("token"))
        .filter(|token| !token.is_empty());
    let token = match kept {
        Some(token) => token,
        None => random_token()?,
    };
    let data = BTreeMap::from([
        ("token", token),
        ("ca.crt", bundle.to_owned()),
        ("endpoint", names::endpoint(&tenant.name, &tenant.namespace)),
    ]);
    let annotations = [(names::AUTHORITY_ANNOTATION, trusted.to_owned())];
    write(
        secrets,
        make(tenant, name, annotations, data),
        present.as_ref(),
    )
    .await
}

fn random_token() -> Result<String, CredentialError> {
    use rand::TryRngCore as _;

    let mut bytes = [0_u8; TOKEN_BYTES];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| CredentialError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads a Secret and refuses one that is not this tenant's.
async fn read(
    secrets: &Api<Secret>,
    tenant: &Tenant,
    name: &str,
) -> Result<Option<Secret>, ReconcileError> {
    let present = secrets
        .get_opt(name)
        .await
        .map_err(ReconcileError::call(format!("read secret {name}")))?;
    if let Some(secret) = &present {
        apply::check_owner(tenant, "Secret", name, &child(secret))?;
    }
    Ok(present)
}

fn make<const N: usize>(
    tenant: &Tenant,
    name: String,
    annotations: [(&str, String); N],
    data: BTreeMap<&'static str, String>,
) -> Secret {
    let mut metadata = metadata(tenant, name);
    metadata.annotations = Some(
        annotations
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    );
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(
            data.into_iter()
                .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// Writes a Secret over exactly the version that was read.
async fn write(
    secrets: &Api<Secret>,
    mut secret: Secret,
    present: Option<&Secret>,
) -> Result<(), ReconcileError> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    secret.metadata.resource_version =
        present.and_then(|present| present.metadata.resource_version.clone());
    secrets
        .patch(
            &name,
            &PatchParams::apply(names::MANAGED_BY).force(),
            &Patch::Apply(&secret),
        )
        .await
        .map_err(ReconcileError::call(format!("write secret {name}")))?;
    Ok(())
}

fn texts(secret: &Secret) -> BTreeMap<String, String> {
    secret
        .data
        .iter()
        .flatten()
        .filter_map(|(key, bytes)| Some((key.clone(), String::from_utf8(bytes.0.clone()).ok()?)))
        .collect()
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

fn renew_at(secret: &Secret) -> Option<Timestamp> {
    annotation(secret, names::RENEW_AT_ANNOTATION)?.parse().ok()
}
