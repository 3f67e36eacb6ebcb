//! TLS (RFC 7858) on both sides: settings and files, and bytes in and out.
//!
//! A [`Setup`] is made from a configuration before it takes effect: certificates, keys and
//! authorities are parsed, or refused with an error that says what to do; nothing is read later.
//! Workers share it read-only; each worker remembers its own sessions with upstreams ([`Clients`]),
//! while the tickets of clients are valid on all workers. A [`Session`] belongs to one connection:
//! it borrows a socket for each call and knows no more of it.
//!
//! No certificate goes unverified (`client`), and nothing is sent over a session before its
//! handshake is over. Errors are returned as a [`TlsFault`] to the engine. Access control,
//! time-outs and limits of handshakes are decided elsewhere.

mod certificate;
mod client;
mod error;
mod fault;
mod identity;
mod inventory;
mod pem;
mod pins;
mod provider;
mod quic;
mod secp521r1;
mod server;
mod session;
mod trust;

pub use client::Client;
pub(crate) use client::Clients;
pub(crate) use error::SetupError;
pub(crate) use inventory::Entry;
pub use pins::pin_of;
pub(crate) use quic::Handshake;
#[cfg(feature = "traffic")]
pub use server::Server;
pub(crate) use session::Session;
pub use session::{Failure, Received};

use crate::config::{ClientTls, Config, ServerTls};
use crate::engine::errors::TlsFault;
use client::{Authorities, Verifiers};
use rustls::server::ServerConfig;
use rustls::{SupportedProtocolVersion, version};
use server::Tickets;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// ALPN protocol of both sides (IANA's registry of ALPN; RFC 7858 has none).
const PROTOCOL: &[u8] = b"dot";
/// ALPN protocol of HTTP/2 over TLS (RFC 9113 §3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";
/// ALPN protocol of HTTP/3 (RFC 9114 §3.1).
pub(crate) const HTTP_3: &[u8] = b"h3";
/// ALPN protocol of DNS over QUIC (RFC 9250 §4.1).
const DNS_OVER_QUIC: &[u8] = b"doq";
/// ALPN protocol of HTTP/1.1 (RFC 7301 §6).
pub(crate) const HTTP_1: &[u8] = b"http/1.1";
/// Supported versions; older ones are forbidden (RFC 9325 §3.1.1).
const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
/// The version of TLS in QUIC (RFC 9001 §4.2).
const QUIC_VERSIONS: [&SupportedProtocolVersion; 1] = [&version::TLS13];

/// TLS setup of one configuration.
#[derive(Default)]
pub struct Setup {
    /// Client of each upstream, in the order of the configuration.
    upstreams: Vec<Option<Client>>,
    /// Server of each listener.
    listeners: Vec<Option<Arc<ServerConfig>>>,
    /// Keys of clients' tickets, by the policy for client certificates.
    tickets: Vec<Tickets>,
    authorities: Authorities,
    /// The certificates in the configuration's files.
    certificates: Vec<Entry>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Setup")
    }
}

impl Setup {
    /// Creates the setup of `config`. Clients' tickets of the setup `before` stay valid, and so do
    /// sessions with upstreams whose settings are the same.
    ///
    /// # Errors
    /// Error with its file.
    pub fn new(config: &Config, before: Option<&Self>) -> Result<Self, SetupError> {
        let mut setup = Self::default();
        let none = Self::default();
        let mut verifiers = Verifiers::after(&before.unwrap_or(&none).authorities);
        let clients = before.into_iter().flat_map(|before| before.upstreams.iter().flatten());
        let clients: HashMap<_, _> = clients.map(|client| (client.key(), client)).collect();
        for (_, upstream) in config.upstreams() {
            let client = |tls: &Arc<ClientTls>| {
                let before = clients.get(&(upstream.address, &**tls)).copied();
                Client::new(upstream.address, tls, &mut verifiers, before)
            };
            setup.upstreams.push(upstream.tls.as_ref().map(client).transpose()?);
        }
        let known = before.map_or(&[][..], |before| &before.tickets);
        for listener in &config.listeners {
            let server = |tls: &Arc<ServerTls>| {
                let tickets = Tickets::of(tls, &mut setup.tickets, known)?;
                let certificates = (&**tls, &listener.others[..]);
                server::config(certificates, listener.protocol, tickets, &mut verifiers)
            };
            setup.listeners.push(listener.tls.as_ref().map(server).transpose()?);
        }
        setup.authorities = verifiers.into_known();
        setup.certificates = inventory::of(config)?;
        Ok(setup)
    }

    /// Returns the certificates in the configuration's files: own ones and trusted ones.
    pub(crate) fn certificates(&self) -> &[Entry] {
        &self.certificates
    }

    /// Returns the text of the latest failure with the upstream at `address`, if it was `fault` and
    /// the text is more specific.
    pub fn evidence(&self, address: SocketAddr, fault: TlsFault) -> Option<String> {
        let clients = self.upstreams.iter().flatten();
        let mut clients = clients.filter(|client| client.address() == address);
        clients.find_map(|client| client.evidence(fault))
    }

    /// Creates a session with a client of the configuration's listener `number`; `None`: it does
    /// not use TLS.
    pub(crate) fn accept(&self, listener: usize) -> Option<Result<Session, TlsFault>> {
        let config = self.listeners.get(listener)?.as_ref()?;
        Some(Session::accept(Arc::clone(config)))
    }

    /// Returns the certificates and policy of the configuration's listener `number`, for its
    /// connections over QUIC.
    pub(crate) fn server(&self, listener: usize) -> Option<Arc<ServerConfig>> {
        self.listeners.get(listener)?.clone()
    }

    /// Returns the TLS client of upstream `number`, if it uses TLS.
    pub fn client(&self, upstream: usize) -> Option<&Client> {
        self.upstreams.get(upstream)?.as_ref()
    }
}
