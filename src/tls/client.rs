//! TLS sessions with upstreams: expected names, and remembered sessions.
//!
//! An upstream's certificate must be issued by an authority of the given file, or of the system's,
//! for the given name, or for its address (RFC 8310 §8.1), and be valid today; there is no switch
//! that turns this off. Pinned keys are checked in addition, or alone identify the upstream
//! ([`super::pins`]). Each worker remembers sessions with each upstream and resumes them; early
//! data is never sent, because it can be replayed.

use super::fault::Evidence;
use super::pins::PinVerifier;
use super::provider::provider;
use super::quic::{Handshake, Verdicts};
use super::trust::{ServerVerifier, Trusted, Witness};
use super::{
    DNS_OVER_QUIC, HTTP_1, HTTP_2, PROTOCOL, QUIC_VERSIONS, Session, Setup, SetupError, VERSIONS,
    identity,
};
use crate::config::{Alpn, ClientTls, Pem};
use crate::engine::errors::TlsFault;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Maximum number of tickets of one upstream that a worker remembers. rustls keeps eight of TLS 1.3
/// for each name.
const TICKETS_MAX: usize = 8;

/// Authorities that were read for one configuration: upstreams share them.
#[derive(Default)]
pub(super) struct Verifiers {
    known: Vec<(Option<Pem>, Trusted)>,
}

impl Verifiers {
    /// Returns the authorities of `file`, or of the system.
    pub(super) fn trusted(&mut self, file: Option<&Pem>) -> Result<Trusted, SetupError> {
        if let Some((_, trusted)) = self.known.iter().find(|(known, _)| known.as_ref() == file) {
            return Ok(trusted.clone());
        }
        let trusted = identity::authorities(file)?;
        self.known.push((file.cloned(), trusted.clone()));
        Ok(trusted)
    }

    fn verifier(&mut self, tls: &ClientTls) -> Result<Arc<dyn ServerCertVerifier>, SetupError> {
        let besides: Option<Arc<dyn ServerCertVerifier>> = match tls.is_known_by_pins_alone() {
            true => None,
            false => {
                let file = tls.authorities.as_ref();
                let trusted = self.trusted(file)?;
                let roots = Arc::clone(&trusted.roots);
                let issued = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
                let path = file.map_or("", |file| &file.path);
                let issued = issued.map_err(|error| SetupError::new(path, error.to_string()))?;
                Some(Arc::new(ServerVerifier { trusted, issued }))
            }
        };
        Ok(match (besides, tls.pins.is_empty()) {
            (Some(verifier), true) => verifier,
            (besides, _) => {
                let algorithms = provider().signature_verification_algorithms;
                Arc::new(PinVerifier { pins: tls.pins.clone(), besides, algorithms })
            }
        })
    }
}

/// TLS client of one upstream.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientTls>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
    /// Verdicts on certificates, if the upstream speaks QUIC.
    verdicts: Option<Verdicts>,
    sessions: Arc<ClientSessionMemoryCache>,
    evidence: Arc<Evidence>,
}

