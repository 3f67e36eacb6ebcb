//! TLS of connections to upstreams over QUIC (RFC 9001): the settings, and what became of them.
//!
//! The library of QUIC runs the handshake and reports an alert at most. The verifier of an
//! upstream's certificate notes its verdict, which says more; without a verdict, an earlier session
//! was resumed. rustls resumes sessions only under the verifier that has accepted them, so all
//! connections of a thread to an upstream share one, and each [`Handshake`] takes its verdict after
//! each packet. Early data is never offered, because it can be replayed.

use super::fault::{self, Evidence, of_handshake};
use crate::engine::errors::TlsFault;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    SignatureScheme,
};
use std::sync::{Arc, Mutex, PoisonError};

type Verdict = Result<(), TlsFault>;

/// The verdict on a certificate, until the connection takes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts(Arc<Mutex<Option<Verdict>>>);

impl Verdicts {
    /// Makes `verifier` that of `config`, and notes its verdicts.
    pub(super) fn of(config: &mut ClientConfig, verifier: &Arc<dyn ServerCertVerifier>) -> Self {
        let verdicts = Self::default();
        let noting = Noting { inner: Arc::clone(verifier), verdicts: verdicts.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(noting));
        verdicts
    }

    fn set(&self, verdict: Verdict) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    fn take(&self) -> Option<Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// TLS of one connection over QUIC.
pub(crate) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verdicts: Verdicts,
    verdict: Option<Verdict>,
    evidence: Arc<Evidence>,
}

impl Handshake {
    /// Creates the settings of a connection to an upstream.
    pub(super) fn new(
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
        verdicts: &Verdicts,
        evidence: &Arc<Evidence>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            name: name.clone(),
            verdicts: verdicts.clone(),
            verdict: None,
            evidence: Arc::clone(evidence),
        }
    }

    /// Takes the verdict on the certificate that the packet received last may have had.
    pub(crate) fn note(&mut self) {
        self.verdict = self.verdicts.take().or(self.verdict);
    }

    /// Returns the settings for the library.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Returns the name or address that the upstream must prove to have.
    pub(crate) fn name(&self) -> String {
        self.name.to_str().into_owned()
    }

    /// Returns true if a complete handshake resumed an earlier session, which costs neither side a
    /// signature.
    pub(crate) fn is_resumed(&self) -> bool {
        self.verdict.is_none()
    }

    /// Returns the fault of a handshake that failed here with this alert.
    pub(crate) fn failed(&self, alert: u8) -> TlsFault {
        let alert = AlertDescription::from(alert);
        if let Some(Err(fault)) = self.verdict {
            // The verifier has kept the text about a certificate.
            return fault;
        }
        let (fault, text) = match alert {
            AlertDescription::NoApplicationProtocol => {
                (TlsFault::Incompatible, "tls: no ALPN in common: the peer does not support 'doq'")
            }
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::MissingExtension => {
                (TlsFault::Incompatible, TlsFault::Incompatible.text())
            }
            AlertDescription::CertificateRequired => {
                (TlsFault::Certificate, TlsFault::Certificate.text())
            }
            _ => (TlsFault::Broken, TlsFault::Broken.text()),
        };
        self.evidence.keep(fault, text.to_owned());
        fault
    }

    /// Returns the fault of a handshake that the upstream refused with this alert.
    pub(crate) fn refused(&self, alert: u8) -> TlsFault {
        let error = Error::AlertReceived(AlertDescription::from(alert));
        let fault = fault::fault_of(&error);
        self.evidence.keep(fault, of_handshake(&error).unwrap_or_default());
        fault
    }

    /// Returns the fault of a handshake with an upstream that speaks no known version of QUIC.
    pub(crate) fn unknown_version(&self) -> TlsFault {
        let text = "quic: the peer does not support version 1 of QUIC (RFC 9000)";
        self.evidence.keep(TlsFault::Incompatible, text.to_owned());
        TlsFault::Incompatible
    }

    /// Returns the text of `fault`, if the latest failure at the upstream was that.
    pub(crate) fn evidence(&self, fault: TlsFault) -> Option<String> {
        self.evidence.of(fault)
    }
}

/// Verifies as `inner` does, and notes the verdict.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ServerCertVerifier>,
    verdicts: Verdicts,
}

impl Noting {
    fn note<T>(&self, verdict: Result<T, Error>) -> Result<T, Error> {
        let noted = verdict.as_ref().map(|_| ()).map_err(fault::fault_of);
        self.verdicts.set(noted);
        verdict
    }
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.note(self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now))
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
        self.note(self.inner.verify_tls13_signature(message, certificate, signature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}
