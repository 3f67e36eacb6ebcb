//! Requests that carry DNS as RFC 8484 says, in any version of HTTP.
//!
//! Finds the client and the query of a request, and asks the engine. A query that was accepted is
//! answered with a DNS message, whatever its response code; everything else is refused with a
//! status.

use crate::config::{HttpSettings, Nets};
use crate::engine::forwarder::Requested;
use crate::engine::{Client, Forwarder};
use crate::http::doh::{self, Refusal};
use crate::http::{Request, forwarded};
use crate::moment::Moment;
use crate::worker::clients::scratch::Scratch;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Settings of a listener for the requests of its clients.
pub(in crate::worker::clients) struct Doh {
    /// Paths of queries.
    paths: Arc<[String]>,
    /// Proxies that pass on the addresses of their clients.
    proxies: Arc<Nets>,
    /// Address of the same service over HTTP/3, as a field of replies.
    alt_svc: Option<Arc<str>>,
}

impl Doh {
    /// Takes what matters from `settings`.
    pub(in crate::worker::clients) fn new(settings: &HttpSettings) -> Self {
        let HttpSettings { paths, proxies, alt_svc, .. } = settings;
        let (paths, proxies) = (Arc::clone(paths), Arc::clone(proxies));
        Self { paths, proxies, alt_svc: alt_svc.clone() }
    }

    /// Returns the value of the field `alt-svc` of replies.
    pub(in crate::worker::clients) fn alt_svc(&self) -> Option<&[u8]> {
        self.alt_svc.as_deref().map(str::as_bytes)
    }

    /// Returns true if the field `alt-svc` means something to the clients of the connection from
    /// `peer`: those of a proxy reach another address.
    pub(in crate::worker::clients) fn offers_http3(&self, peer: SocketAddr) -> bool {
        self.alt_svc.is_some() && !self.is_proxy(peer.ip())
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.contains(address.to_canonical())
    }

    /// Returns the address of the client that made a request. `peer`: that of the connection.
    ///
    /// # Errors
    /// A proxy passes on an address that cannot be used. The proxy's own must not stand in for it:
    /// access lists may trust that one.
    fn peer(&self, peer: SocketAddr, request: &Request<'_>) -> Result<SocketAddr, Refusal> {
        let is_silent = request.forwarded.is_empty() && request.forwarded_for.is_empty();
        if is_silent || !self.is_proxy(peer.ip()) {
            return Ok(peer);
        }
        match forwarded::client(request, |address| self.is_proxy(address)) {
            Some(address) => Ok(SocketAddr::new(address, peer.port())),
            None => {
                let text = "the proxy names no client in X-Forwarded-For or Forwarded\n";
                Err(Refusal { status: 400, text })
            }
        }
    }

    /// Returns the client that made a request, and the length of its query in `query`.
    fn decode(
        &self,
        client: Client,
        request: &Request<'_>,
        query: &mut [u8],
    ) -> Result<(Client, usize), Refusal> {
        let peer = self.peer(client.peer, request)?;
        let len = doh::query(request, &self.paths, query)?;
        Ok((Client { peer, ..client }, len))
    }

    /// Asks the engine. Returns the length of the reply in `scratch`; `None`: it comes later.
    ///
    /// # Errors
    /// There is no reply to the request.
    pub(in crate::worker::clients) fn ask(
        &self,
        now: Moment,
        client: Client,
        request: &Request<'_>,
        scratch: &mut Scratch,
        engine: &mut Forwarder,
    ) -> Result<Option<usize>, Refusal> {
        let Scratch { query, reply } = scratch;
        let decoded = self.decode(client, request, query).inspect_err(|_| {
            // The engine counts only the queries that it gets.
            client.via.connection().inspect(|key| engine.clients.asked(now, *key));
        });
        let (client, len) = decoded?;
        match engine.on_request(now, client, &query[..len], reply) {
            Requested::Waits => Ok(None),
            Requested::Replied(len) => Ok(Some(len)),
            Requested::Malformed(_) => {
                let text = "the request carries no DNS query that could be read\n";
                Err(Refusal { status: 400, text })
            }
            Requested::Dropped => {
                Err(Refusal { status: 500, text: "this query is not answered here\n" })
            }
        }
    }
}
