//! The certificate all nodes of a tenant share: server to clients and to each other, client to each
//! other.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use percolate_crds::names;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::{Authority, CredentialError};

/// Life of a certificate, in days.
const LIFE_DAYS: u32 = 90;
/// After how much of its life it is renewed: a month is left for whatever is in the way.
const RENEW_AFTER: Duration = Duration::from_hours(24 * 60);
/// Days by which a certificate begins before it is made, for machines whose clock is behind.
const EARLY_DAYS: i64 = 1;
/// Seconds of a day.
const DAY_SECONDS: i64 = 86_400;

/// A certificate with its key.
pub struct Issued {
    /// In PEM.
    pub certificate: String,
    /// In PEM.
    pub key: String,
    /// When the next one is due.
    pub renew_at: Timestamp,
}

/// Makes a certificate for the nodes of a tenant.
pub fn issue(
    authority: &Authority,
    tenant: &str,
    namespace: &str,
    now: Timestamp,
) -> Result<Issued, CredentialError> {
    let failed = |source| CredentialError::Make {
        what: "a certificate",
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut parameters = CertificateParams::new(subjects(tenant, namespace)).map_err(failed)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("percolate node of {tenant}"));
    parameters.distinguished_name = name;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    parameters.use_authority_key_identifier_extension = true;
    set_validity(&mut parameters, now, LIFE_DAYS);
    let certificate = parameters
        .signed_by(&key, &authority.issuer()?)
        .map_err(failed)?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        renew_at: now + RENEW_AFTER,
    })
}

/// Every name under which a node of the tenant may be called.
fn subjects(tenant: &str, namespace: &str) -> Vec<String> {
    let domain = names::peer_domain(tenant, namespace);
    let services = [
        names::headless_service(tenant),
        names::read_write_service(tenant),
        names::read_only_service(tenant),
    ];
    let mut subjects = vec![format!("*.{domain}"), format!("*.{domain}.cluster.local")];
    for service in services {
        subjects.push(format!("{service}.{namespace}.svc"));
        subjects.push(format!("{service}.{namespace}.svc.cluster.local"));
        subjects.push(format!("{service}.{namespace}"));
        subjects.push(service);
    }
    subjects.push("localhost".to_owned());
    subjects.push("127.0.0.1".to_owned());
    subjects
}

/// First and last day of validity. Whole days: nobody needs a certificate to the second.
pub(super) fn set_validity(parameters: &mut CertificateParams, now: Timestamp, days: u32) {
    let day = |offset: i64| {
        let moment = Timestamp::from_second(now.as_second() + offset * DAY_SECONDS).unwrap_or(now);
        let date = moment.to_zoned(TimeZone::UTC).date();
        date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    parameters.not_before = day(-EARLY_DAYS);
    parameters.not_after = day(i64::from(days));
}
