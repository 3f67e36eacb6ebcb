//! Errors of rustls, as the engine's fault and as text for the operator.
//!
//! An operator can fix a wrong name, an unknown issuer, an expired certificate, a pin that does not
//! match, a peer with another protocol or one that refuses; everything else is a broken peer or an
//! attack, and needs no distinction. The few faults are counted; the message with names, dates and
//! alerts is kept as [`Evidence`] of the upstream's latest failure.

use super::certificate::{Certificate, Shown, printable};
use super::pins::WrongKey;
use crate::config::ClientTls;
use crate::engine::errors::TlsFault;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Text of the latest TLS failure of one upstream.
#[derive(Debug, Default)]
pub(super) struct Evidence(Mutex<Option<(TlsFault, String)>>);

impl Evidence {
    /// Replaces the text by `text` about `fault`.
    pub(super) fn keep(&self, fault: TlsFault, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((fault, text));
    }

    /// Returns the text, if the latest failure was `fault`.
    pub(super) fn of(&self, fault: TlsFault) -> Option<String> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|(kept, _)| *kept == fault).map(|(_, text)| text.clone())
    }
}

/// Returns the text about an upstream's `certificate` that was refused with `error`.
pub(super) fn of_refused(
    certificate: &CertificateDer<'_>,
    error: &CertificateError,
    tls: &ClientTls,
    (expected, now): (&str, UnixTime),
) -> String {
    let fault = of_certificate(error);
    let Some(known) = Certificate::read(certificate) else {
        return format!("{REFUSED}: the certificate is not valid X.509 ({error})");
    };
    let (from, until) = known.validity();
    let now = Duration::from_secs(now.as_secs());
    let days = |span: Duration| span.as_secs() / 86_400;
    let why = match fault {
        TlsFault::WrongName => format!(
            "the certificate is valid for {}, not for {expected} (the name of tls_servername, \
             else the upstream's host name or address)",
            known.names()
        ),
        TlsFault::UnknownIssuer if known.is_of_itself() => format!(
            "signed by unknown authority: the certificate is self-signed ('{}'); put it into the \
             CA file of 'tls', or its key into 'tls_pin'",
            known.subject()
        ),
        TlsFault::UnknownIssuer => format!(
            "signed by unknown authority '{}', which {}; put the authority's certificate into the \
             CA file of 'tls', or the key of the upstream's certificate into 'tls_pin'",
            known.issuer(),
            match &tls.authorities {
                Some(file) => format!("{} does not have", file.path),
                None => "this system does not trust".to_owned(),
            }
        ),
        TlsFault::Expired => {
            format!(
                "the certificate expired at {}, {} days ago",
                Shown(until),
                days(now.saturating_sub(until))
            )
        }
        TlsFault::NotYetValid => {
            let ahead = days(from.saturating_sub(now));
            format!("the certificate is not valid before {}, in {ahead} days", Shown(from))
        }
        TlsFault::WrongKey => {
            let pin = super::pins::pin_of(certificate)
                .map_or_else(String::new, |pin| format!(", which is {}", crate::config::Pin(&pin)));
            format!("no tls_pin matches the key of the certificate{pin}")
        }
        _ => reason_of(error),
    };
    format!("{REFUSED}: {why}")
}

const REFUSED: &str = "tls: failed to verify certificate";

/// Returns the reason why a certificate is invalid, if neither its names nor its dates are.
fn reason_of(error: &CertificateError) -> String {
    match error {
        CertificateError::BadEncoding => "the certificate is malformed".to_owned(),
        CertificateError::BadSignature => {
            "a signature in the certificate chain is wrong".to_owned()
        }
        CertificateError::Revoked => "the certificate is revoked".to_owned(),
        CertificateError::UnhandledCriticalExtension => {
            "the certificate has an unknown critical extension".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers (extended key usage)".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a signature in the certificate chain has an unsupported algorithm or key (supported: \
             RSA with 2048 to 8192 bits, P-256, P-384, P-521, Ed25519; not SHA-1)"
                .to_owned()
        }
        other => printable(&other.to_string()),
    }
}

/// Returns the text about a handshake that failed with `error`, if it is more specific than the
/// fault.
pub(super) fn of_handshake(error: &Error) -> Option<String> {
    match error {
        Error::AlertReceived(alert) => {
            let hint = match alert {
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied => {
                    " (it may require a client certificate: 'tls CERT KEY')"
                }
                AlertDescription::UnrecognisedName => " (tls_servername sets the requested name)",
                _ => "",
            };
            let (name, number) = (alert_name(*alert), u8::from(*alert));
            Some(format!("tls: the peer refused the handshake: alert {name} ({number}){hint}"))
        }
        Error::PeerIncompatible(why) => {
            Some(format!("tls: no protocol version, cipher or ALPN in common: {why:?}"))
        }
        Error::NoApplicationProtocol => {
            Some("tls: no ALPN in common: the peer does not support 'dot'".to_owned())
        }
        Error::PeerMisbehaved(why) => Some(format!("tls: the peer violated the protocol: {why:?}")),
        Error::InvalidCertificate(error) => Some(format!("{REFUSED}: {}", reason_of(error))),
        Error::NoCertificatesPresented => Some(format!("{REFUSED}: the peer sent no certificate")),
        _ => None,
    }
}

/// Returns the name of an alert as in RFC 8446 §6.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut was_upper = true;
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !was_upper {
            name.push('_');
        }
        was_upper = letter.is_ascii_uppercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

pub(super) fn fault_of(error: &Error) -> TlsFault {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => TlsFault::Certificate,
        Error::InvalidMessage(_) => TlsFault::NotTls,
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            TlsFault::Broken
        }
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsFault::Incompatible,
        Error::AlertReceived(_) => TlsFault::Refused,
        _ => TlsFault::Broken,
    }
}

pub(super) fn of_certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFault::NotYetValid
        }
        CertificateError::Other(other) if other.0.is::<WrongKey>() => TlsFault::WrongKey,
        _ => TlsFault::Certificate,
    }
}

#[cfg(test)]
mod tests {
    use super::{Evidence, alert_name, of_handshake};
    use crate::engine::errors::TlsFault;
    use rustls::{AlertDescription, CertificateError, Error};

    #[test]
    fn an_alert_has_its_name_number_and_advice() {
        let said = |alert| of_handshake(&Error::AlertReceived(alert)).unwrap();
        let required = said(AlertDescription::CertificateRequired);
        assert!(
            required.contains("alert certificate_required (116) (it may require"),
            "{required}"
        );
        let failure = said(AlertDescription::HandshakeFailure);
        assert_eq!(failure, "tls: the peer refused the handshake: alert handshake_failure (40)");
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::UnknownPSKIdentity), "unknown_pskidentity");
    }

    #[test]
    fn every_other_reason_has_a_text() {
        let error = Error::InvalidCertificate(CertificateError::InvalidPurpose);
        let said = of_handshake(&error).unwrap();
        assert!(
            said.ends_with("certificate: the certificate is not for servers (extended key usage)"),
            "{said}"
        );
    }

    #[test]
    fn evidence_is_of_the_latest_failure_alone() {
        let evidence = Evidence::default();
        evidence.keep(TlsFault::Expired, "old".into());
        assert_eq!(evidence.of(TlsFault::Expired).as_deref(), Some("old"));
        evidence.keep(TlsFault::WrongName, "other".into());
        assert_eq!(evidence.of(TlsFault::Expired), None);
    }
}
