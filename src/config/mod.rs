//! Configuration: the meaning of a Corefile as validated, immutable, plain data.
//!
//! A [`Config`] is built once from a parsed [`crate::corefile`] tree and then shared read-only by
//! every thread. It holds no socket and no lock, and all defaults are filled in; sizes that depend
//! on the host (see [`Sizing`]) are resolved when it is built. One file per directive turns the
//! directive's tokens into settings; this file owns the types of the whole.

mod bind;
mod budget;
mod built;
mod context;
mod dnskey;
mod draft;
mod duration;
mod endpoints;
mod error;
mod forward;
mod host;
mod http;
mod keys;
mod lints;
mod listeners;
mod load;
mod name;
mod net;
mod numbers;
mod print;
mod protocol;
mod quote;
mod rcodes;
pub(crate) mod record;
mod reload;
mod rtypes;
mod served;
mod signed;
mod stages;
mod tls;
mod word;
mod zones;

pub use crate::corefile::Cause;
pub use bind::BindAddress;
pub(crate) use budget::Descriptors;
pub(crate) use dnskey::SigningKey;
pub(crate) use duration::show_duration;
pub(crate) use endpoints::HttpListener;
pub use endpoints::{Endpoint, HTTP_CONNECTIONS_MAX};
pub(crate) use error::ConfigError;
pub use forward::LetterCase;
pub use host::{Host, Resolved};
pub(crate) use host::{HostName, Interface, Lookup};
pub use name::Name;
pub(crate) use name::{MASTER_FILE, PRESENTATION, TEXT_LEN_MAX, spell, spell_as_asked, wire_of};
pub(crate) use net::{Net, Nets};
pub(crate) use protocol::Layers;
pub use protocol::Protocol;
pub use rcodes::Rcodes;
pub(crate) use rcodes::rcode_mnemonic;
pub(crate) use record::{RECORD_MAX, RecordError, read as read_record};
pub(crate) use reload::Reload;
pub use rtypes::RecordType;
pub use served::Served;
pub(crate) use signed::SignedSource;
pub(crate) use stages::{
    Acl, AclAction, AclLine, AnswerPart, AnswerRule, COOKIE_SECRET_LEN, COOKIE_SECRETS_MAX,
    CacheClass, Chaos, Consolidation, DEFAULT_PATH, Dns64, Dnssec, EDNS_OPTIONS_MAX,
    ERROR_TEXT_MAX, EdnsAction, EdnsData, EdnsOption, EdnsRule, Erratic, FixedRecord, HeaderFlag,
    HeaderRule, HostsLine, LATE, LIMITS, Late, Local, MatchType, NameMatch, NameRule, Nat64Prefix,
    Opcode, Part, Pattern, Plugin, PrimaryTarget, ProxyPolicy, ProxySessions, RateLimit, Required,
    Rewrite, RewriteRule, Sign, TEXT_MAX, Tap, TapTarget, Template, TemplateRecord, Text,
    TransferClients, TransferTarget, TsigAlgorithm, TsigKey, Value, View, ZoneDirectory,
    class_mnemonic, order, view,
};
pub use stages::{
    Cache, Errors, HostsSource, LogRule, Prefetch, Prometheus, ProxyProtocol, ServeStale, Stages,
    StaleMode, Written,
};
pub(crate) use tls::Pin;
pub use tls::{Alpn, ClientAuth, ClientTls, Pem, ServerTls};
pub(crate) use zones::{
    CatalogSource, OwnZones, Primary, Secondary, TransferredSource, ZonesSource,
};
pub use zones::{DirectorySource, FileSource};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The addresses to listen on, without duplicates, in the order of the file.
    pub listeners: Vec<Listener>,
    /// The server blocks, in the order of the file.
    pub blocks: Vec<ServerBlock>,
    /// Connections that clients may have open at one worker. Not written: it follows from the host,
    /// and is [`CLIENT_CONNECTIONS_MAX`] at most.
    pub client_connections_max: usize,
    /// Interval of checks for a changed file. `None`: off.
    pub reload: Option<Reload>,
    /// Late replies. In the configuration of a worker, its share.
    pub late: Late,
}

