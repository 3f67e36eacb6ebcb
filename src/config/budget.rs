//! File descriptors: how many a configuration can need, and whether the process may open as many.
//!
//! Pure arithmetic over the worst case, in which every client connection and every connection that
//! a pool may have is open at once. Sizes that are not written shrink until they fit: client
//! connections get what the smallest pools leave them, then the pools grow into the rest. Sizes
//! that were written are kept, and a sum that is too large is refused with all its terms, because
//! the alternative is to fail at the busiest moment. Serving and `onward check` both read a
//! configuration here, so that both refuse the same.

use super::error::DirectiveError;
use super::forward::Stanza;
use super::{
    CLIENT_CONNECTIONS_MAX, Config, ConfigError, Forward, HTTP_CONNECTIONS_MAX, Host, bind, forward,
};
use crate::corefile::Place;
use std::cmp::Reverse;
use std::fmt::Write as _;

/// Standard streams, the program's own files, and what libraries open for a moment.
const PROCESS: usize = 64;
/// A worker's poll and waker, and one connection that is closed late.
const WORKER: usize = 4;
/// A listener has at most a socket for datagrams and one that accepts connections, and a second
/// descriptor of each by which it outlives a reload.
const SOCKETS_PER_LISTENER: usize = 2 * 2;
/// Each address of HTTP endpoints has a socket, and a second descriptor by which it outlives a
/// reload.
const SOCKETS_PER_PAGES: usize = 2;
/// The poll and the waker of the thread that serves them.
const ADMIN: usize = 2;
/// Each upstream has a pool of datagram sockets and one of connections.
const POOLS_PER_UPSTREAM: usize = 2;
/// Of the descriptors, one in this number may be clients' connections.
const CLIENTS_SHARE: usize = 4;
/// With fewer connections a worker would turn clients away whose datagrams were truncated.
const CLIENT_CONNECTIONS_MIN: usize = 16;
/// Stanzas that a refusal names, the largest first; thousands of lines help no reader.
const TERMS_MAX: usize = 10;
/// No pool becomes larger by a larger share.
const SHARE_MAX: usize = 65_535;

/// File descriptors that a configuration can need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// The process itself.
    pub(crate) process: usize,
    /// One probe for each upstream.
    pub(crate) probes: usize,
    /// Pages over HTTP: where there are any, their listening sockets and connections.
    pub(crate) http: usize,
    /// A worker's own.
    pub(crate) worker: usize,
    /// A worker's listening sockets.
    pub(crate) listeners: usize,
    /// A worker's connections of clients.
    pub(crate) client_connections: usize,
    /// A worker's connections to upstreams.
    pub(crate) connections: usize,
}

impl Descriptors {
    /// Returns the descriptors of one worker.
    pub(crate) fn of_worker(&self) -> usize {
        self.worker + self.listeners + self.client_connections + self.connections
    }

    /// Returns the descriptors of the process.
    pub(crate) fn all(&self, workers: usize) -> usize {
        self.process + self.probes + self.http + workers * self.of_worker()
    }
}

impl Config {
    /// Returns its maximum.
    pub(crate) fn descriptors(&self) -> Descriptors {
        let each = self.forwards().map(|forward| connections(forward, forward.sizing.max_conns));
        Descriptors {
            process: PROCESS,
            probes: self.upstreams().count(),
            http: http(self.http().len()),
            worker: WORKER,
            listeners: self.listeners.len() * SOCKETS_PER_LISTENER,
            client_connections: self.client_connections_max,
            connections: each.sum(),
        }
    }
}

/// Returns the descriptors of one worker's pools, each with at most `max_conns`.
fn connections(forward: &Forward, max_conns: usize) -> usize {
    forward.upstreams.len() * POOLS_PER_UPSTREAM * max_conns
}

/// Returns the descriptors of this number of HTTP addresses.
fn http(addresses: usize) -> usize {
    match addresses {
        0 => 0,
        addresses => ADMIN + HTTP_CONNECTIONS_MAX + addresses * SOCKETS_PER_PAGES,
    }
}

/// Descriptors for all stanzas together.
pub(super) struct Budget<'a> {
    stanzas: Vec<&'a Stanza>,
    open_files: usize,
    workers: usize,
    listeners: usize,
    http: usize,
    /// Client connections of one worker at most.
    pub(super) client_connections_max: usize,
}

impl<'a> Budget<'a> {
    /// The budget of a configuration with this number of listeners, addresses of pages, and these
    /// stanzas.
    pub(super) fn new(
        host: &Host,
        listeners: usize,
        pages: usize,
        stanzas: Vec<&'a Stanza>,
    ) -> Self {
        let Host { workers, open_files, .. } = *host;
        let http = http(pages);
        let mut budget =
            Self { stanzas, open_files, workers, listeners, http, client_connections_max: 0 };
        let left = open_files.saturating_sub(budget.needed(0));
        let streams = (open_files / CLIENTS_SHARE).min(left) / workers;
        budget.client_connections_max =
            streams.clamp(CLIENT_CONNECTIONS_MIN, CLIENT_CONNECTIONS_MAX);
        budget
    }

