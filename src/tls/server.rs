//! TLS sessions with clients: our certificate, client certificates, and tickets for resumption.
//!
//! Tickets are encrypted with keys that change every six hours and are valid for twice as long. All
//! workers share the keys, so that a client may come back to any. They survive a reload unless it
//! changes the policy for client certificates: a session made under a weaker one must not be
//! resumed.

use super::certificate::Certificate;
use super::client::Verifiers;
use super::provider::provider;
use super::trust::ClientVerifier;
use super::{
    DNS_OVER_QUIC, HTTP_1, HTTP_2, HTTP_3, PROTOCOL, QUIC_VERSIONS, SetupError, VERSIONS, identity,
};
use crate::config::{ClientAuth, Pem, Protocol, ServerTls};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme, client::danger as client,
};
use std::sync::Arc;

/// Number of tickets that a client of TLS 1.3 gets at once: each is good for one connection.
const TICKETS_EACH: usize = 2;

/// TLS server of one listener, without a configuration.
#[cfg(feature = "traffic")]
#[derive(Clone, Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    protocol: Protocol,
}

#[cfg(feature = "traffic")]
impl Server {
    /// Returns a server of `protocol` with the certificate of `tls`.
    ///
    /// # Errors
    /// As for a configuration.
    pub fn new(tls: &ServerTls, protocol: Protocol) -> Result<Self, SetupError> {
        let tickets = Tickets::of(tls, &mut Vec::new(), &[])?;
        let config = config((tls, &[]), protocol, tickets, &mut Verifiers::default())?;
        Ok(Self { config, protocol })
    }

    /// Creates a session before its handshake.
    ///
    /// # Errors
    /// There is no randomness.
    pub(crate) fn session(&self) -> Result<super::Session, crate::engine::errors::TlsFault> {
        super::Session::accept(Arc::clone(&self.config))
    }

    /// Returns true if it is for connections over QUIC, which have no sessions of their own.
    pub(crate) fn is_quic(&self) -> bool {
        self.protocol.is_quic()
    }

    /// Returns the certificate and the policy, for connections over QUIC.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// Ticket keys of some listeners.
#[derive(Clone)]
pub(super) struct Tickets {
    client_auth: ClientAuth,
    authorities: Option<Pem>,
    producer: Arc<dyn ProducesTickets>,
}

impl Tickets {
    /// Returns the ticket keys for a listener with these settings: from `own`, from `before`, or
    /// new ones, which are added to `own`.
    pub(super) fn of(
        tls: &ServerTls,
        own: &mut Vec<Self>,
        before: &[Self],
    ) -> Result<Arc<dyn ProducesTickets>, SetupError> {
        let fits = |known: &&Self| {
            (known.client_auth, &known.authorities) == (tls.client_auth, &tls.authorities)
        };
        if let Some(known) = own.iter().find(fits) {
            return Ok(Arc::clone(&known.producer));
        }
        let tickets = match before.iter().find(fits) {
            Some(known) => known.clone(),
            None => Self {
                client_auth: tls.client_auth,
                authorities: tls.authorities.clone(),
                producer: ring::Ticketer::new()
                    .map_err(|error| SetupError::new("", error.to_string()))?,
            },
        };
        own.push(tickets.clone());
        Ok(tickets.producer)
    }
}

/// Returns the TLS configuration of a listener with the certificate of `tls`, and those of `others`
/// for clients that ask for one of their names.
pub(super) fn config(
    (tls, others): (&ServerTls, &[Arc<ServerTls>]),
    protocol: Protocol,
    tickets: Arc<dyn ProducesTickets>,
    verifiers: &mut Verifiers<'_>,
) -> Result<Arc<ServerConfig>, SetupError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(if protocol.is_quic() { &QUIC_VERSIONS[..] } else { &VERSIONS[..] })
        .map_err(|error| SetupError::new("", error.to_string()))?;
    let builder = match client_verifier(tls, verifiers)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut certificates = vec![Named::new(tls)?];
    for other in others {
        certificates.push(Named::new(other)?);
    }
    let mut config = builder.with_cert_resolver(Arc::new(ByName(certificates)));
    config.alpn_protocols = match protocol {
        Protocol::Dns | Protocol::Tls => vec![PROTOCOL.to_vec()],
        Protocol::Https => vec![HTTP_2.to_vec(), HTTP_1.to_vec()],
        Protocol::Https3 => vec![HTTP_3.to_vec()],
        Protocol::Grpc => vec![HTTP_2.to_vec()],
        Protocol::Quic => vec![DNS_OVER_QUIC.to_vec()],
    };
    // Early data could be replayed (RFC 9250 §4.5); its maximum of 0 bytes is the default.
    // The state of sessions is in the tickets, so that clients cost no memory.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = TICKETS_EACH;
    Ok(Arc::new(config))
}

