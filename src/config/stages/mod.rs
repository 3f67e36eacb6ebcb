//! Settings of the small directives of a server block, as plain data.
//!
//! One file per directive holds its type, its reader and its writer. The table `order` lists the
//! directives in the order in which a query meets them, which is the language's order and not that
//! of the file. [`Stages`], the choice of readers and writers, [`Plugin`] for metrics and errors,
//! and the engine's chain with its counters are generated from it. What a directive does to a query
//! is in `engine::stages`.

mod acl;
mod any;
mod auto;
mod bufsize;
mod cache;
mod cancel;
mod chaos;
mod cookies;
mod debug;
mod dns64;
mod dnssec;
mod dnstap;
mod erratic;
mod errors;
mod file;
mod grpc_server;
mod header;
mod health;
mod hosts;
mod https;
mod https3;
mod late;
mod loadbalance;
mod local;
mod log;
mod loops;
mod metadata;
mod minimal;
mod multisocket;
mod nsid;
mod pprof;
mod prometheus;
mod proxyproto;
mod quic;
mod ratelimit;
mod ready;
mod rewrite;
mod root;
mod rrl;
mod secondary;
mod sign;
mod status;
mod tcp;
mod template;
mod timeouts;
mod tls;
mod transfer;
mod tsig;
pub(crate) mod view;
mod whoami;