impl Client {
    pub(super) fn new(
        address: SocketAddr,
        tls: &Arc<ClientTls>,
        verifiers: &mut Verifiers,
    ) -> Result<Self, SetupError> {
        let text = tls.name.clone().unwrap_or_else(|| address.ip().to_string());
        let name = ServerName::try_from(text).map_err(|_| {
            let name = tls.name.as_deref().unwrap_or_default();
            SetupError::new("", format!("'{name}' is not a valid name for a certificate"))
        })?;
        let evidence = Arc::<Evidence>::default();
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Witness {
            inner: verifiers.verifier(tls)?,
            tls: Arc::clone(tls),
            evidence: Arc::clone(&evidence),
        });
        let versions = if tls.alpn == Alpn::Doq { &QUIC_VERSIONS[..] } else { &VERSIONS[..] };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| SetupError::new("", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = identity::certificates(certificate)?;
                builder
                    .with_client_auth_cert(chain, identity::key(key)?)
                    .map_err(|error| identity::refuse_pair(certificate, key, &error))?
            }
        };
        let protocols: &[&[u8]] = match tls.alpn {
            Alpn::Dot => &[PROTOCOL],
            Alpn::Http => &[HTTP_2, HTTP_1],
            Alpn::Http2 => &[HTTP_2],
            Alpn::Doq => &[DNS_OVER_QUIC],
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let sessions = Arc::new(ClientSessionMemoryCache::new(TICKETS_MAX));
        config.resumption = Resumption::store(Arc::clone(&sessions) as _);
        let is_quic = tls.alpn == Alpn::Doq;
        let verdicts = is_quic.then(|| Verdicts::of(&mut config, &verifier));
        let (tls, config) = (Arc::clone(tls), Arc::new(config));
        Ok(Self { address, tls, name, config, verifier, verdicts, sessions, evidence })
    }

    /// Creates a client for one server, without a configuration.
    ///
    /// # Errors
    /// As for a configuration.
    pub(crate) fn to(address: SocketAddr, tls: &Arc<ClientTls>) -> Result<Self, SetupError> {
        Self::new(address, tls, &mut Verifiers::default())
    }

    /// Returns a copy that never resumes a session.
    #[cfg(feature = "traffic")]
    #[must_use]
    pub(crate) fn forgetful(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Returns a copy for a thread of its own, which remembers sessions in `sessions`.
    fn remembering_in(&self, sessions: Arc<ClientSessionMemoryCache>) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(Arc::clone(&sessions) as _);
        let verdicts = self.verdicts.as_ref().map(|_| Verdicts::of(&mut config, &self.verifier));
        Self { config: Arc::new(config), sessions, verdicts, ..self.clone() }
    }

    /// Creates a session before its handshake.
    pub fn session(&self) -> Session {
        let evidence = Arc::clone(&self.evidence);
        Session::connect(Arc::clone(&self.config), self.name.clone(), evidence)
    }

    /// Creates the settings of a connection over QUIC; `None`: the upstream does not speak it.
    pub(crate) fn handshake(&self) -> Option<Handshake> {
        let Self { name, config, verdicts, evidence, .. } = self;
        Some(Handshake::new(config, name, verdicts.as_ref()?, evidence))
    }

    /// Returns the address of the upstream.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the text of the latest failure, if it was `fault`.
    pub(super) fn evidence(&self, fault: TlsFault) -> Option<String> {
        self.evidence.of(fault)
    }

    /// Returns true if both have the same settings in the configuration.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.address, &self.tls) == (other.address, &other.tls)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TLS with {} known by {:?}", self.address, self.tls)
    }
}

/// One worker's side of sessions with all upstreams.
#[derive(Default)]
pub(crate) struct Clients {
    upstreams: Vec<Option<Client>>,
}

impl Clients {
    /// Creates the clients of `setup`. Sessions in `before` with upstreams of unchanged settings
    /// are kept.
    pub(crate) fn new(setup: &Setup, before: &Self) -> Self {
        let known = before.upstreams.iter().flatten().rev();
        let known: HashMap<_, _> =
            known.map(|known| ((known.address, &*known.tls), known)).collect();
        let client = |client: &Client| {
            let sessions = match known.get(&(client.address, &*client.tls)) {
                Some(known) => Arc::clone(&known.sessions),
                None => Arc::new(ClientSessionMemoryCache::new(TICKETS_MAX)),
            };
            client.remembering_in(sessions)
        };
        let upstreams = setup.upstreams.iter().map(|upstream| upstream.as_ref().map(client));
        Self { upstreams: upstreams.collect() }
    }

    /// Creates a session with upstream `number`; `None`: it does not use TLS.
    pub(crate) fn session(&self, upstream: usize) -> Option<Session> {
        self.upstreams.get(upstream)?.as_ref().map(Client::session)
    }

    /// Creates the settings of a connection to upstream `number` over QUIC; `None`: it does not
    /// speak that.
    pub(crate) fn handshake(&self, number: usize) -> Option<Handshake> {
        self.upstreams.get(number)?.as_ref()?.handshake()
    }
}
