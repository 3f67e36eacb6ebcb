//! Certificates in messages for operators: subject, issuer, names, purposes and dates.
//!
//! Verification of sessions is rustls's business; this is for messages about a certificate and for
//! those that are trusted themselves ([`super::trust`]). Text in a certificate may come from an
//! untrusted peer: it is made printable and bounded here.

use rustls::pki_types::CertificateDer;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::time::Duration;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Reader, SliceReader};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Maximum number of characters shown of one text in a certificate.
const SHOWN_MAX: usize = 128;
/// Maximum number of names that are listed of a certificate; more would be no help.
const NAMES_MAX: usize = 8;

/// Purpose of a certificate (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Server,
    Client,
}

impl Purpose {
    fn identifier(self) -> ObjectIdentifier {
        match self {
            Self::Server => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
            Self::Client => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
        }
    }
}

/// A parsed certificate.
pub(super) struct Certificate(x509_cert::Certificate);

impl Certificate {
    /// Parses `der`; `None`: it is no certificate.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        x509_cert::Certificate::from_der(der).ok().map(Self)
    }

    /// Returns the subject, printable.
    pub(super) fn subject(&self) -> String {
        printable(&self.0.tbs_certificate().subject().to_string())
    }

    /// Returns the issuer, printable.
    pub(super) fn issuer(&self) -> String {
        printable(&self.0.tbs_certificate().issuer().to_string())
    }

    /// Returns true if subject and issuer are the same.
    pub(super) fn is_of_itself(&self) -> bool {
        self.0.tbs_certificate().subject() == self.0.tbs_certificate().issuer()
    }

    /// Returns true if it is marked as an authority's.
    pub(super) fn is_authority(&self) -> bool {
        let constraints = self.0.tbs_certificate().get_extension::<BasicConstraints>();
        constraints.is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))
    }

    /// The first and the last second of its validity, since 1970.
    pub(super) fn validity(&self) -> (Duration, Duration) {
        let validity = self.0.tbs_certificate().validity();
        (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration())
    }

    /// Returns true if it may be used for `purpose`: it lists the purpose or lists none.
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        let purposes = self.0.tbs_certificate().get_extension::<ExtendedKeyUsage>();
        let fits =
            |known: &ObjectIdentifier| *known == purpose.identifier() || *known == ANY_PURPOSE;
        match purposes {
            Ok(None) => true,
            Ok(Some((_, purposes))) => purposes.0.iter().any(fits),
            Err(_) => false,
        }
    }

    /// Returns the names and addresses that it is valid for, a bounded number of them, printable.
    pub(super) fn names(&self) -> String {
        let names = match self.0.tbs_certificate().get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0,
            _ => Vec::new(),
        };
        let names: Vec<_> = names.iter().filter_map(name).collect();
        let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
        match names.len() {
            0 => "no name (its subjectAltName has none)".to_owned(),
            count if count > NAMES_MAX => format!("{shown} and {} more", count - NAMES_MAX),
            _ => shown,
        }
    }

    /// Returns the domain names that it is valid for.
    pub(super) fn dns_names(&self) -> Vec<String> {
        let names = match self.0.tbs_certificate().get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0,
            _ => Vec::new(),
        };
        let dns_name = |name: GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        };
        names.into_iter().filter_map(dns_name).collect()
    }

    /// Returns the bits of its key, if that is RSA.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        let key = self.0.tbs_certificate().subject_public_key_info();
        if key.algorithm.oid != RSA {
            return None;
        }
        let mut reader = SliceReader::new(key.subject_public_key.as_bytes()?).ok()?;
        // SEQUENCE { modulus, publicExponent } (RFC 8017 §A.1.1)
        let modulus = reader.sequence(|inner| {
            let modulus = UintRef::decode(inner)?;
            UintRef::decode(inner)?;
            Ok::<_, x509_cert::der::Error>(modulus.as_bytes().len() * 8)
        });
        modulus.ok()
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(printable(name.as_str())),
        GeneralName::IpAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(bytes.as_bytes()).map(IpAddr::from);
            v4.or(v6).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// A time since 1970, in UTC and to the second (RFC 3339).
pub(super) struct Shown(pub(super) Duration);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match x509_cert::der::DateTime::from_unix_duration(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} s after 1970", self.0.as_secs()),
        }
    }
}

/// Returns `text`, which comes from a peer, in printable ASCII and cut to [`SHOWN_MAX`] characters.
pub(super) fn printable(text: &str) -> String {
    let is_plain = |c: char| matches!(c, ' '..='~');
    text.chars().take(SHOWN_MAX).map(|c| if is_plain(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn untrusted_text_is_printable_and_bounded() {
        assert_eq!(printable("a\n\u{202e}b"), "a??b");
        assert_eq!(printable(&"x".repeat(1 << 16)).len(), 128);
    }
}