impl Config {
    /// All stanzas `forward`, in the order in which the engine numbers them.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> + Clone {
        self.blocks.iter().flat_map(|block| &block.forwards)
    }

    /// All upstreams, each with its stanza, in the order in which the engine numbers them.
    pub fn upstreams(&self) -> impl Iterator<Item = (&Forward, &Upstream)> + Clone {
        self.forwards()
            .flat_map(|forward| forward.upstreams.iter().map(move |upstream| (forward, upstream)))
    }

    /// Returns true if queries of any server block are counted by server, zone and type.
    pub(crate) fn is_measured(&self) -> bool {
        self.blocks.iter().any(ServerBlock::is_measured)
    }

    /// Returns true if top lists are kept, to be shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.blocks.iter().any(|block| block.stages.status.is_some())
    }

    /// The different sources of `hosts`, in the order of their slots.
    pub fn hosts_sources(&self) -> Vec<&Arc<HostsSource>> {
        let mut sources = Vec::new();
        for hosts in self.blocks.iter().filter_map(|block| block.stages.hosts.as_ref()) {
            if hosts.slot == sources.len() {
                sources.push(&hosts.source);
            }
        }
        sources
    }

    /// The different sources of zones, in the order of their slots.
    pub fn zone_sources(&self) -> Vec<&Arc<ZonesSource>> {
        let mut sources = Vec::new();
        for own in self.blocks.iter().filter_map(|block| block.own_zones.as_ref()) {
            if own.slot == sources.len() {
                sources.push(&own.source);
            }
        }
        sources
    }

    /// The different zones that are signed into files.
    pub(crate) fn signed_zones(&self) -> Vec<SignedSource> {
        signed::distinct(self.blocks.iter().flat_map(signed::of_block))
    }

    /// The files of certificates and keys that it was made of, some perhaps several times.
    pub(crate) fn key_files(&self) -> impl Iterator<Item = &Pem> {
        let shown = self.listeners.iter().flat_map(Listener::certificates);
        let asked = self.upstreams().filter_map(|(_, upstream)| upstream.tls.as_ref());
        let signing = self.blocks.iter().filter_map(|block| block.stages.tsig.as_ref());
        let secrets = signing.flat_map(|tsig| &tsig.files);
        let zones = self.blocks.iter().filter_map(|block| block.stages.dnssec.as_ref());
        let keys = zones.flat_map(|dnssec| &dnssec.keys);
        let signed = self.blocks.iter().flat_map(|block| &block.stages.sign);
        let keys = keys.chain(signed.flat_map(|sign| &sign.keys)).flat_map(|key| &key.files);
        let cookies = self.blocks.iter().filter_map(|block| block.stages.cookies.as_ref());
        let secrets =
            secrets.chain(keys).chain(cookies.filter_map(|cookies| cookies.file.as_ref()));
        let stanzas = self.blocks.iter().flat_map(|block| &block.stages.secondary);
        let primaries = stanzas.flat_map(|stanza| &stanza.primaries);
        let asked = asked.chain(primaries.filter_map(|primary| primary.tls.as_ref()));
        shown.flat_map(|tls| tls.files()).chain(asked.flat_map(|tls| tls.files())).chain(secrets)
    }

    /// Returns the configuration of worker `number` of `workers`: the whole, except that each gets
    /// its share of the limits of all of them.
    ///
    /// Of `max_concurrent N` that is N divided by the workers, the remainder to the first of them,
    /// and at least 1, so more than N can be under way only where there are more workers than N.
    /// A worker whose share is used up refuses although others have room: to count exactly, all
    /// workers would have to write one word for each query. As clients are spread by the hash of
    /// their address and port, one client with few ports is held to a few shares.
    pub(crate) fn of_worker(&self, number: usize, workers: usize) -> Self {
        let mut own = self.clone();
        for forward in own.blocks.iter_mut().flat_map(|block| &mut block.forwards) {
            forward.max_concurrent = forward.max_concurrent.map(|all| share(all, number, workers));
        }
        own.blocks.iter_mut().for_each(|block| block.share_limits(workers));
        own.late.share(workers);
        for listener in &mut own.listeners {
            let ListenerLimits { connections, per_client } = &mut listener.limits;
            *connections = connections.map(|all| share(all, number, workers));
            *per_client = per_client.map(|all| share(all, number, workers));
            let proxies = listener.proxies.as_mut().filter(|proxies| proxies.sessions.is_some());
            if let Some(sessions) =
                proxies.and_then(|proxies| Arc::make_mut(proxies).sessions.as_mut())
            {
                sessions.count_max = share(sessions.count_max, number, workers);
            }
        }
        own
    }
}

fn share(all: u32, number: usize, workers: usize) -> u32 {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    let has_more = u32::try_from(number).is_ok_and(|number| number < all % workers);
    (all / workers + u32::from(has_more)).max(1)
}

