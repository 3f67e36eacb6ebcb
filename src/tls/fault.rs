//! What rustls objects to, in the engine's few words.
//!
//! An operator can do something about a wrong name, an unknown issuer, a certificate that has
//! expired, a pin that does not match, a peer that speaks something else or refuses; everything
//! else is a broken peer or an attack, and the same to him.

use super::pins::WrongKey;
use crate::engine::errors::TlsFault;
use rustls::{CertificateError, Error};

/// What `error` means.
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

fn of_certificate(error: &CertificateError) -> TlsFault {
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
