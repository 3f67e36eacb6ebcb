//! The report as JSON.
//!
//! The blocks are those of the effective configuration, parsed as a Corefile: a new directive
//! appears here without any change. Numbers are plain, and sizes are in bytes. Keys may be added;
//! existing ones keep their meaning.

use super::{HostsTable, Refusal, Report, ZoneTable};
use crate::config::{Cause, ConfigError, Layers};
use crate::corefile::{self, Corefile, Cursor, Directive, Place, Sources, Token, Warning};
use crate::options::Exit;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Returns the report on a configuration that can be served.
pub(super) fn accepted(report: &Report) -> String {
    let (own, ports) = (&report.descriptors, &report.ports);
    let (workers, effective) = (report.workers(), report.config.to_string());
    let listeners = report.config.listeners.iter().map(|listener| {
        let zones: Vec<_> = listener.zones.iter().map(|(zone, _)| zone.to_string()).collect();
        let certificates: Vec<_> =
            listener.certificates().map(|tls| &tls.certificate.path).collect();
        let Layers { udp, tcp } = listener.protocol.layers();
        json!({
            "address": listener.address.to_string(),
            "implied": listener.implied,
            "protocol": listener.protocol.scheme(),
            "udp": udp,
            "tcp": tcp,
            "certificates": certificates,
            "zones": zones,
        })
    });
    let http = report.config.http().into_iter().map(|listener| {
        let paths: Vec<_> = listener.pages.iter().flat_map(|page| page.paths()).collect();
        json!({ "address": listener.address.to_string(), "paths": paths })
    });
    shown(&json!({
        "ok": true,
        "warnings": report.warnings.iter().map(warning).collect::<Vec<_>>(),
        "notes": report.notes,
        "workers": workers,
        "cores": report.cores,
        "listeners": listeners.collect::<Vec<_>>(),
        "http": http.collect::<Vec<_>>(),
        "blocks": blocks(&effective),
        "corefile": effective,
        "descriptors": {
            "per_worker": {
                "listeners": own.listeners,
                "client_streams": own.client_connections,
                "connections": own.connections,
                "own": own.worker,
                "all": own.of_worker(),
            },
            "probes": own.probes,
            "http": own.http,
            "process": own.process,
            "all": own.all(workers),
            "limit": report.open_files,
        },
        "source_ports": {
            "per_worker": { "spread": ports.spread, "most": ports.most },
            "all": { "spread": ports.spread * workers, "most": ports.most * workers },
            "ephemeral": ports.ephemeral,
        },
        "hosts": report.hosts.iter().map(hosts).collect::<Value>(),
        "zones": report.zones.iter().map(zone).collect::<Vec<_>>(),
        "gso": report.gso && report.gso_wanted,
        "memory": memory(report),
    }))
}

/// Returns the memory of a worker and of all.
fn memory(report: &Report) -> serde_json::Value {
    let (memory, workers) = (&report.memory, report.workers());
    let (clients, upstreams) = report.connections_max();
    json!({
        "limit": report.host_memory,
        "per_worker": {
            "exchanges": memory.engine.exchanges,
            "pools": memory.engine.pools,
            "caches": memory.engine.caches,
            "caches_max": memory.engine.caches_max,
            "limits": memory.engine.limits,
            "routes": memory.engine.routes,
            "queues": memory.engine.queues,
            "parked_max": memory.engine.parked_max,
            "held_max": memory.engine.held_max,
            "sockets": memory.sockets,
            "batches": memory.batches,
            "reserved": memory.reserved(),
            "client_streams_max": clients,
            "upstream_streams_max": upstreams,
        },
        "all": {
            "reserved": memory.reserved() * workers + memory.engine.shared_caches,
            "caches": memory.engine.caches * workers + memory.engine.shared_caches,
            "caches_max": memory.engine.caches_max * workers + memory.engine.shared_caches_max,
            "client_streams_max": clients * workers,
            "upstream_streams_max": upstreams * workers,
        },
    })
}

/// Returns the report on a refused configuration.
pub(super) fn refused(refusal: &Refusal) -> String {
    let place = match refusal {
        Refusal::Config(error) => Some(error.place()),
        _ => None,
    };
    let errors = match refusal {
        Refusal::Config(error) => error.each(),
        _ => &[],
    };
    shown(&json!({
        "ok": false,
        "error": {
            "message": refusal.to_string(),
            "blame": match refusal.cause() {
                Cause::Text => "text",
                Cause::Host => "host",
            },
            "exit": Exit::from(refusal.cause()).code(),
            "file": place.map(|place| &*place.file),
            "line": place.map(|place| place.line),
        },
        "errors": errors.iter().map(error).collect::<Vec<_>>(),
    }))
}

/// One mistake of the configuration.
fn error(error: &ConfigError) -> Value {
    let Place { file, line } = error.place();
    json!({ "file": &**file, "line": line, "message": error.to_string() })
}

fn shown(value: &Value) -> String {
    format!("{value:#}\n")
}

fn hosts(table: &HostsTable) -> Value {
    json!({ "file": table.label, "entries": table.entries, "bytes": table.bytes })
}

fn zone(table: &ZoneTable) -> Value {
    let ZoneTable { zone, label, records, serial, bytes } = table;
    json!({
        "zone": zone, "file": label, "records": records, "serial": serial, "bytes": bytes,
    })
}

fn warning(warning: &Warning) -> Value {
    let place = &warning.place;
    json!({ "file": &*place.file, "line": place.line, "message": warning.message })
}

/// Returns the server blocks of a configuration text written by onward itself.
fn blocks(effective: &str) -> Vec<Value> {
    let nothing = Sources::fixed(BTreeMap::new(), BTreeMap::new());
    let parsed = corefile::parse(effective.as_bytes(), "effective", &nothing);
    let Corefile { blocks, .. } = parsed.expect("what was printed can be read");
    let block = |block: &corefile::Block| {
        let keys = block.keys.iter().collect::<Vec<_>>();
        let stanzas = block.directives.iter().flat_map(stanzas);
        json!({ "keys": words(&keys), "directives": stanzas.collect::<Vec<_>>() })
    };
    blocks.iter().map(block).collect()
}

fn stanzas(directive: &Directive) -> Vec<Value> {
    let mut cursor = Cursor::new(&directive.tokens);
    let mut stanzas = Vec::new();
    while let Some(name) = cursor.stanza() {
        let arguments = words(&cursor.rest());
        let mut options = Vec::new();
        while let Some(option) = cursor.block() {
            options.push(json!({ "name": &*option.text, "arguments": words(&cursor.rest()) }));
        }
        stanzas.push(json!({ "name": &*name.text, "arguments": arguments, "options": options }));
    }
    stanzas
}

fn words(tokens: &[&Token]) -> Vec<String> {
    tokens.iter().map(|token| token.text.to_string()).collect()
}
