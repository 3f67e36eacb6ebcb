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

/// Authorities of the upstreams of one configuration, which share them, by their files.
pub(super) type Authorities = Vec<(Option<Pem>, Trusted)>;

/// Authorities that were read for one configuration.
#[derive(Default)]
pub(super) struct Verifiers<'a> {
    known: Authorities,
    /// Authorities of the configuration before.
    before: &'a [(Option<Pem>, Trusted)],
}

impl<'a> Verifiers<'a> {
    /// Creates an empty set that prefers authorities of `before` to equal ones.
    pub(super) fn after(before: &'a [(Option<Pem>, Trusted)]) -> Self {
        Self { known: Vec::new(), before }
    }

    /// Returns the authorities that were read.
    pub(super) fn into_known(self) -> Authorities {
        self.known
    }

    /// Returns the authorities of `file`, or of the system.
    pub(super) fn trusted(&mut self, file: Option<&Pem>) -> Result<Trusted, SetupError> {
        let of_file = |(known, _): &&(Option<Pem>, Trusted)| known.as_ref() == file;
        if let Some((_, trusted)) = self.known.iter().find(of_file) {
            return Ok(trusted.clone());
        }
        let read = identity::authorities(file)?;
        let before = self.before.iter().find(of_file).map(|(_, before)| before);
        let trusted = before.filter(|before| before.equals(&read)).cloned().unwrap_or(read);
        self.known.push((file.cloned(), trusted.clone()));
        Ok(trusted)
    }
}

/// Creates the verifier of an upstream's certificate, which has to be issued by one of `trusted`,
/// if there are any.
fn verifier(
    tls: &ClientTls,
    trusted: Option<Trusted>,
) -> Result<Arc<dyn ServerCertVerifier>, SetupError> {
    let besides: Option<Arc<dyn ServerCertVerifier>> = match trusted {
        None => None,
        Some(trusted) => {
            let roots = Arc::clone(&trusted.roots);
            let issued = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
            let path = tls.authorities.as_ref().map_or("", |file| &file.path);
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

/// TLS client of one upstream.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientTls>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
    /// Authorities of its certificate, if it needs any.
    trusted: Option<Trusted>,
    /// Verdicts on certificates, if the upstream speaks QUIC.
    verdicts: Option<Verdicts>,
    evidence: Arc<Evidence>,
}

impl Client {
    /// Creates a client for an upstream, or returns that of `before` if it has the same settings
    /// and authorities: rustls resumes sessions only under the configuration that has begun them.
    pub(super) fn new(
        address: SocketAddr,
        tls: &Arc<ClientTls>,
        verifiers: &mut Verifiers<'_>,
        before: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let is_issued = !tls.is_known_by_pins_alone();
        let trusted = is_issued.then(|| verifiers.trusted(tls.authorities.as_ref())).transpose()?;
        if let Some(before) = before.filter(|before| before.trusts_as(trusted.as_ref())) {
            return Ok(before.clone());
        }
        let text = tls.name.clone().unwrap_or_else(|| address.ip().to_string());
        let name = ServerName::try_from(text).map_err(|_| {
            let name = tls.name.as_deref().unwrap_or_default();
            SetupError::new("", format!("'{name}' is not a valid name for a certificate"))
        })?;
        let evidence = Arc::<Evidence>::default();
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Witness {
            inner: verifier(tls, trusted.clone())?,
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
        config.resumption = new_resumption();
        let is_quic = tls.alpn == Alpn::Doq;
        let verdicts = is_quic.then(|| Verdicts::of(&mut config, &verifier));
        let (tls, config) = (Arc::clone(tls), Arc::new(config));
        Ok(Self { address, tls, name, config, verifier, trusted, verdicts, evidence })
    }

    /// Returns true if the upstream's certificate has to be issued by these authorities.
    fn trusts_as(&self, trusted: Option<&Trusted>) -> bool {
        match (&self.trusted, trusted) {
            (Some(own), Some(trusted)) => Arc::ptr_eq(&own.roots, &trusted.roots),
            (own, trusted) => own.is_none() && trusted.is_none(),
        }
    }

    /// Creates a client for one server, without a configuration.
    ///
    /// # Errors
    /// As for a configuration.
    pub(crate) fn to(address: SocketAddr, tls: &Arc<ClientTls>) -> Result<Self, SetupError> {
        Self::new(address, tls, &mut Verifiers::default(), None)
    }

    /// Returns a copy that never resumes a session.
    #[cfg(feature = "traffic")]
    #[must_use]
    pub(crate) fn forgetful(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Returns a copy for a thread of its own, which remembers its own sessions.
    fn for_thread(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = new_resumption();
        let verdicts = self.verdicts.as_ref().map(|_| Verdicts::of(&mut config, &self.verifier));
        Self { config: Arc::new(config), verdicts, ..self.clone() }
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

    /// Returns the address of the upstream and the settings in the configuration.
    pub(super) fn key(&self) -> (SocketAddr, &ClientTls) {
        (self.address, &self.tls)
    }

    /// Returns true if both have the same settings in the configuration.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// Creates a memory for the sessions with one upstream.
fn new_resumption() -> Resumption {
    Resumption::store(Arc::new(ClientSessionMemoryCache::new(TICKETS_MAX)))
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
    /// Creates the clients of `setup`. Those in `before` with upstreams of unchanged settings are
    /// kept, with their sessions.
    pub(crate) fn new(setup: &Setup, before: &Self) -> Self {
        let known = before.upstreams.iter().flatten().rev();
        let known: HashMap<_, _> = known.map(|known| (known.key(), known)).collect();
        let client = |client: &Client| match known.get(&client.key()) {
            Some(known) if Arc::ptr_eq(&known.verifier, &client.verifier) => (*known).clone(),
            _ => client.for_thread(),
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
