//! Trust: authorities, and certificates that are trusted themselves.
//!
//! A certificate in an operator's file of authorities may be the peer's own: `openssl req -x509`
//! makes one that is marked as an authority, which rustls would refuse as a peer's. A certificate
//! that is byte for byte in the file needs no issuer; its name, dates and purposes are verified as
//! usual, and the handshake proves that the peer has its key.

use super::certificate::{Certificate, Purpose};
use super::fault::{self, Evidence};
use super::provider::provider;
use crate::config::ClientTls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;
use std::time::Duration;

/// Trusted authorities and certificates.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    pub(super) roots: Arc<RootCertStore>,
    /// The trusted certificates themselves, if an operator has named a file.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
}

impl Trusted {
    /// Returns true if both are the same authorities.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots && self.certificates == other.certificates
    }

    /// Verifies `certificate` if it is trusted itself; `None`: it is not.
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        purpose: Purpose,
        now: UnixTime,
    ) -> Option<Result<(), Error>> {
        let is_trusted = self.certificates.iter().any(|known| known == certificate);
        is_trusted.then(|| verify_itself(certificate, purpose, now))
    }
}

/// Verifies the dates and purposes of a certificate that needs no issuer.
fn verify_itself(
    certificate: &CertificateDer<'_>,
    purpose: Purpose,
    now: UnixTime,
) -> Result<(), Error> {
    let known = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let time = |since: Duration| UnixTime::since_unix_epoch(since);
    let (from, until) = known.validity();
    let seconds = Duration::from_secs(now.as_secs());
    if seconds < from {
        return Err(
            CertificateError::NotValidYetContext { time: now, not_before: time(from) }.into()
        );
    }
    if seconds > until {
        return Err(CertificateError::ExpiredContext { time: now, not_after: time(until) }.into());
    }
    if !known.is_for(purpose) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

/// Returns the error of a certificate that was refused with `error`: rustls reports an authority's
/// certificate used as an end entity's, but the cause is that it is not trusted.
fn refused(certificate: &CertificateDer<'_>, error: Error) -> Error {
    let is_authority = || Certificate::read(certificate).is_some_and(|known| known.is_authority());
    match error {
        Error::InvalidCertificate(CertificateError::Other(_)) if is_authority() => {
            CertificateError::UnknownIssuer.into()
        }
        error => error,
    }
}

/// Verifies upstreams' certificates.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trusted: Trusted,
    pub(super) issued: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.trusted.verify(certificate, Purpose::Server, now) {
            None => self
                .issued
                .verify_server_cert(certificate, intermediates, name, ocsp, now)
                .map_err(|error| refused(certificate, error)),
            Some(verified) => {
                verified?;
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies as `inner` does, and keeps the reason why a certificate was refused.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) tls: Arc<ClientTls>,
    pub(super) evidence: Arc<Evidence>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now);
        if let Err(Error::InvalidCertificate(error)) = &verified {
            let expected = name.to_str();
            let text = fault::of_refused(certificate, error, &self.tls, (&expected, now));
            self.evidence.keep(fault::of_certificate(error), text);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies clients' certificates.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) trusted: Trusted,
    pub(super) issued: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.issued.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.trusted.verify(certificate, Purpose::Client, now) {
            None => self
                .issued
                .verify_client_cert(certificate, intermediates, now)
                .map_err(|error| refused(certificate, error)),
            Some(verified) => verified.map(|()| ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}
