//! Report on a configuration that can be served.
//!
//! Plain numbers, each from the owner of the counted thing: descriptors from the configuration's
//! budget, memory from a worker's own tables. Nothing is written here.

use crate::config::{Config, Descriptors, Forward, Host};
use crate::corefile::Warning;
use crate::topology::Topology;
use crate::worker::Memory;

/// A configuration, and what serving it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// With every default filled in.
    pub config: Config,
    /// Warnings with file and line.
    pub warnings: Vec<Warning>,
    /// Warnings about this host.
    pub notes: Vec<String>,
    /// One entry a worker: its core, if it is pinned.
    pub cores: Vec<Option<usize>>,
    /// File descriptors at most.
    pub descriptors: Descriptors,
    /// Files that the process may have open.
    pub open_files: usize,
    /// Source ports.
    pub ports: Ports,
    /// Of one worker.
    pub memory: Memory,
    /// Hosts files that were loaded, as they would be at the start.
    pub hosts: Vec<HostsTable>,
    /// Zones that were loaded, as they would be at the start.
    pub(crate) zones: Vec<ZoneTable>,
    /// Bytes that the process may use, if that is known.
    pub host_memory: Option<usize>,
    /// True if the kernel takes one send apart into several datagrams.
    pub gso: bool,
    /// GSO is allowed, whatever stanzas set.
    pub gso_wanted: bool,
}

/// Contents of a hosts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostsTable {
    /// The file, as metrics call it.
    pub label: String,
    /// Names and reverse names with an address each.
    pub entries: usize,
    /// Bytes of the table that all workers share. While it is loaded again there are two.
    pub bytes: usize,
}

/// Contents of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneTable {
    /// The zone.
    pub(crate) zone: String,
    /// The file, as it is written.
    pub(crate) label: String,
    /// Records.
    pub(crate) records: usize,
    /// Serial number of the SOA record.
    pub(crate) serial: u32,
    /// Bytes of the zone, which all workers share. While it is loaded again there are two.
    pub(crate) bytes: usize,
}

/// Source ports that one worker's pools take, of each of UDP and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Of UDP, as soon as there are queries enough.
    pub spread: usize,
    /// At most.
    pub most: usize,
    /// Number of the kernel's ephemeral ports, for all programs.
    pub ephemeral: usize,
}

impl Report {
    /// On `cores` of `host`, `memory` being that of one worker.
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

    /// With the warnings about a host where cards and cores are like this.
    pub(crate) fn on(mut self, topology: &Topology) -> Self {
        let pinned: Vec<usize> = self.cores.iter().copied().flatten().collect();
        self.notes.extend(topology.notes(&pinned));
        self
    }

    /// With the warnings about a host whose process may use `memory` bytes.
    ///
    /// More than that is no reason not to serve: memory is taken as tables and caches fill.
    pub(crate) fn within(mut self, memory: Option<usize>) -> Self {
        self.host_memory = memory;
        let most = self.memory.most() * self.workers();
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
        let engine = &self.memory.engine;
        let parts = [
            (engine.caches_max, "lower CAPACITY or capacity_bytes of cache"),
            (engine.pools + self.memory.sockets, "lower max_conns"),
            (engine.routes, "configure fewer zones and exceptions"),
        ];
        parts.into_iter().max_by_key(|(bytes, _)| *bytes).map_or("", |(_, advice)| advice)
    }

    /// Returns the number of workers.
    pub(crate) fn workers(&self) -> usize {
        self.cores.len()
    }

    /// Bytes that one worker's connections can come to hold, all open and at their bounds: those of
    /// clients, and those to upstreams.
    pub(crate) fn connections_max(&self) -> (usize, usize) {
        let clients = self.descriptors.client_connections * self.memory.client_connection_max;
        // Of each upstream's two pools one is of connections.
        (clients, self.ports.most * self.memory.upstream_connection_max)
    }
}
