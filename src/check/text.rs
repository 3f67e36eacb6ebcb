//! The report as text: warnings, the effective configuration, then one table of its requirements.
//!
//! The whole output can be read as a Corefile again, because the table is in comments.

use super::{HostsTable, Report, ZoneTable};
use crate::config::{HttpListener, Listener, Protocol, SigningKey};
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
        writeln!(f, "#\n# listeners, for dns over UDP and TCP unless it says otherwise")?;
        for listener in &self.config.listeners {
            let implied = if listener.implied { " (if the host has this family)" } else { "" };
            let zones: String = listener.zones.iter().map(|(zone, _)| format!(" {zone}")).collect();
            let carrier = Carrier(listener);
            writeln!(f, "#   {}{implied}{carrier}:{zones}", listener.address)?;
        }
        self.write_pages(f)?;
        let pinned: Vec<_> = self.cores.iter().flatten().map(usize::to_string).collect();
        let pinned = match pinned.as_slice() {
            [] => "not pinned".to_owned(),
            cores => format!("pinned to cores {}", cores.join(", ")),
        };
        let workers = self.workers();
        writeln!(f, "#\n# {:<44} {:>13} {:>13}", "", "per worker", "total")?;
        writeln!(f, "# {:<44} {:>13} {workers:>13}  {pinned}", "workers", "")?;
        self.write_descriptors(f)?;
        self.write_ports(f)?;
        self.write_memory(f)?;
        self.write_hosts(f)?;
        self.write_zones(f)?;
        self.write_signed(f)?;
        self.write_keys(f)?;
        self.write_transferred(f)?;
        self.write_cookies(f)?;
        let gso = |wanted: bool| match (self.gso, wanted) {
            (_, false) => "off (--gso off)",
            (true, true) => "yes",
            (false, true) => "no (kernel before 4.18)",
        };
        let queries = gso(self.gso_wanted && self.config.forwards().any(|forward| forward.gso));
        let replies = gso(self.gso_wanted);
        writeln!(f, "# {:<47} {queries:>10}", "UDP GSO for queries")?;
        writeln!(f, "# {:<47} {replies:>10}", "UDP GSO for replies")
    }
}

/// Transport of a listener that is not for plain DNS, and its certificates.
struct Carrier<'a>(&'a Listener);

impl fmt::Display for Carrier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(listener) = self;
        if listener.protocol == Protocol::Dns {
            return Ok(());
        }
        let layer = if listener.protocol.layers().udp { "UDP" } else { "TCP" };
        write!(f, " ({} over {layer}, ", listener.protocol.scheme())?;
        for (number, tls) in listener.certificates().enumerate() {
            let separator = if number == 0 { "certificate " } else { ", " };
            write!(f, "{separator}{}", tls.certificate.path)?;
        }
        let is_open = listener.tls.is_none();
        f.write_str(if is_open { "without encryption)" } else { ")" })
    }
}

impl Report {
    fn write_pages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.config.http();
        if !pages.is_empty() {
            writeln!(f, "#\n# HTTP endpoints")?;
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
        writeln!(f, "# {:<44} {each:>13} {all:>13}  of {limit}", "file descriptors, maximum")?;
        let rows = [
            ("listening sockets", own.listeners),
            ("client connections", own.client_connections),
            ("upstream connections", own.connections),
            ("internal to the worker", own.worker),
        ];
        for (what, each) in rows {
            writeln!(f, "#   {what:<42} {each:>13} {:>13}", each * self.workers())?;
        }
        writeln!(f, "#   {:<42} {:>13} {:>13}", "health checks", "", own.probes)?;
        if own.http > 0 {
            writeln!(f, "#   {:<42} {:>13} {:>13}", "HTTP endpoints", "", own.http)?;
        }
        writeln!(f, "#   {:<42} {:>13} {:>13}", "internal to the process", "", own.process)
    }

    fn write_ports(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = &self.ports;
        let rows = [
            ("UDP source ports kept open (spread)", ports.spread, String::new()),
            ("UDP source ports, maximum", ports.most, format!("  of {}", ports.ephemeral)),
            ("TCP source ports, maximum", ports.most, format!("  of {}", ports.ephemeral)),
        ];
        for (what, each, limit) in rows {
            writeln!(f, "# {what:<44} {each:>13} {:>13}{limit}", each * self.workers())?;
        }
        Ok(())
    }

