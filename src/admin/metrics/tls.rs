//! Prometheus metrics of TLS: handshakes on both sides, and certificates' ends of validity.
//!
//! Labels: `side`, which is `clients` or `upstream`; `to`, the upstream; `result`, which is `full`,
//! `resumed` or the fault. A series begins with the first handshake that it counts.

use super::{Buckets, Exposition, edges};
use crate::control::snapshot::Snapshot;
use crate::engine::errors::TLS_FAULT_NAMES;
use crate::engine::stats::Handshakes;

/// Adds the handshakes of one worker.
pub(super) fn of_handshakes(all: &mut Exposition, snapshot: &Snapshot) {
    let stats = &snapshot.stats;
    if snapshot.config.listeners.iter().any(|listener| listener.tls.is_some()) {
        of_side(all, "clients", "", &stats.handshakes);
        let help = "Handshakes of clients that waited because the CPU time for handshakes was \
                    used up.";
        let deferred = stats.handshakes.deferred as f64;
        all.counter("onward_tls_handshakes_deferred_total", help, &[], deferred);
    }
    for ((_, upstream), stats) in snapshot.config.upstreams().zip(&stats.upstreams) {
        if upstream.tls.is_some() {
            of_side(all, "upstream", &upstream.address.to_string(), &stats.handshakes);
        }
    }
}

/// Adds the ends of validity of the configuration's certificates.
pub(super) fn of_certificates(all: &mut Exposition, snapshot: &Snapshot) {
    for entry in snapshot.tls.certificates() {
        let help = "End of validity of a certificate in the configuration's files, in seconds \
                    since 1970, by its use: server (shown to clients), client (shown to \
                    upstreams), authority.";
        let number = entry.number.to_string();
        let labels = [
            ("use", entry.used.name()),
            ("file", &*entry.file),
            ("number", &*number),
            ("subject", &*entry.subject),
        ];
        let end = entry.not_after.as_secs_f64();
        all.gauge("onward_tls_certificate_not_after_seconds", help, &labels, end);
    }
}

fn of_side(all: &mut Exposition, side: &str, to: &str, handshakes: &Handshakes) {
    let done = [("full", handshakes.full), ("resumed", handshakes.resumed)];
    for (result, count) in
        done.into_iter().chain(TLS_FAULT_NAMES.into_iter().zip(handshakes.failed))
    {
        let help = "TLS handshakes with clients and upstreams, by result.";
        let labels = [("side", side), ("to", to), ("result", result)];
        all.counter_if_any("onward_tls_handshakes_total", help, &labels, count);
    }
    let took = &handshakes.took;
    let buckets = Buckets::new(edges(), &took.cumulative(), took.count(), took.sum_seconds());
    let help = "Time from the start of a connection to the end of its TLS handshake, in seconds.";
    let labels = [("side", side), ("to", to)];
    all.histogram("onward_tls_handshake_duration_seconds", help, &labels, buckets);
}