    /// The connections that a pool of unwritten size may have: `wanted`, or as many as fit.
    pub(super) fn share(&self, wanted: usize) -> usize {
        let (mut fits, mut too_many) = (0, wanted.min(SHARE_MAX) + 1);
        while fits + 1 < too_many {
            let middle = usize::midpoint(fits, too_many);
            if self.needed(middle) <= self.open_files { fits = middle } else { too_many = middle }
        }
        fits
    }

    /// Refuses what does not fit with this share. `first` is where the first server block begins:
    /// the place to name where no stanza takes anything.
    pub(super) fn check(&self, share: usize, first: &Place) -> Result<(), ConfigError> {
        if self.needed(share) <= self.open_files {
            return Ok(());
        }
        let message = self.overdraft(share);
        let largest = self.stanzas.iter().max_by_key(|stanza| self.connections(stanza, share));
        let (place, directive) =
            largest.map_or((first, bind::NAME), |stanza| (&stanza.place, forward::NAME));
        Err(DirectiveError::Host { place: place.clone(), message }.about(directive))
    }

    /// Returns advice about the largest part that an operator can make smaller.
    fn advice(&self, share: usize) -> &'static str {
        let pools: usize = self.stanzas.iter().map(|stanza| self.connections(stanza, share)).sum();
        let listeners = self.workers * self.listeners * SOCKETS_PER_LISTENER;
        if listeners > pools { "listen on fewer addresses" } else { "lower max_conns or spread" }
    }

    /// Returns the message for the operator.
    fn overdraft(&self, share: usize) -> String {
        let Self { open_files, workers, listeners, client_connections_max, .. } = self;
        let needed = self.needed(share);
        let mut text = format!(
            "up to {needed} file descriptors can be needed, but the limit of open files is \
             {open_files}:\n"
        );
        let mut line = |number: usize, what: &str| {
            let _ = writeln!(text, "{number:>10}  {what}");
        };
        line(PROCESS, "the process itself");
        line(workers * WORKER, &format!("workers {workers} × {WORKER}"));
        let what = format!("workers {workers} × listeners {listeners} × 2 × UDP and TCP");
        line(workers * listeners * SOCKETS_PER_LISTENER, &what);
        let what = format!("workers {workers} × client connections {client_connections_max}");
        line(workers * client_connections_max, &what);
        line(self.probes(), "one health check per upstream");
        if self.http > 0 {
            line(self.http, "HTTP endpoints");
        }
        let mut stanzas = self.stanzas.clone();
        stanzas.sort_by_key(|stanza| Reverse(self.connections(stanza, share)));
        let rest = stanzas.split_off(stanzas.len().min(TERMS_MAX));
        for stanza in stanzas {
            let what = format!(
                "workers {workers} × upstreams {} × UDP and TCP × max_conns {}, {}",
                stanza.forward.upstreams.len(),
                stanza.max_conns(share),
                stanza.place
            );
            line(self.connections(stanza, share), &what);
        }
        if !rest.is_empty() {
            let sum = rest.iter().map(|stanza| self.connections(stanza, share)).sum();
            line(sum, &format!("{} more stanzas, none larger", rest.len()));
        }
        line(needed, "total");
        text += self.advice(share);
        text += ", start fewer workers, or raise the limit (LimitNOFILE= in the systemd unit, or \
                 ulimit -Hn)";
        text
    }

    /// All descriptors, if pools of unwritten size may have `share` connections.
    fn needed(&self, share: usize) -> usize {
        let pools = self.stanzas.iter();
        let each = pools.map(|stanza| connections(&stanza.forward, stanza.max_conns(share)));
        let all = Descriptors {
            process: PROCESS,
            probes: self.probes(),
            http: self.http,
            worker: WORKER,
            listeners: self.listeners * SOCKETS_PER_LISTENER,
            client_connections: self.client_connections_max,
            connections: each.sum(),
        };
        all.all(self.workers)
    }

    fn probes(&self) -> usize {
        self.stanzas.iter().map(|stanza| stanza.forward.upstreams.len()).sum()
    }

    /// Returns the descriptors of all workers' pools of `stanza`.
    fn connections(&self, stanza: &Stanza, share: usize) -> usize {
        self.workers * connections(&stanza.forward, stanza.max_conns(share))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Host};

    fn load(workers: usize, open_files: usize, options: &str) -> Result<Config, String> {
        let host = Host { workers, open_files, ..Host::plain() };
        let text = format!(
            ". {{\n bind 127.0.0.1\n forward . ::1 ::2 {{\n{options}\n}}\n forward . ::3\n}}"
        );
        let loaded = Config::load(text.as_bytes(), "f", &host);
        loaded.map(|(config, _)| config).map_err(|error| error.to_string())
    }

    fn sizes(config: &Config) -> Vec<usize> {
        config.blocks[0].forwards.iter().map(|forward| forward.sizing.max_conns).collect()
    }

    /// Returns the parts that an operator can calculate from the sizes alone.
    fn worst_case(config: &Config, workers: usize) -> usize {
        let sizes = sizes(config);
        let each = 4 + 4 + config.client_connections_max + 2 * (2 * sizes[0] + sizes[1]);
        64 + 3 + workers * each
    }

    #[test]
    fn pages_are_counted_once_however_many_name_their_address() {
        let pages = |text: &str| {
            let text = format!(". {{\n bind 127.0.0.1\n{text}\n}}\n");
            let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
            (config.descriptors().http, config.descriptors().all(3))
        };
        let (none, all) = pages("");
        assert_eq!(none, 0);
        assert_eq!(pages("health :1\nready :1"), (68, all + 68));
        assert_eq!(pages("health :1\nready :2\nstatus :1"), (70, all + 70));
    }

    #[test]
    fn an_ordinary_host_has_room_for_every_default() {
        for open_files in [524_288, 1_048_576] {
            let config = load(16, open_files, "").unwrap();
            assert_eq!(config.client_connections_max, 4_096);
            assert_eq!(sizes(&config), [147, 147]);
        }
    }

    #[test]
    fn defaults_shrink_until_they_fit() {
        let config = load(1, 4_096, "").unwrap();
        assert_eq!(config.client_connections_max, 1_024);
        // 4096 - 64 - 4 - 4 - 1024 - 3 for 6 pools.
        assert_eq!(sizes(&config), [499, 499]);
        let config = load(1, 4_096, "max_conns 700").unwrap();
        assert_eq!(sizes(&config), [700, 98]);
        // A written spread is kept: the other pool makes room for it.
        let config = load(1, 4_096, "spread 700").unwrap();
        assert_eq!(sizes(&config), [700, 98]);
        // Clients' connections make room for written sizes, too.
        let config = load(1, 4_096, "max_conns 990").unwrap();
        assert_eq!((sizes(&config), config.client_connections_max), (vec![990, 4], 53));
    }

    #[test]
    fn whatever_is_accepted_fits() {
        let mut refused = 0;
        for open_files in (64..6_000).step_by(37) {
            for (workers, options) in [(1, ""), (3, ""), (2, "max_conns 300"), (5, "spread 50")] {
                match load(workers, open_files, options) {
                    Ok(config) => {
                        let needed = config.descriptors().all(workers);
                        assert_eq!(needed, worst_case(&config, workers));
                        assert!(needed <= open_files, "{workers} {open_files} {options}");
                    }
                    Err(error) => {
                        assert!(error.contains("  total\n"), "{error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!((10..600).contains(&refused), "{refused}");
    }

    #[test]
    fn of_very_many_stanzas_the_largest_are_named() {
        let host = Host { open_files: 4_096, ..Host::plain() };
        let mut text = String::from("z {\n bind 127.0.0.1\n forward . ::1\n");
        text += &" forward . ::1\n".repeat(998);
        text += " forward . ::1 ::2\n}\n";
        let error = Config::load(text.as_bytes(), "f", &host).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 1 + 5 + 10 + 1 + 2, "{error}");
        assert!(lines[6].ends_with("upstreams 2 × UDP and TCP × max_conns 4, f:1002"), "{error}");
        assert_eq!(lines[16], "      7920  990 more stanzas, none larger");
    }

    #[test]
    fn what_is_written_and_cannot_fit_is_refused_with_its_terms() {
        assert_eq!(
            load(2, 4_096, "max_conns 700").unwrap_err(),
            "f:3 - plugin/forward: up to 5731 file descriptors can be needed, but the limit of \
             open files is 4096:\n\
             \x20       64  the process itself\n\
             \x20        8  workers 2 × 4\n\
             \x20        8  workers 2 × listeners 1 × 2 × UDP and TCP\n\
             \x20       32  workers 2 × client connections 16\n\
             \x20        3  one health check per upstream\n\
             \x20     5600  workers 2 × upstreams 2 × UDP and TCP × max_conns 700, f:3\n\
             \x20       16  workers 2 × upstreams 1 × UDP and TCP × max_conns 4, f:6\n\
             \x20     5731  total\n\
             lower max_conns or spread, start fewer workers, or raise the limit \
             (LimitNOFILE= in the systemd unit, or ulimit -Hn)"
        );
    }
}
