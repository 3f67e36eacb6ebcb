//! Options of all commands that send queries: the route to the server, and the queries.
//!
//! Arguments are converted into the client's [`Options`] here, and files are read; the client knows
//! neither arguments nor files.

use super::invalid;
use crate::units;
use crate::workload::{BadInput, capture, frames, lines};
use crate::{dot, zone};
use clap::Args;
use domain::base::Name;
use domain::base::iana::Rtype;
use onward::config::Alpn;
use onward::sys::limits;
use onward::traffic::client::link::Transport;
use onward::traffic::client::{Load, Options, Tls};
use onward::traffic::verify::Verify;
use onward::traffic::workload::names::{Names, ZONE_LEN_MAX};
use onward::traffic::workload::style::{Style, Subnet, TypeShares};
use onward::traffic::workload::zipf::Zipf;
use onward::traffic::workload::{Recorded, Source};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Default number of names.
const POPULATION: u64 = 10_000;

/// Maximum number of sockets for the clients of a capture: with more clients, some share one.
const CLIENTS_MAX: usize = 4_096;

/// Options of queries.
#[derive(Args, Clone, Debug)]
pub struct Asking {
    /// Number of sockets (source ports) of all threads together
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Transport")]
    pub sockets: usize,
    /// Source addresses, used in turn: 127.0.0.2 or 127.0.0.2..127.0.0.200
    #[arg(long, value_name = "ADDR", num_args = 1.., value_parser = sources,
          help_heading = "Transport")]
    pub source: Vec<Sources>,
    /// Use TCP: each socket is a connection, reopened when it is closed
    #[arg(long, group = "connections", help_heading = "Transport")]
    pub tcp: bool,
    /// Use DNS over QUIC: each socket is a connection, reopened when it is closed; the server's
    /// certificate must be valid for its address
    #[arg(long, groups = ["connections", "secure"], help_heading = "Transport")]
    pub doq: bool,
    /// Queries per connection before it is closed [default: no limit]
    #[arg(long, value_name = "N", requires = "connections", help_heading = "Transport")]
    pub per_connection: Option<u64>,
    /// Maximum of outstanding queries per connection
    #[arg(
        long,
        value_name = "N",
        requires = "connections",
        default_value_t = 1024,
        help_heading = "Transport"
    )]
    pub pipeline: usize,
    /// Use DNS over HTTPS, with --tls, or HTTP/2 without encryption
    #[arg(long, requires = "tcp", help_heading = "Transport")]
    pub doh: bool,
    /// Use DNS over TLS; the server's certificate must be valid for its address
    #[arg(long, requires = "tcp", group = "secure", help_heading = "Transport")]
    pub tls: bool,
    /// Server name to verify instead of the address
    #[arg(long, value_name = "NAME", requires = "secure", help_heading = "Transport")]
    pub tls_name: Option<String>,
    /// File of trusted certificate authorities [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "secure", help_heading = "Transport")]
    pub tls_ca: Option<PathBuf>,
    /// Do not resume TLS sessions
    #[arg(long, requires = "secure", help_heading = "Transport")]
    pub no_resumption: bool,
    /// Response timeout
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration,
          help_heading = "Transport")]
    pub timeout: Duration,
    /// Run one thread pinned to each of these cores
    #[arg(long, alias = "core", value_name = "N", value_delimiter = ',', help_heading = "Threads")]
    pub cores: Vec<usize>,
    /// Number of threads, not pinned to cores
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "cores",
        help_heading = "Threads"
    )]
    pub threads: usize,
    /// Time before each send for which a thread busy-waits instead of sleeping: a larger value is
    /// more precise and takes more CPU time
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = units::duration,
          help_heading = "Threads")]
    pub spin: Duration,
    /// File with one name and type per line (dnsperf format)
    #[arg(long, value_name = "FILE", group = "file", help_heading = "Workload")]
    pub queries: Option<PathBuf>,
    /// File of DNS messages, each after its length in two bytes (dnsperf -B format)
    #[arg(long, value_name = "FILE", group = "file", help_heading = "Workload")]
    pub queries_binary: Option<PathBuf>,
    /// Packet capture: replay its UDP queries, with one socket per client
    #[arg(long, value_name = "FILE", group = "file", help_heading = "Workload")]
    pub pcap: Option<PathBuf>,
    /// Destination port of the queries in the capture
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 53,
        requires = "pcap",
        help_heading = "Workload"
    )]
    pub pcap_port: u16,
    /// Generated names: unique, uniform:COUNT or zipf:COUNT:EXPONENT
    #[arg(long, value_name = "WHICH", default_value = "unique", value_parser = names,
          conflicts_with = "file", help_heading = "Workload")]
    pub names: Names,
    /// Share of queries that repeat an earlier name; --names gives their distribution
    #[arg(long, value_name = "SHARE", value_parser = units::share, conflicts_with = "file",
          help_heading = "Workload")]
    pub hit_ratio: Option<f64>,
    /// Suffix of generated names
    #[arg(long, value_name = "NAME", default_value = "demo.example", value_parser = zone,
          conflicts_with = "file", help_heading = "Workload")]
    pub zone: Zone,
    /// Query types and weights: A:3,AAAA:1
    #[arg(long, value_name = "LIST", default_value = "A:3,AAAA:1", value_parser = types,
          conflicts_with = "file", help_heading = "Workload")]
    pub types: TypeShares,
    /// EDNS UDP payload size of queries, or off
    #[arg(long, value_name = "SIZE", default_value = "1232", value_parser = edns,
          help_heading = "Workload")]
    pub edns: Edns,
    /// Set the DO bit (DNSSEC)
    #[arg(long, help_heading = "Workload")]
    pub dnssec_ok: bool,
    /// Send EDNS Client Subnet (RFC 7871): 192.0.2.0/24, or random/24 for a new one per query
    #[arg(long, value_name = "NETWORK", value_parser = subnet, help_heading = "Workload")]
    pub ecs: Option<Subnet>,
    /// Randomise the case of each letter (0x20)
    #[arg(long, help_heading = "Workload")]
    pub random_case: bool,
    /// Clear the RD bit
    #[arg(long, help_heading = "Workload")]
    pub no_recursion: bool,
    /// Stop after this number of queries
    #[arg(long, value_name = "N", help_heading = "Workload")]
    pub count: Option<u64>,
    /// Repeat the whole file this number of times
    #[arg(long, value_name = "N", requires = "file", help_heading = "Workload")]
    pub passes: Option<u64>,
    /// Random seed of names, types, times and IDs; equal seeds give equal runs [default: random]
    #[arg(long, value_name = "N", help_heading = "Workload")]
    pub seed: Option<u64>,
    /// Verify each answer against the records that `loadgen upstream` derives from its name
    #[arg(long, help_heading = "Checks")]
    pub verify: bool,
    /// Verify each answer, with this zone file at the upstream
    #[arg(long, value_name = "FILE", conflicts_with = "verify", help_heading = "Checks")]
    pub verify_zone: Option<PathBuf>,
}