/// Limits of a listener's connections. Of several blocks with a limit, the last one applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerLimits {
    /// Maximum number of connections to the process; in the configuration of a worker, its share.
    /// `None`: the table of all connections is the limit.
    pub(crate) connections: Option<u32>,
    /// Maximum number of connections from one address, likewise.
    pub(crate) per_client: Option<u32>,
}

/// Settings of a listener whose clients use HTTP. Of several blocks with a setting, the last one
/// applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpSettings {
    /// Paths of DNS queries.
    pub(crate) paths: Arc<[String]>,
    /// Proxies that pass on the addresses of their clients.
    pub(crate) proxies: Arc<Nets>,
    /// Maximum number of requests at a time on a connection. `None`: that of all connections.
    pub(crate) requests_max: Option<u32>,
    /// Address of the same zones over HTTP/3, as the field `alt-svc` of replies (RFC 7838).
    pub(crate) alt_svc: Option<Arc<str>>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        let paths = Arc::new([DEFAULT_PATH.to_owned()]);
        Self { paths, proxies: Arc::default(), requests_max: None, alt_svc: None }
    }
}

/// One address that queries arrive on, and the zones served there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Address to bind. A wildcard address answers from the address that received the query.
    pub address: SocketAddr,
    /// True when no `bind` named it (the wildcard default): then a host without this address
    /// family skips it instead of failing.
    pub implied: bool,
    /// Each zone served here and the index of its block in [`Config::blocks`], in file order.
    pub zones: Vec<(Name, usize)>,
    /// Protocol of its clients.
    pub protocol: Protocol,
    /// Certificate and client policy. `None`: no encryption.
    pub tls: Option<Arc<ServerTls>>,
    /// Further certificates, for clients that ask for one of their names (SNI).
    pub others: Vec<Arc<ServerTls>>,
    /// Settings of requests, if its clients use HTTP.
    pub http: HttpSettings,
    /// Limits of its connections.
    pub limits: ListenerLimits,
    /// Treatment of headers of the PROXY protocol. `None`: nothing is read as one.
    pub proxies: Option<Arc<ProxyProtocol>>,
}

impl Listener {
    /// Returns its certificates.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Arc<ServerTls>> {
        self.tls.iter().chain(&self.others)
    }
}

/// One server block: what happens to the queries of its zones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerBlock {
    /// The zones that it serves, as configured (for messages and for printing the effective
    /// configuration).
    pub keys: Vec<Served>,
    /// The addresses that `bind` names. `None`: no `bind`, all addresses.
    pub bind: Option<Vec<BindAddress>>,
    /// Small directives.
    pub stages: Stages,
    /// The zones that it answers itself.
    pub own_zones: Option<OwnZones>,
    /// The `forward` stanzas in the order written, and behind them that of `grpc`: the first whose
    /// FROM and `except` match handles the query.
    pub forwards: Vec<Forward>,
}

impl ServerBlock {
    /// The zones that it serves.
    pub(crate) fn zones(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.keys.iter().map(|key| &key.zone)
    }

    /// Returns the plugins that handle queries, in the order in which a query meets them.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = Plugin> {
        let is_before_forward = |plugin: &Plugin| *plugin <= LAST_BEFORE_FORWARD;
        let before = self.stages.plugins().filter(is_before_forward);
        let is_grpc = |forward: &Forward| forward.grpc.is_some();
        let forward = self.forwards.first().filter(|forward| !is_grpc(forward));
        let forward = forward.map(|_| Plugin::forward);
        // It is the last one.
        let grpc = self.forwards.last().filter(|forward| is_grpc(forward)).map(|_| Plugin::grpc);
        let behind = self.stages.plugins().filter(move |plugin| !is_before_forward(plugin));
        before.chain(forward).chain(grpc).chain(behind)
    }

    /// Returns the plugins that a query meets after `plugin`.
    pub(crate) fn plugins_after(&self, plugin: Plugin) -> impl Iterator<Item = Plugin> {
        self.plugins().skip_while(move |other| *other != plugin).skip(1)
    }

    /// Returns true if its queries are counted by server, zone and type.
    pub(crate) fn is_measured(&self) -> bool {
        self.stages.prometheus.is_some()
    }
}