/// The table of the small directives, in the order in which a query meets them. `then` is a macro
/// that makes something of its rows.
///
/// A row is the directive's name, the module here that reads and writes it, which is also its
/// field, and the type of its settings. `answers`: a server block with nothing but this one answers
/// queries, instead of refusing them all. `=> module::Type`: what `engine::stages` makes of it.
macro_rules! order {
    ($then:ident) => {
        $then! {
            /// Base of relative paths of other directives. `None`: the working directory.
            "root" root: Option<String>;
            /// Names whose labels are set.
            "metadata" metadata: Option<Metadata>, answers;
            /// Maximum time of a query, if less than [`QUERY_TIMEOUT`](super::QUERY_TIMEOUT).
            "cancel" cancel: Option<Duration>, answers => cancel::Cancel;
            /// Peers that name their clients in headers of the PROXY protocol.
            "proxyproto" proxyproto: Option<ProxyProtocol>;
            /// Limits of `quic://` listeners.
            "quic" quic: Option<RequestLimits>;
            /// Limits of `grpc://` listeners.
            "grpc_server" grpc_server: Option<RequestLimits>;
            /// Limits and paths of `https://` listeners.
            "https" https: Option<Https>;
            /// Limits of `https3://` listeners.
            "https3" https3: Option<RequestLimits>;
            /// Limits of clients' connections over TCP and TLS.
            "tcp" tcp: Option<ListenerLimits>;
            /// Time-outs of clients' connections.
            "timeouts" timeouts: Timeouts;
            /// Sockets of each address, without effect.
            "multisocket" multisocket: Option<u16>;
            /// Identifier of the server, for clients that ask for it.
            "nsid" nsid: Option<String>, answers => nsid::Nsid;
            /// No UDP payload larger than this is asked for or sent.
            "bufsize" bufsize: Option<u16>, answers => bufsize::Bufsize;
            /// Lines of `errors` at level debug are written.
            "debug" debug: bool;
            /// Endpoint of readiness.
            "ready" ready: Option<Ready>;
            /// Endpoint of liveness, and the time of lameduck.
            "health" health: Option<Health>;
            /// Endpoint of profiles in the reference, without effect.
            "pprof" pprof: Option<SocketAddr>;
            /// Endpoint of metrics.
            "prometheus" prometheus: Option<Prometheus>, answers;
            /// Endpoint of the status page.
            "status" status: Option<SocketAddr>;
            /// Errors of queries are logged.
            "errors" errors: Option<Errors>, answers;
            /// Queries that are logged.
            "log" log: Vec<LogRule>, answers;
            /// Receivers of dnstap, in the order written.
            "dnstap" dnstap: Vec<Tap>, answers;
            /// Server cookies of clients.
            "cookies" cookies: Option<ServerCookies>;
            /// Limits of queries and replies for each client prefix.
            "ratelimit" ratelimit: Option<RateLimit>, answers => ratelimit::Limits;
            /// The same limits, in the words of the external plugin.
            "rrl" rrl: Option<RateLimit>, answers;
            /// Replies over UDP to clients that have waited.
            "late" late: Option<Late>;
            /// Names that mean this host are answered here.
            "local" local: Option<Local>, answers => local::Local;
            /// IPv6 addresses are made for names that have none.
            "dns64" dns64: Option<Dns64>, answers => dns64::Dns64;
            /// Queries for every type are answered here.
            "any" any: bool, answers => any::Any;
            /// Queries about the server itself are answered here.
            "chaos" chaos: Option<Chaos>, answers => chaos::Chaos;
            /// Addresses in answers change places.
            "loadbalance" loadbalance: Option<LoadBalance>, answers => loadbalance::LoadBalance;
            /// Keys of signed queries, and queries that have to be signed.
            "tsig" tsig: Option<Tsig>, answers => tsig::Signed;
            /// Rules that change queries and put their replies back, in the order written.
            "rewrite" rewrite: Vec<Rewrite>, answers;
            /// Access lists, in the order written.
            "acl" acl: Vec<Acl>, answers => acl::Lists;
            /// Answers are remembered.
            "cache" cache: Option<Cache>, answers;
            /// Flags that are changed, in the order written.
            "header" header: Vec<HeaderRule>, answers => header::Header;
            /// Replies that are signed when they are sent.
            "dnssec" dnssec: Option<Dnssec>, answers => dnssec::Signing;
            /// Certificate of listeners with encryption.
            "tls" tls: Option<Arc<ServerTls>>;
            /// Positive answers are stripped of what was not asked for.
            "minimal" minimal: bool, answers => minimal::Minimal;
            /// Answers that are written from the query, in the order written.
            "template" template: Vec<Template>, answers => template::Templates;
            /// Clients of zone transfers, in the order written.
            "transfer" transfer: Vec<Transfer>, answers => transfer::Transfers;
            /// Names and addresses of a hosts file are answered here.
            "hosts" hosts: Option<Hosts>, answers => hosts::Hosts;
            /// Zones of zone files are answered here, in the order written.
            "file" file: Vec<ZoneFile>, answers => file::OwnZones;
            /// Zones of a directory's files are answered with those of `file`.
            "auto" auto: Auto, answers;
            /// Zones that are transferred are answered with those of `file`, in the order written.
            "secondary" secondary: Vec<SecondaryZones>, answers;
            /// Forwarding loops are detected.
            "loop" loops: bool, answers => loops::Loops;
            /// Answers of `erratic` to queries that are not forwarded.
            "erratic" erratic: Option<Erratic>, answers => erratic::Erratic;
            /// Answers of `whoami` to queries that are not forwarded.
            "whoami" whoami: bool, answers => whoami::Whoami;
            /// Zone files that are signed, in the order written.
            "sign" sign: Vec<Sign>;
            /// Queries that the block is for, within its zones.
            "view" view: Option<View>, answers;
        }
    };
}
pub(crate) use order;