/// A list of source addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<IpAddr>);

/// A zone in wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(Vec<u8>);

/// The advertised UDP size; `None`: no EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns(Option<u16>);

impl Asking {
    /// Returns the client's options for queries to `servers`.
    ///
    /// # Errors
    /// A file cannot be read, or there is no randomness for a seed.
    pub fn options(&self, servers: &[SocketAddr], load: Load) -> io::Result<Options> {
        let seed = self.seed.map_or_else(onward::traffic::fresh_seed, Ok)?;
        let source = self.source(seed)?;
        let all = |recorded: &Recorded| self.passes.map(|passes| passes * recorded.len() as u64);
        let by_passes = match &source {
            Source::File(recorded) => all(recorded),
            Source::Made { .. } => None,
        };
        let mut options = Options::new(servers.to_vec(), source, load, seed);
        options.limit = [self.count, by_passes].into_iter().flatten().min();
        let threads = if self.cores.is_empty() { self.threads } else { self.cores.len() };
        options.sockets = self.sockets.max(threads);
        if let (Source::File(recorded), true) = (&options.source, self.pcap.is_some()) {
            options.sockets = (recorded.clients as usize).clamp(threads, CLIENTS_MAX.max(threads));
        }
        limits::raise_open_files()?;
        options.sources = self.source.iter().flat_map(|sources| sources.0.clone()).collect();
        let queries = self.per_connection.filter(|&count| count > 0);
        let pipeline = self.pipeline.max(1);
        options.transport = match (self.tcp, self.doq) {
            (true, _) => Transport::Connections { queries, pipeline },
            (false, true) => Transport::Quic { queries, pipeline },
            (false, false) => Transport::Datagrams,
        };
        if self.tls || self.doq {
            let mut settings = dot::client(self.tls_name.as_deref(), self.tls_ca.as_deref())?;
            settings.alpn = match (self.doh, self.doq) {
                (true, _) => Alpn::Http,
                (false, true) => Alpn::Doq,
                (false, false) => Alpn::Dot,
            };
            options.tls = Some(Tls { settings: settings.into(), forgetful: self.no_resumption });
        }
        options.doh = self.doh;
        options.random_case = self.random_case;
        options.timeout = self.timeout;
        options.verify = match &self.verify_zone {
            Some(path) => Verify::Zones(Arc::new(read_file(path, zone::parse)?)),
            None if self.verify => Verify::Derived,
            None => Verify::No,
        };
        options.cores = self.cores.clone();
        options.threads = self.threads;
        options.spin = self.spin;
        Ok(options)
    }