    fn write_hosts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.hosts.is_empty() {
            writeln!(f, "# {:<44}", "hosts files, MiB in total; twice during a reload")?;
        }
        for HostsTable { label, entries, bytes } in &self.hosts {
            let mib = *bytes as f64 / MIB;
            writeln!(f, "#   {label:<45} {:>10} {mib:>13.2}  {entries} entries", "")?;
        }
        Ok(())
    }

    fn write_zones(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.zones.is_empty() {
            writeln!(f, "# {:<44}", "zones, MiB in total; twice during a reload")?;
        }
        for ZoneTable { zone, label, records, serial, bytes } in &self.zones {
            let mib = *bytes as f64 / MIB;
            write!(f, "#   {zone:<45} {:>10} {mib:>13.2}  ", "")?;
            writeln!(f, "{records} records, serial {serial}, {label}")?;
        }
        Ok(())
    }

    /// Writes the zones that are signed, with their files.
    fn write_signed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, signed) in self.config.signed_zones().iter().enumerate() {
            if number == 0 {
                writeln!(f, "# zones that are signed, with their files")?;
            }
            let (zone, file, output) = (&signed.file.zone, &signed.file.label, &signed.label);
            writeln!(f, "#   {:<45} {file} into {output}", zone.to_string())?;
        }
        Ok(())
    }

    /// Writes the keys that sign replies or zones, each with the DS record for the parent zone.
    fn write_keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signing = self.config.blocks.iter().filter_map(|block| block.stages.dnssec.as_ref());
        let signed = self.config.blocks.iter().flat_map(|block| &block.stages.sign);
        let all = signing.flat_map(|dnssec| &dnssec.keys).chain(signed.flat_map(|sign| &sign.keys));
        let mut keys: Vec<&SigningKey> = Vec::new();
        for key in all {
            if !keys.iter().any(|other| (&other.owner, &other.public) == (&key.owner, &key.public))
            {
                keys.push(key);
            }
        }
        if !keys.is_empty() {
            writeln!(f, "# keys that sign replies or zones, with their DS records")?;
        }
        for key in keys {
            let ds = key.public.ds(key.owner.as_wire());
            let digest: String = ds[4..].iter().map(|octet| format!("{octet:02x}")).collect();
            let (tag, algorithm) = (key.public.tag(), key.public.algorithm as u8);
            writeln!(f, "#   {key}: DS {tag} {algorithm} {} {digest}", ds[3])?;
        }
        Ok(())
    }

    /// Writes the zones that are transferred, with their primaries.
    fn write_transferred(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.config.zone_sources();
        let zones = sources.into_iter().flat_map(|source| &source.transferred);
        for (number, zone) in zones.enumerate() {
            if number == 0 {
                writeln!(f, "# zones that are transferred, and their primaries")?;
            }
            write!(f, "#   {:<45}", zone.zone)?;
            for primary in zone.primaries.iter() {
                let scheme = if primary.tls.is_some() { "tls://" } else { "" };
                let signed = if primary.key.is_some() { " (signed)" } else { "" };
                write!(f, " {scheme}{}{signed}", primary.address)?;
            }
            if zone.catalog.is_some() {
                write!(f, " (catalog)")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// Writes the secrets of server cookies.
    fn write_cookies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cookies) = self.config.cookies() else { return Ok(()) };
        write!(f, "# {:<47} ", "server cookies")?;
        match &cookies.file {
            _ if !cookies.is_on => writeln!(f, "{:>10}", "off"),
            None => writeln!(f, "own secret of each process"),
            Some(file) => writeln!(f, "secrets in {}: {}", file.path, cookies.secrets().count()),
        }
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        let EngineMemory { exchanges, pools, caches, caches_max, .. } = memory.engine;
        let EngineMemory { limits, routes, queues, parked_max, held_max, .. } = memory.engine;
        let EngineMemory { shared_caches, shared_caches_max, .. } = memory.engine;
        let (clients, upstreams) = self.connections_max();
        let rows = [
            ("memory reserved at start, MiB", memory.reserved(), shared_caches),
            ("  outstanding queries and their clients", exchanges, 0),
            ("  upstream connection pools and sockets", pools + memory.sockets, 0),
            ("  caches", caches, shared_caches),
            ("  accounts of rate limits", limits, 0),
            ("  zones, forward stanzas, except lists", routes, 0),
            ("  datagram batches and queues", queues + memory.batches, 0),
            (
                "additional memory with full caches",
                caches_max - caches,
                shared_caches_max - shared_caches,
            ),
            ("additional memory with parked queries", parked_max, 0),
            ("additional memory with late replies held back", held_max, 0),
            ("additional memory with full connection buffers", clients + upstreams, 0),
            ("  client connections", clients, 0),
            ("  upstream connections", upstreams, 0),
        ];
        // The workers share the entries of caches.
        for (place, (what, each, shared)) in rows.into_iter().enumerate() {
            let all = (each * self.workers() + shared) as f64 / MIB;
            let each = each as f64 / MIB;
            write!(f, "# {what:<47} {each:>10.2} {all:>13.2}")?;
            match self.host_memory {
                Some(memory) if place == 0 => writeln!(f, "  of {:.2}", memory as f64 / MIB)?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}