pub(crate) use acl::{Acl, AclAction, AclLine};
pub(crate) use auto::{Auto, ZoneDirectory};
pub(crate) use cache::CacheClass;
pub use cache::{Cache, Prefetch, ServeStale, StaleMode};
pub(crate) use chaos::Chaos;
pub(crate) use cookies::{COOKIE_SECRET_LEN, COOKIE_SECRETS_MAX, ServerCookies};
pub(crate) use dns64::{Dns64, Nat64Prefix};
pub(crate) use dnssec::Dnssec;
pub(crate) use dnstap::{Tap, TapTarget};
pub(crate) use erratic::Erratic;
pub(crate) use errors::Consolidation;
pub use errors::Errors;
pub use file::Written;
pub(crate) use file::ZoneFile;
pub(crate) use header::{HeaderFlag, HeaderRule};
pub(crate) use health::Health;
pub use hosts::HostsSource;
pub(crate) use hosts::{Hosts, HostsLine};
pub(crate) use https::{DEFAULT_PATH, Https};
pub(crate) use late::{LATE, Late};
pub(crate) use loadbalance::LoadBalance;
pub(crate) use local::Local;
pub use log::LogRule;
pub(crate) use metadata::Metadata;
pub use prometheus::Prometheus;
pub use proxyproto::ProxyProtocol;
pub(crate) use proxyproto::{ProxyPolicy, ProxySessions};
pub(crate) use ratelimit::{LIMITS, RateLimit};
pub(crate) use ready::Ready;
pub(crate) use rewrite::{
    AnswerPart, AnswerRule, EDNS_OPTIONS_MAX, EdnsAction, EdnsData, EdnsOption, EdnsRule,
    MatchType, NameMatch, NameRule, Rewrite, RewriteRule,
};
pub(crate) use secondary::{PrimaryTarget, SecondaryZones, StateDirectory};
pub(crate) use sign::Sign;
pub(crate) use tcp::RequestLimits;
pub(crate) use template::{
    ERROR_TEXT_MAX, FixedRecord, Part, Pattern, TEXT_MAX, Template, TemplateRecord, Text, Value,
    class_mnemonic,
};
pub(crate) use timeouts::Timeouts;
pub(crate) use transfer::{Transfer, TransferClients, TransferTarget};
pub(crate) use tsig::{Opcode, Required, Tsig, TsigAlgorithm, TsigKey};
pub(crate) use view::View;

use super::context::{Context, Notes};
use super::error::DirectiveError;
use super::{Host, ListenerLimits, Name, ServerTls};
use crate::corefile::{Cursor, Directive, Place};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

macro_rules! directives {
    ($(
        $(#[$doc:meta])*
        $name:literal $field:ident: $Settings:ty $(, $answers:ident)?
        $(=> $module:ident::$Stage:ident)?;
    )*) => {
        /// The small directives of one server block, in the order in which a query meets them.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct Stages {
            $($(#[$doc])* pub $field: $Settings,)*
        }

        /// A directive, in the order in which a query meets them; `forward` and `grpc` are placed
        /// by [`ServerBlock::plugins`](super::ServerBlock::plugins).
        #[allow(non_camel_case_types, reason = "variants are called like fields of the table")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Plugin {
            $($(#[$doc])* $field,)*
            /// Queries are forwarded to upstreams.
            forward,
            /// Queries are forwarded to upstreams over gRPC.
            grpc,
        }

        impl Plugin {
            /// Returns the name of the directive.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                    Self::forward => super::forward::NAME,
                    Self::grpc => super::forward::grpc::NAME,
                }
            }
        }

        /// Places of the directives of one server block: of the first stanza of each.
        #[allow(dead_code, reason = "few directives are warned of when all blocks are read")]
        #[derive(Clone, Debug, Default)]
        pub(super) struct Places {
            $(pub(super) $field: Option<Place>,)*
        }

        impl Stages {
            /// Returns true if one of them makes its block answer: without any the block refuses
            /// every query.
            pub(crate) fn can_answer(&self) -> bool {
                false $($(|| self.$field.$answers())?)*
            }

            /// Returns the plugins of the table that handle queries of the block, in its order.
            pub(super) fn plugins(&self) -> impl Iterator<Item = Plugin> {
                let rows = [$((Plugin::$field, false $(|| self.$field.$answers())?)),*];
                rows.into_iter().filter(|(_, answers)| *answers).map(|(plugin, _)| plugin)
            }
        }

        /// The rows of the table.
        static ROWS: &[Row] = &[$(Row {
            name: $name,
            read: |stages, places, stanzas, host, notes| {
                let mut cursor = Cursor::new(&stanzas.tokens);
                stages.$field = $field::read(&mut cursor, &mut stages.context(host, notes))?;
                places.$field = Some(stanzas.tokens[0].place.clone());
                Ok(cursor.stanza().map(|stanza| stanza.place.clone()))
            },
            write: |stages, f| $field::write(&stages.$field, f),
        }),*];
    };
}
order!(directives);

/// A row of the table: how its directive is read and written.
pub(super) struct Row {
    name: &'static str,
    read: Read,
    write: fn(&Stages, &mut fmt::Formatter<'_>) -> fmt::Result,
}

type Read = fn(
    &mut Stages,
    &mut Places,
    &Directive,
    &Host,
    &mut Notes,
) -> Result<Option<Place>, DirectiveError>;

impl Row {
    /// Returns the row of `directive`, if it is in the table.
    pub(super) fn of(directive: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == directive)
    }

    /// Reads the `stanzas` of the directive into `stages` and notes their place. Returns the place
    /// of the first one that the directive leaves unread.
    pub(super) fn read(
        &self,
        stanzas: &Directive,
        stages: &mut Stages,
        places: &mut Places,
        host: &Host,
        notes: &mut Notes,
    ) -> Result<Option<Place>, DirectiveError> {
        (self.read)(stages, places, stanzas, host, notes)
    }

    /// Writes the settings of the directive, if the server block has it.
    pub(super) fn write(&self, stages: &Stages, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.write)(stages, f)
    }
}

