//! The authority that signs a tenant's certificates, and how it is replaced.
//!
//! ```text
//! one ──two thirds of its life──▶ next made, both trusted ──a day──▶ next signs, both trusted
//!  ▲                                                                        │
//!  └────────────────────────────── a day: the old one is forgotten ◀────────┘
//! ```
//!
//! Each step is taken by [`advance`], which is told the time; `renew_at` says when the next is due.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{CredentialError, certificate::set_validity};

/// Life of an authority, in days.
const LIFE_DAYS: u32 = 3650;
/// After how much of its life it is replaced.
const RENEW_AFTER: Duration = Duration::from_hours(24 * 2433);
/// Time between two steps of a replacement: far longer than any node needs to see new files.
const STEP: Duration = Duration::from_hours(24);

/// The authority of a tenant, with its coming or former one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The one that signs.
    pub signing: Identity,
    /// The one that will sign; trusted already.
    pub next: Option<Identity>,
    /// The certificate of the one that signed; still trusted.
    pub previous: Option<String>,
    /// When the next step is due.
    pub renew_at: Timestamp,
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    /// Never the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads what [`Authority::to_secret`] wrote.
    pub fn from_secret(
        name: &str,
        data: &BTreeMap<String, String>,
        renew_at: Option<Timestamp>,
    ) -> Result<Self, CredentialError> {
        let damaged = |key: &'static str| CredentialError::Damaged {
            name: name.to_owned(),
            key,
        };
        let text = |key: &'static str| data.get(key).cloned();
        let next = match (text("next.crt"), text("next.key")) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            _ => return Err(damaged("next.crt")),
        };
        Ok(Self {
            signing: Identity {
                certificate: text("ca.crt").ok_or_else(|| damaged("ca.crt"))?,
                key: text("ca.key").ok_or_else(|| damaged("ca.key"))?,
            },
            next,
            previous: text("previous.crt"),
            // A lost annotation makes the next step due, which is harmless at any time.
            renew_at: renew_at.unwrap_or(Timestamp::MIN),
        })
    }

    /// What is kept of it.
    pub fn to_secret(&self) -> BTreeMap<&'static str, String> {
        let mut data = BTreeMap::from([
            ("ca.crt", self.signing.certificate.clone()),
            ("ca.key", self.signing.key.clone()),
        ]);
        if let Some(next) = &self.next {
            data.insert("next.crt", next.certificate.clone());
            data.insert("next.key", next.key.clone());
        }
        if let Some(previous) = &self.previous {
            data.insert("previous.crt", previous.clone());
        }
        data
    }

    /// Every certificate to trust now, the signing one first.
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(|identity| &identity.certificate);
        let trusted = std::iter::once(&self.signing.certificate)
            .chain(next)
            .chain(&self.previous);
        trusted.fold(String::new(), |bundle, certificate| {
            bundle + certificate.trim_end() + "\n"
        })
    }

    /// For signing.
    pub fn issuer(&self) -> Result<Issuer<'static, KeyPair>, CredentialError> {
        let failed = |source| CredentialError::Make {
            what: "an issuer of the stored authority",
            source,
        };
        let key = KeyPair::from_pem(&self.signing.key).map_err(failed)?;
        Issuer::from_ca_cert_pem(&self.signing.certificate, key).map_err(failed)
    }
}

/// Takes the step that is due, if one is. Tells whether anything has changed.
pub fn advance(
    state: Option<Authority>,
    tenant: &str,
    now: Timestamp,
) -> Result<(Authority, bool), CredentialError> {
    let Some(mut authority) = state else {
        let first = Authority {
            signing: make(tenant, now)?,
            next: None,
            previous: None,
            renew_at: now + RENEW_AFTER,
        };
        return Ok((first, true));
    };
    if authority.renew_at > now {
        return Ok((authority, false));
    }
    if let Some(next) = authority.next.take() {
        authority.previous = Some(authority.signing.certificate);
        authority.signing = next;
        authority.renew_at = now + STEP;
    } else if authority.previous.take().is_some() {
        authority.renew_at = now + RENEW_AFTER;
    } else {
        authority.next = Some(make(tenant, now)?);
        authority.renew_at = now + STEP;
    }
    Ok((authority, true))
}

fn make(tenant: &str, now: Timestamp) -> Result<Identity, CredentialError> {
    let failed = |source| CredentialError::Make {
        what: "an authority",
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut parameters = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        format!("percolate {tenant} {}", now.as_second()),
    );
    parameters.distinguished_name = name;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut parameters, now, LIFE_DAYS);
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Ok(Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
    }

    #[test]
    fn an_authority_is_replaced_while_old_and_new_are_both_trusted() {
        let (first, made) = advance(None, "acme", at(0)).unwrap();
        assert!(made);
        let (same, changed) = advance(Some(first.clone()), "acme", at(2000)).unwrap();
        assert!(!changed);
        assert_eq!(same, first);

        let (both, _) = advance(Some(first.clone()), "acme", at(2433)).unwrap();
        assert_eq!(both.signing, first.signing);
        let new = both.next.clone().unwrap();
        assert!(both.bundle().contains(first.signing.certificate.trim()));
        assert!(both.bundle().contains(new.certificate.trim()));

        let (switched, _) = advance(Some(both), "acme", at(2434)).unwrap();
        assert_eq!(switched.signing, new);
        assert_eq!(switched.previous.as_ref(), Some(&first.signing.certificate));
        assert!(switched.bundle().contains(first.signing.certificate.trim()));

        let (done, _) = advance(Some(switched), "acme", at(2435)).unwrap();
        assert_eq!(done.bundle().trim(), new.certificate.trim());
        assert!(done.renew_at > at(2435 + 2400));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (first, _) = advance(None, "acme", at(0)).unwrap();
        let (both, _) = advance(Some(first), "acme", at(2433)).unwrap();
        let data = both
            .to_secret()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let read = Authority::from_secret("acme-ca", &data, Some(both.renew_at)).unwrap();
        assert_eq!(read, both);
        assert!(!format!("{read:?}").contains("PRIVATE"));
    }
}