/// A certificate with its key, and the names that it is for.
#[derive(Debug)]
struct Named {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Named {
    fn new(tls: &ServerTls) -> Result<Self, SetupError> {
        let chain = identity::certificates(&tls.certificate)?;
        let names = Certificate::read(&chain[0]).map_or_else(Vec::new, |own| own.dns_names());
        let key = CertifiedKey::from_der(chain, identity::key(&tls.key)?, &provider())
            .map_err(|error| identity::refuse_pair(&tls.certificate, &tls.key, &error))?;
        Ok(Self { names, key: Arc::new(key) })
    }

    /// Returns true if the certificate is for `name`, perhaps by a wildcard (RFC 6125 §6.4.3).
    fn is_for(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(own) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(own)),
            None => own.eq_ignore_ascii_case(name),
        })
    }
}

/// Certificates of a listener: the first one that is for the name that the client asks for (SNI,
/// RFC 6066 §3), or the first.
#[derive(Debug)]
struct ByName(Vec<Named>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let named = asked.and_then(|name| self.0.iter().find(|own| own.is_for(name)));
        named.or(self.0.first()).map(|own| Arc::clone(&own.key))
    }
}

fn client_verifier(
    tls: &ServerTls,
    verifiers: &mut Verifiers<'_>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, SetupError> {
    let algorithms = provider().signature_verification_algorithms;
    let any = |mandatory| Arc::new(AnyCertificate { mandatory, algorithms });
    let (file, optional) = (tls.authorities.as_ref(), tls.client_auth == ClientAuth::VerifyIfGiven);
    Ok(match tls.client_auth {
        ClientAuth::NoCert => None,
        ClientAuth::Request => Some(any(false)),
        ClientAuth::Require => Some(any(true)),
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let trusted = verifiers.trusted(file)?;
            let roots = Arc::clone(&trusted.roots);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let builder = if optional { builder.allow_unauthenticated() } else { builder };
            let path = file.map_or("", |file| &file.path);
            let issued =
                builder.build().map_err(|error| SetupError::new(path, error.to_string()))?;
            Some(Arc::new(ClientVerifier { trusted, issued }))
        }
    })
}

/// Accepts any certificate whose key the client has: `request` and `require` need no more.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<client::HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<client::HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::{Tickets, config};
    use crate::config::{ClientAuth, Pem, Protocol, ServerTls};
    use crate::tls::VERSIONS;
    use crate::tls::client::Verifiers;
    use crate::tls::provider::provider;
    use rustls::pki_types::CertificateDer;
    use std::sync::Arc;

    /// Returns the settings of a certificate for `names`, and the certificate.
    fn certified(names: &[&str]) -> (Arc<ServerTls>, CertificateDer<'static>) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let pem = |text: String| Pem {
            path: "f.pem".to_owned(),
            place: "f.pem".into(),
            bytes: text.into_bytes().into(),
        };
        let tls = ServerTls {
            certificate: pem(made.cert.pem()),
            key: pem(made.signing_key.serialize_pem()),
            authorities: None,
            client_auth: ClientAuth::NoCert,
        };
        (Arc::new(tls), made.cert.der().clone())
    }

    #[test]
    fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
        let (first, first_der) = certified(&["one.test"]);
        let (second, second_der) = certified(&["two.test", "*.wild.test"]);
        let tickets = Tickets::of(&first, &mut Vec::new(), &[]).unwrap();
        let certificates = (&*first, &[second][..]);
        let server =
            config(certificates, Protocol::Tls, tickets, &mut Verifiers::default()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(first_der.clone()).unwrap();
        roots.add(second_der.clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        for (name, expected) in [
            ("one.test", Some(&first_der)),
            ("Two.Test", Some(&second_der)),
            ("a.wild.test", Some(&second_der)),
            // Names that no certificate has get the first one, which clients refuse.
            ("a.b.wild.test", None),
            ("three.test", None),
        ] {
            let name = name.to_owned().try_into().unwrap();
            let mut asking = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
            let mut answering = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            let mut wire = Vec::new();
            asking.write_tls(&mut wire).unwrap();
            answering.read_tls(&mut &wire[..]).unwrap();
            answering.process_new_packets().unwrap();
            wire.clear();
            while answering.wants_write() {
                answering.write_tls(&mut wire).unwrap();
            }
            let (mut rest, mut is_accepted) = (&wire[..], true);
            while !rest.is_empty() && is_accepted {
                asking.read_tls(&mut rest).unwrap();
                is_accepted = asking.process_new_packets().is_ok();
            }
            let shown = asking.peer_certificates().and_then(<[_]>::first);
            assert_eq!(is_accepted, expected.is_some());
            assert!(expected.is_none() || shown == expected);
        }
    }
}