impl Stages {
    /// Returns the context of a directive that is read after these.
    pub(super) fn context<'a>(&'a self, host: &'a Host, notes: &'a mut Notes) -> Context<'a> {
        let mut context = Context::new(host, notes);
        context.root = self.root.as_deref();
        context.labelled = self.metadata.as_ref().map(|metadata| metadata.zones.as_deref());
        context
    }
}

impl Stages {
    /// Returns the key with this name, or none if there is no name. `None`: no such key.
    #[expect(clippy::option_option, reason = "a missing key is not the absence of a key")]
    pub(super) fn key_of(&self, name: Option<&Name>) -> Option<Option<TsigKey>> {
        let Some(name) = name else { return Some(None) };
        let mut keys = self.tsig.iter().flat_map(|tsig| tsig.keys());
        keys.find(|key| key.name == *name).map(|key| Some(key.clone()))
    }
}

/// State of a directive's settings.
trait Settings {
    /// Returns true if the server block has the directive, which makes it answer queries.
    fn answers(&self) -> bool;
}

impl Settings for bool {
    fn answers(&self) -> bool {
        *self
    }
}

impl<T> Settings for Option<T> {
    fn answers(&self) -> bool {
        self.is_some()
    }
}

impl<T> Settings for Vec<T> {
    fn answers(&self) -> bool {
        !self.is_empty()
    }
}

/// Reads the first stanza of a directive that has nothing but its name.
fn switch(cursor: &mut Cursor<'_>) -> Result<bool, DirectiveError> {
    cursor.stanza();
    cursor.expect_no_arg()?;
    Ok(true)
}

/// Writes `name` on a line of its own if it is `on`.
fn write_switch(f: &mut fmt::Formatter<'_>, name: &str, on: bool) -> fmt::Result {
    if on { writeln!(f, "    {name}") } else { Ok(()) }
}

/// Refuses a second stanza: of some directives a server block can have only one.
fn once(cursor: &mut Cursor<'_>) -> Result<(), DirectiveError> {
    match cursor.stanza() {
        None => Ok(()),
        Some(second) => {
            Err(DirectiveError::value(second, "this plugin can only be used once per Server Block"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS, Row};
    use crate::corefile::DIRECTIVES;

    #[test]
    fn the_table_has_the_order_of_the_language() {
        let order: Vec<_> =
            DIRECTIVES.into_iter().filter_map(Row::of).map(|row| row.name).collect();
        let rows: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(order, rows);
    }
}