/// One `forward` stanza, or a `grpc` stanza.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Names at or below this one are forwarded.
    pub from: Name,
    /// Names at or below these are not, save the name equal to `from` itself.
    pub except: Vec<Name>,
    /// Upstreams in the order of the file, without duplicates. 1 to [`UPSTREAMS_MAX`].
    pub upstreams: Vec<Upstream>,
    /// Host names among the targets, whose addresses are among the upstreams. They are looked up
    /// again when their TTL has passed.
    pub host_names: Vec<HostName>,
    /// Settings of `grpc`. `None`: it is a `forward` stanza.
    pub grpc: Option<Grpc>,
    /// In which order the upstreams are tried.
    pub policy: Policy,
    /// A connection idle for this long is closed. Zero: connections are never reused.
    pub expire: Duration,
    /// A connection older than this takes no new query. `None`: no limit.
    pub max_age: Option<Duration>,
    /// Hundredths of `max_age` by which each connection's limit may be earlier, by chance.
    pub max_age_jitter: u8,
    /// Replace the other connections early when connections of an upstream fail in a burst.
    pub distrust: bool,
    /// Old connections are replaced as traffic pays for it.
    pub rebalance: bool,
    /// Queries of equal length may leave as one send, which the kernel takes apart.
    pub gso: bool,
    /// Upstreams learn the client of each query from a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Case of the letters in names of queries over UDP.
    pub letter_case: LetterCase,
    /// Answers with addresses of private networks are refused, except for names at or below these.
    /// `None`: they are passed on.
    pub private_answers: Option<Vec<Name>>,
    /// At most this many idle connections per worker and upstream. `None`: no limit.
    pub max_idle_conns: Option<usize>,
    /// Time-out of one attempt.
    pub read_timeout: Duration,
    /// Attempts per query, all upstreams together. `None`: no cap but the query's deadline.
    pub max_connect_attempts: Option<u32>,
    /// Health check of upstreams.
    pub health: HealthCheck,
    /// Reply with SERVFAIL at once, without an attempt, when all upstreams are down.
    pub failfast: bool,
    /// Upstreams are asked over TCP, however the client asked.
    pub force_tcp: bool,
    /// Upstreams are asked over UDP first, however the client asked. `force_tcp` wins.
    pub prefer_udp: bool,
    /// A response with one of these codes is not delivered while another upstream can be asked.
    pub failover: Rcodes,
    /// A response with one of these codes hands the query to the next stanza, if it follows.
    pub next: Rcodes,
    /// NOERROR without any answer record does, too.
    pub next_on_nodata: bool,
    /// Queries that may be under way, all workers together; more are refused. `None`: no limit.
    /// Workers count for themselves alone: see [`Config::of_worker`] for what that costs.
    pub max_concurrent: Option<u32>,
    /// The address that upstreams are asked and probed from. `None`: the kernel chooses.
    pub source_address: Option<IpAddr>,
    /// The size of each of this stanza's pools.
    pub sizing: Sizing,
}

impl Forward {
    /// Returns the name of the directive.
    pub(crate) fn plugin(&self) -> &'static str {
        if self.grpc.is_some() { forward::grpc::NAME } else { forward::NAME }
    }
}

/// Settings of health checks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// An upstream is down when this many probes in a row have failed. Zero: it is never probed
    /// and never down.
    pub max_fails: u32,
    /// From a failed probe to the next one. At least [`PROBE_INTERVAL_MIN`].
    pub interval: Duration,
    /// True if probes ask for recursion.
    pub recursion_desired: bool,
    /// The name whose NS records probes ask for.
    pub domain: Name,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            max_fails: 2,
            interval: Duration::from_millis(500),
            recursion_desired: true,
            domain: Name::root(),
        }
    }
}

/// Size limits of one pool (a worker's connections to one upstream).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizing {
    /// A pool dials until it holds this many connections, and only then rotates (RFC 5452 §9.2:
    /// several source ports in use).
    pub spread: usize,
    /// The same for connections, as far as the traffic keeps that number alive. 1: one is filled
    /// first.
    pub stream_spread: usize,
    /// Connections in all, those in use included.
    pub max_conns: usize,
    /// Queries that one batch puts on a connection of datagrams.
    pub max_inflight: usize,
    /// Queries that one connection carries at once.
    pub tcp_inflight: usize,
}

/// One address that queries are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Address of the upstream.
    pub address: SocketAddr,
    /// TLS settings; with them, the upstream is only used over TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// Calls that carry the queries, if the upstream speaks HTTP.
    pub http: Option<Arc<HttpTarget>>,
}

