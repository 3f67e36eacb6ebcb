//! A report for people: warnings, the effective configuration, then one table of what it takes.
//!
//! The configuration can be read again as a Corefile; what follows it is in comments, so that all
//! of it together still can.

use super::{HostsTable, Report};
use crate::config::HttpListener;
use crate::engine::memory::EngineMemory;
use std::fmt;

const MIB: f64 = (1 << 20) as f64;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "# [WARNING] {warning}")?;
        }
        for note in &self.notes {
            writeln!(f, "# [WARNING] {note}")?;
        }
        write!(f, "{}", self.config)?;
        writeln!(f, "#\n# listeners, each for UDP and TCP")?;
        for listener in &self.config.listeners {
            let implied = if listener.implied { " (if the host has this family)" } else { "" };
            let zones: String = listener.zones.iter().map(|(zone, _)| format!(" {zone}")).collect();
            writeln!(f, "#   {}{implied}:{zones}", listener.address)?;
        }
        self.write_pages(f)?;
        let pinned: Vec<_> = self.cores.iter().flatten().map(usize::to_string).collect();
        let pinned = match pinned.as_slice() {
            [] => "not pinned".to_owned(),
            cores => format!("pinned to cores {}", cores.join(", ")),
        };
        let workers = self.workers();
        writeln!(f, "#\n# {:<44} {:>13} {:>13}", "", "a worker", "in all")?;
        writeln!(f, "# {:<44} {:>13} {workers:>13}  {pinned}", "workers", "")?;
        self.write_descriptors(f)?;
        self.write_ports(f)?;
        self.write_memory(f)?;
        self.write_hosts(f)?;
        let gso = |wanted: bool| match (self.gso, wanted) {
            (_, false) => "not wanted",
            (true, true) => "yes",
            (false, true) => "no: the kernel is older than 4.18",
        };
        let queries = gso(self.gso_wanted && self.config.forwards().any(|forward| forward.gso));
        let replies = gso(self.gso_wanted);
        writeln!(f, "# {:<47} {queries:>10}", "queries of equal length leave as one (UDP GSO)")?;
        writeln!(f, "# {:<47} {replies:>10}", "replies of equal length to one client do")
    }
}

impl Report {
    fn write_pages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.config.http();
        if !pages.is_empty() {
            writeln!(f, "#\n# pages over HTTP")?;
        }
        for HttpListener { address, pages } in pages {
            let paths: String = pages.iter().map(|page| format!(" {}", page.paths()[0])).collect();
            writeln!(f, "#   {address}:{paths}")?;
        }
        Ok(())
    }

    fn write_descriptors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = &self.descriptors;
        let (all, limit) = (own.all(self.workers()), self.open_files);
        let each = own.of_worker();
        writeln!(f, "# {:<44} {each:>13} {all:>13}  of {limit}", "file descriptors, at most")?;
        let rows = [
            ("listening sockets", own.listeners),
            ("streams of clients", own.client_streams),
            ("connections to upstreams", own.connections),
            ("the worker's own", own.worker),
        ];
        for (what, each) in rows {
            writeln!(f, "#   {what:<42} {each:>13} {:>13}", each * self.workers())?;
        }
        writeln!(f, "#   {:<42} {:>13} {:>13}", "probes", "", own.probes)?;
        if own.http > 0 {
            writeln!(f, "#   {:<42} {:>13} {:>13}", "pages over HTTP", "", own.http)?;
        }
        writeln!(f, "#   {:<42} {:>13} {:>13}", "the process itself", "", own.process)
    }

    fn write_ports(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = &self.ports;
        let rows = [
            ("source ports for UDP in rotation", ports.spread, String::new()),
            ("source ports for UDP, at most", ports.most, format!("  of {}", ports.ephemeral)),
            ("source ports for TCP, at most", ports.most, format!("  of {}", ports.ephemeral)),
        ];
        for (what, each, limit) in rows {
            writeln!(f, "# {what:<44} {each:>13} {:>13}{limit}", each * self.workers())?;
        }
        Ok(())
    }

    fn write_hosts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.hosts.is_empty() {
            writeln!(f, "# {:<44}", "hosts, MiB in all; twice that while one is loaded again")?;
        }
        for HostsTable { label, entries, bytes } in &self.hosts {
            let mib = *bytes as f64 / MIB;
            writeln!(f, "#   {label:<45} {:>10} {mib:>13.2}  {entries} entries", "")?;
        }
        Ok(())
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        let EngineMemory { exchanges, pools, caches, caches_max, routes, queues } = memory.engine;
        let (clients, upstreams) = self.streams_max();
        let rows = [
            ("memory reserved at the start, MiB", memory.reserved()),
            ("  outstanding queries and who waits for them", exchanges),
            ("  pools of connections, and their sockets", pools + memory.sockets),
            ("  caches", caches),
            ("  zones, stanzas and exceptions", routes),
            ("  batches of datagrams, and queues", queues + memory.batches),
            ("memory besides, if every cache is full", caches_max - caches),
            ("memory besides, if every stream is at its bound", clients + upstreams),
            ("  streams of clients", clients),
            ("  streams to upstreams", upstreams),
        ];
        for (place, (what, each)) in rows.into_iter().enumerate() {
            let (each, all) = (each as f64 / MIB, (each * self.workers()) as f64 / MIB);
            write!(f, "# {what:<47} {each:>10.2} {all:>13.2}")?;
            match self.host_memory {
                Some(memory) if place == 0 => writeln!(f, "  of {:.2}", memory as f64 / MIB)?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}
