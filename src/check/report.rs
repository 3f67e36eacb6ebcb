//! Report on a configuration that can be served.
//!
//! Plain numbers, each from the owner of the counted resource: descriptors from the configuration's
//! budget, memory from a worker's own tables. The output is written elsewhere.

use crate::config::{Config, Descriptors, Forward, Host};
use crate::corefile::Warning;
use crate::topology::Topology;
use crate::worker::Memory;

/// A configuration, and the resources it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The configuration, with every default filled in.
    pub(crate) config: Config,
    /// Warnings with file and line.
    pub(crate) warnings: Vec<Warning>,
    /// Warnings about this host.
    pub(crate) notes: Vec<String>,
    /// Core of each worker, if it is pinned.
    pub(crate) cores: Vec<Option<usize>>,
    /// Maximum number of file descriptors.
    pub(crate) descriptors: Descriptors,
    /// Limit of open files of the process.
    pub(crate) open_files: usize,
    /// Source ports.
    pub(crate) ports: Ports,
    /// Memory of one worker.
    pub(crate) memory: Memory,
    /// Loaded hosts files, as at the start.
    pub(crate) hosts: Vec<HostsTable>,
    /// Loaded zones, as at the start.
    pub(crate) zones: Vec<ZoneTable>,
    /// Bytes that the process may use, if known.
    pub(crate) host_memory: Option<usize>,
    /// The kernel supports UDP GSO.
    pub(crate) gso: bool,
    /// GSO is allowed, whatever the blocks set.
    pub(crate) gso_wanted: bool,
}

/// Contents of a hosts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostsTable {
    /// The file, as in the labels of metrics.
    pub(crate) label: String,
    /// Names and reverse names with an address each.
    pub(crate) entries: usize,
    /// Bytes of the table that all workers share. During a reload there are two.
    pub(crate) bytes: usize,
}

/// Contents of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneTable {
    pub(crate) zone: String,
    /// The file, as in the Corefile.
    pub(crate) label: String,
    pub(crate) records: usize,
    /// Serial number of the SOA record.
    pub(crate) serial: u32,
    /// Bytes of the zone, which all workers share. During a reload there are two.
    pub(crate) bytes: usize,
}

/// Source ports of one worker's pools, the same for UDP and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// UDP ports in use under load.
    pub(crate) spread: usize,
    /// Maximum number of ports.
    pub(crate) most: usize,
    /// Number of the kernel's ephemeral ports, for all programs.
    pub(crate) ephemeral: usize,
}

impl Report {
    /// Creates the report for workers on `cores` of `host`; `memory` is that of one worker.
    pub(crate) fn new(
        config: Config,
        warnings: Vec<Warning>,
        host: &Host,
        cores: Vec<Option<usize>>,
        memory: Memory,
    ) -> Self {
        let sum = |size: fn(&Forward) -> usize| -> usize {
            config.upstreams().map(|(forward, _)| size(forward)).sum()
        };
        let ports = Ports {
            spread: sum(|forward| forward.sizing.spread),
            most: sum(|forward| forward.sizing.max_conns),
            ephemeral: host.ephemeral_ports,
        };
        let descriptors = config.descriptors();
        let open_files = host.open_files;
        let mut notes = Vec::new();
        let most = ports.most * cores.len();
        if most > ports.ephemeral {
            notes.push(format!(
                "up to {most} source ports can be needed at once, but the kernel has only {} \
                 (net.ipv4.ip_local_port_range): lower max_conns or spread, start fewer workers, \
                 or widen the range",
                ports.ephemeral
            ));
        }
        let (hosts, zones) = (Vec::new(), Vec::new());
        let (host_memory, gso, gso_wanted) = (None, false, true);
        Self {
            config,
            warnings,
            notes,
            cores,
            descriptors,
            open_files,
            ports,
            memory,
            hosts,
            zones,
            host_memory,
            gso,
            gso_wanted,
        }
    }

    /// Adds the warnings about a host with this topology.
    pub(crate) fn on(mut self, topology: &Topology) -> Self {
        let pinned: Vec<usize> = self.cores.iter().copied().flatten().collect();
        self.notes.extend(topology.notes(&pinned));
        self
    }

    /// Adds the warnings about a host whose process may use `memory` bytes.
    ///
    /// Needing more is no error: memory is taken as tables and caches fill.
    pub(crate) fn within(mut self, memory: Option<usize>) -> Self {
        self.host_memory = memory;
        let most = self.memory.most() * self.workers() + self.memory.engine.shared_caches_max;
        if let Some(memory) = memory.filter(|memory| most > *memory) {
            self.notes.push(format!(
                "up to {} MiB of memory are needed when all tables and caches are full, but only \
                 {} MiB are available: {}, or start fewer workers",
                most >> 20,
                memory >> 20,
                self.largest()
            ));
        }
        self
    }

    /// Returns advice on the largest part of the memory.
    fn largest(&self) -> &'static str {
        let (engine, workers) = (&self.memory.engine, self.workers());
        let caches = engine.caches_max * workers + engine.shared_caches_max;
        let parts = [
            (caches, "lower CAPACITY or capacity_bytes of cache"),
            (workers * (engine.pools + self.memory.sockets), "lower max_conns"),
            (workers * engine.limits, "lower table of ratelimit"),
            (workers * engine.routes, "configure fewer zones and exceptions"),
        ];
        parts.into_iter().max_by_key(|(bytes, _)| *bytes).map_or("", |(_, advice)| advice)
    }

    pub(crate) fn workers(&self) -> usize {
        self.cores.len()
    }

    /// Returns the maximum bytes of one worker's connections, all open and at their bounds: those
    /// of clients, and those to upstreams.
    pub(crate) fn connections_max(&self) -> (usize, usize) {
        let clients = self.descriptors.client_connections * self.memory.client_connection_max;
        // One of each upstream's two pools has connections.
        (clients, self.ports.most * self.memory.upstream_connection_max)
    }
}