impl Upstream {
    /// Returns true if it is asked over QUIC.
    pub(crate) fn is_quic(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.alpn == Alpn::Doq)
    }

    /// Returns the name of its connections in metrics and on the status page.
    pub(crate) fn connection_name(&self) -> &'static str {
        match (&self.tls, self.http.as_ref().map(|target| &target.carrier)) {
            (_, Some(HttpCarrier::Doh { .. })) => "https",
            (_, Some(HttpCarrier::Grpc)) => "grpc",
            (Some(_), None) if self.is_quic() => "quic",
            (Some(_), None) => "tls",
            (None, None) => "tcp",
        }
    }
}

/// Requests to an upstream that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpTarget {
    /// Name or address of the server, and its port.
    pub(crate) authority: String,
    /// Form of the requests.
    pub(crate) carrier: HttpCarrier,
}

/// Form of the requests that carry queries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HttpCarrier {
    /// DNS over HTTPS (RFC 8484).
    Doh {
        /// Path of queries.
        path: String,
        /// Queries are sent by GET.
        is_get: bool,
    },
    /// gRPC, as in CoreDNS.
    Grpc,
}

/// Settings of a `grpc` stanza that `forward` does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grpc {
    /// Below these zones NXDOMAIN hands the query to the next plugin.
    pub(crate) fallthrough: Option<Vec<Name>>,
}

/// In which order a query tries the upstreams of its stanza.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// A fresh permutation for each query.
    #[default]
    Random,
    /// The next one in turn first, then the list in its order.
    RoundRobin,
    /// The list in its order.
    Sequential,
}

/// The plugin of the table that queries meet last before they are forwarded.
const LAST_BEFORE_FORWARD: Plugin = Plugin::loops;
/// Upstreams of one stanza: an exchange remembers which it has tried in one 64-bit word.
pub(crate) const UPSTREAMS_MAX: usize = 64;
/// Different sources of `hosts`: each takes a thread and a table.
pub(crate) const HOSTS_SOURCES_MAX: usize = 256;
/// Client connections of one worker: each holds a descriptor and, while it is used, buffers.
pub const CLIENT_CONNECTIONS_MAX: usize = 4096;
/// From one probe of an upstream to the next at least: a shorter interval would be a storm.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The whole time a query may take before its client gets SERVFAIL.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::{Config, Host, Plugin, share};
    use crate::corefile::DIRECTIVES;

    #[test]
    fn plugins_are_met_in_the_order_of_the_language() {
        let text = ". {\n whoami\n erratic\n forward . 192.0.2.1\n loop\n cache\n errors\n}\n";
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let met: Vec<_> = config.blocks[0].plugins().map(Plugin::name).collect();
        assert_eq!(met, ["errors", "cache", "loop", "forward", "erratic", "whoami"]);
        let order: Vec<_> = DIRECTIVES.into_iter().filter(|name| met.contains(name)).collect();
        assert_eq!(met, order);
        assert_eq!(config.blocks[0].plugins_after(Plugin::errors).next(), Some(Plugin::cache));
    }

    #[test]
    fn shares_add_up_to_the_whole_where_each_worker_can_have_one() {
        for (all, workers) in [(1, 1), (10, 3), (12, 3), (7, 7), (u32::MAX, 64)] {
            let shares: Vec<u32> = (0..workers).map(|number| share(all, number, workers)).collect();
            assert_eq!(shares.iter().sum::<u32>(), all, "{shares:?}");
            assert!(shares.is_sorted_by(|one, next| one == next || *one == next + 1));
            assert!(shares[0] - shares[workers - 1] <= 1);
        }
        assert_eq!([0, 1, 2].map(|number| share(2, number, 3)), [1, 1, 1]);
    }

    #[test]
    fn a_worker_gets_its_share_of_what_is_limited_and_the_rest_as_it_is() {
        let text = "a {\n forward . ::1 {\n max_concurrent 5\n}\n forward b ::1\n}";
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let limits = |number| {
            let mut own = config.of_worker(number, 2);
            let forwards = &mut own.blocks[0].forwards;
            let limits = [forwards[0].max_concurrent.take(), forwards[1].max_concurrent.take()];
            let mut rest = config.clone();
            rest.blocks[0].forwards[0].max_concurrent = None;
            (rest.late.rate, rest.late.burst) = (25_000, 64);
            assert_eq!(own, rest);
            limits
        };
        assert_eq!(limits(0), [Some(3), None]);
        assert_eq!(limits(1), [Some(2), None]);
        assert_eq!(config.of_worker(0, 1), config);
    }
}