    fn source(&self, seed: u64) -> io::Result<Source> {
        let style = Style {
            recursion: !self.no_recursion,
            edns: self.edns.0,
            dnssec_ok: self.dnssec_ok,
            subnet: self.ecs,
        };
        if style.edns.is_none() && (style.dnssec_ok || style.subnet.is_some()) {
            return Err(invalid("--dnssec-ok and --ecs need EDNS"));
        }
        let file = |read: &dyn Fn(&[u8]) -> Result<Recorded, BadInput>, path: &Path| {
            Ok(Source::File(Arc::new(read_file(path, read)?)))
        };
        if let Some(path) = &self.queries {
            return file(&|text| lines::read(text, &style, seed), path);
        }
        if let Some(path) = &self.queries_binary {
            return file(&frames::read, path);
        }
        if let Some(path) = &self.pcap {
            let recorded = read_file(path, |bytes| capture::read(bytes, self.pcap_port))?;
            if recorded.left_out > 0 {
                let (left_out, taken) = (recorded.left_out, recorded.len());
                eprintln!(
                    "loadgen: {taken} queries read from the capture, {left_out} packets \
                           skipped"
                );
            }
            return Ok(Source::File(Arc::new(recorded)));
        }
        Ok(Source::Made {
            names: self.names,
            hit_ratio: self.hit_ratio,
            zone: self.zone.0.clone(),
            types: self.types.clone(),
            style,
        })
    }

    /// Returns the settings, for reports.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        let mut tell = |name, value: String| settings.push((name, value));
        let file = [&self.queries, &self.queries_binary, &self.pcap].into_iter().flatten().next();
        tell(
            "queries",
            match file {
                Some(path) => path.display().to_string(),
                None => describe(self.names),
            },
        );
        if let Some(ratio) = self.hit_ratio {
            tell("repeats", format!("{:.1} %", ratio * 100.0));
        }
        let stream = match (self.doh, self.tls, self.no_resumption) {
            _ if self.doq && self.no_resumption => "QUIC without resumption",
            _ if self.doq => "QUIC",
            (false, false, _) => "TCP",
            (false, true, false) => "TLS",
            (false, true, true) => "TLS without resumption",
            (true, false, _) => "HTTP/2",
            (true, true, false) => "HTTPS",
            (true, true, true) => "HTTPS without resumption",
        };
        tell(
            "transport",
            match (self.tcp || self.doq, self.per_connection) {
                (false, _) => format!("UDP, {} sockets", self.sockets),
                (true, None) => format!("{stream}, {} connections", self.sockets),
                (true, Some(count)) => {
                    format!("{stream}, {} connections, {count} queries each", self.sockets)
                }
            },
        );
        tell("time-out", format!("{:?}", self.timeout));
        let verified = self.verify || self.verify_zone.is_some();
        tell("answers verified", if verified { "yes" } else { "no" }.into());
        settings
    }
}

fn describe(names: Names) -> String {
    match names {
        Names::Unique => "generated names, each unique".into(),
        Names::Uniform(count) => format!("{count} generated names, uniform distribution"),
        Names::Zipf(zipf) => format!("{} generated names, Zipf distribution", zipf.count()),
    }
}

/// Reads a file with `read`; errors name the file.
pub(super) fn read_file<T>(
    path: &Path,
    read: impl Fn(&[u8]) -> Result<T, BadInput>,
) -> io::Result<T> {
    let named = |error: &dyn std::fmt::Display| invalid(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| named(&error))?;
    read(&bytes).map_err(|error| invalid(format!("{}:{error}", path.display())))
}

/// Parses an address with or without a port; the default port is 53.
pub(super) fn server(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    text.parse()
        .or_else(|_| bare())
        .map_err(|_| format!("invalid address `{text}`: expected 192.0.2.1:53 or [2001:db8::1]:53"))
}

fn sources(text: &str) -> Result<Sources, String> {
    let bad = || {
        format!(
            "invalid address `{text}`: expected an address, or two IPv4 addresses \
                          with .. between them"
        )
    };
    let Some((first, last)) = text.split_once("..") else {
        return Ok(Sources(vec![text.parse().map_err(|_| bad())?]));
    };
    let bits = |text: &str| text.parse::<std::net::Ipv4Addr>().map(u32::from).map_err(|_| bad());
    let (first, last) = (bits(first)?, bits(last)?);
    if first > last || last - first >= 65_536 {
        return Err(bad());
    }
    let address = |bits: u32| IpAddr::V4(bits.into());
    Ok(Sources((first..=last).map(address).collect()))
}

