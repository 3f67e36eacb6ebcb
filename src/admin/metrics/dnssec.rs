//! The series about signatures of replies (`dnssec`).
//!
//! The metrics of the reference have its labels, once for each server block. A metric of onward
//! counts the signatures of all blocks by how they came about.

use super::queries::first_listener;
use super::{Exposition, Snapshot, server_at};
use crate::engine::dnssec::kept::DnssecStats;

/// Adds the counters of the server blocks that sign; the first listener of a block gives the label.
pub(super) fn of_signatures(all: &mut Exposition, snapshot: &Snapshot) {
    let blocks = snapshot.config.blocks.iter().enumerate();
    let signing = blocks.filter(|(_, block)| {
        block.stages.dnssec.as_ref().is_some_and(|dnssec| !dnssec.keys.is_empty())
    });
    let mut sum = DnssecStats::default();
    for ((number, _), stats) in signing.zip(&snapshot.stats.dnssec) {
        let server = first_listener(&snapshot.config, number).map_or_else(String::new, server_at);
        let labels = [("server", &*server), ("type", "signature")];
        let help = "Signatures kept for replies.";
        all.gauge("coredns_dnssec_cache_entries", help, &labels, stats.entries as f64);
        let labels = [("server", &*server)];
        let help = "Signatures of replies that had been kept.";
        all.counter("coredns_dnssec_cache_hits_total", help, &labels, stats.hits as f64);
        let help = "Signatures of replies that had not been kept.";
        all.counter("coredns_dnssec_cache_misses_total", help, &labels, stats.misses as f64);
        sum.add(stats);
    }
    let made = sum.misses.saturating_sub(sum.refused);
    for (how, count) in [("kept", sum.hits), ("made", made), ("refused", sum.refused)] {
        let help = "Signatures of replies: kept, made, or refused because the worker's time for \
                    them was spent.";
        all.counter_if_any("onward_dnssec_signatures_total", help, &[("how", how)], count);
    }
}
