//! Pins: upstreams that are identified by their key (RFC 7858 §4.2).
//!
//! A pin is the SHA-256 of the SubjectPublicKeyInfo in the upstream's own certificate; keys of the
//! authorities above it prove nothing here. If a name or an authority is given as well, both checks
//! must pass; if neither is, the pin alone identifies the upstream, and issuer, name and dates of
//! the certificate are ignored, as in RFC 7858. Either way the handshake proves that the upstream
//! has the key.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    SupportedCipherSuite,
};
use std::fmt;
use std::sync::Arc;

/// The key is not pinned.
#[derive(Debug)]
pub(super) struct WrongKey;

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no pin matches the key")
    }
}

impl std::error::Error for WrongKey {}

/// Returns the pin of the key in a certificate, if it is one.
pub fn pin_of(certificate: &[u8]) -> Option<[u8; 32]> {
    let certificate = CertificateDer::from(certificate);
    let key = ParsedCertificate::try_from(&certificate).ok()?.subject_public_key_info();
    let SupportedCipherSuite::Tls13(suite) = ring::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        return None;
    };
    suite.common.hash_provider.hash(&key).as_ref().try_into().ok()
}

/// Verifies that an upstream has one of the pinned keys, and any further verifier.
#[derive(Debug)]
pub(super) struct PinVerifier {
    pub(super) pins: Vec<[u8; 32]>,
    /// Further verifier; `None`: the pins alone identify the upstream.
    pub(super) besides: Option<Arc<dyn ServerCertVerifier>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = pin_of(end_entity);
        if !pin.is_some_and(|pin| self.pins.contains(&pin)) {
            let why = OtherError(Arc::new(WrongKey));
            return Err(Error::InvalidCertificate(CertificateError::Other(why)));
        }
        match &self.besides {
            None => Ok(ServerCertVerified::assertion()),
            Some(besides) => besides.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