fn names(text: &str) -> Result<Names, String> {
    let bad = || {
        format!(
            "invalid names `{text}`: expected unique, uniform:COUNT or \
                          zipf:COUNT:EXPONENT"
        )
    };
    let count = |text: &str| text.parse().ok().filter(|&count: &u64| count > 0).ok_or_else(bad);
    let words: Vec<&str> = text.split(':').collect();
    match words[..] {
        ["unique"] => Ok(Names::Unique),
        ["uniform"] => Ok(Names::Uniform(POPULATION)),
        ["uniform", number] => Ok(Names::Uniform(count(number)?)),
        ["zipf"] => Ok(Names::Zipf(Zipf::new(POPULATION, 1.0))),
        ["zipf", number] => Ok(Names::Zipf(Zipf::new(count(number)?, 1.0))),
        ["zipf", number, exponent] => {
            let exponent = exponent.parse().ok().filter(|s: &f64| (0.0..=10.0).contains(s));
            Ok(Names::Zipf(Zipf::new(count(number)?, exponent.ok_or_else(bad)?)))
        }
        _ => Err(bad()),
    }
}

fn zone(text: &str) -> Result<Zone, String> {
    let name = Name::<Vec<u8>>::from_str(text).map_err(|error| format!("`{text}`: {error}"))?;
    let wire = name.as_slice().to_vec();
    if wire.len() > ZONE_LEN_MAX {
        return Err(format!("suffix `{text}` is too long: no room for the names before it"));
    }
    Ok(Zone(wire))
}

fn types(text: &str) -> Result<TypeShares, String> {
    let share = |word: &str| {
        let (rtype, weight) = word.split_once(':').unwrap_or((word, "1"));
        let rtype = Rtype::from_str(rtype).map_err(|_| format!("unknown record type `{rtype}`"))?;
        let weight = weight.parse().map_err(|_| {
            format!(
                "invalid weight `{weight}`: expected a \
                                                         number"
            )
        })?;
        Ok((rtype.to_int(), weight))
    };
    let shares = text.split(',').map(share).collect::<Result<Vec<_>, String>>()?;
    TypeShares::new(&shares).ok_or_else(|| "at least one type must have a weight above 0".into())
}

fn edns(text: &str) -> Result<Edns, String> {
    if text == "off" {
        return Ok(Edns(None));
    }
    let size = text.parse().map_err(|_| {
        format!(
            "invalid size `{text}`: expected a number up to \
                                                 65535, or off"
        )
    })?;
    Ok(Edns(Some(size)))
}

fn subnet(text: &str) -> Result<Subnet, String> {
    let bad = || {
        format!(
            "invalid network `{text}`: expected 192.0.2.0/24, 2001:db8::/56 or \
                          random/24"
        )
    };
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let random = address == "random";
    let address = if random { "0.0.0.0" } else { address };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(bad)?;
    Ok(Subnet { address, prefix, random })
}

#[cfg(test)]
mod tests {
    use super::{Edns, edns, names, server, sources, subnet, types, zone};
    use onward::traffic::workload::names::Names;

    #[test]
    fn words_are_read_or_refused() {
        assert_eq!(server("192.0.2.1").unwrap().port(), 53);
        assert_eq!(server("[::1]:5300").unwrap().port(), 5300);
        assert_eq!(sources("127.0.0.2..127.0.0.9").unwrap().0.len(), 8);
        assert_eq!(names("uniform:7"), Ok(Names::Uniform(7)));
        assert_eq!(zone("a.test.").unwrap().0, b"\x01a\x04test\0");
        assert_eq!((edns("off"), edns("512")), (Ok(Edns(None)), Ok(Edns(Some(512)))));
        assert!(subnet("random/24").unwrap().random);
        assert!(types("A:3,TYPE65").is_ok());
        assert!(server("x").is_err() && zone("a..b").is_err() && edns("70000").is_err());
        for text in ["1", "127.0.0.9..127.0.0.2", "::1..::2"] {
            assert!(sources(text).is_err(), "{text}");
        }
        for text in ["", "uniform:0", "zipf:9:x", "zipf:9:-1", "unique:3"] {
            assert!(names(text).is_err(), "{text}");
        }
        for text in ["192.0.2.0", "192.0.2.0/33", "x/3", "::/129"] {
            assert!(subnet(text).is_err(), "{text}");
        }
        assert!(types("A:x").is_err() && types("NONE").is_err() && types("A:0").is_err());
    }
}
