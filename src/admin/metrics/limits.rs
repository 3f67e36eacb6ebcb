//! The series about limits of clients (`ratelimit`).
//!
//! Each server block with limits has series of its own, labelled with its first listener, because
//! each block has its own limits and accounts.

use super::queries::first_listener;
use super::{Exposition, Snapshot, server_at};
use crate::engine::ratelimit::{ACTION_NAMES, LIMIT_NAMES};

/// Adds the counters of the server blocks that limit their clients; the first listener of a block
/// gives the label.
pub(super) fn of_clients(all: &mut Exposition, snapshot: &Snapshot) {
    let blocks = snapshot.config.blocks.iter().enumerate();
    let limited = blocks.filter(|(_, block)| block.rate_limit().is_some());
    for ((number, _), stats) in limited.zip(&snapshot.stats.limits) {
        let server = first_listener(&snapshot.config, number).map_or_else(String::new, server_at);
        for (reason, actions) in LIMIT_NAMES.iter().zip(&stats.limited) {
            for (action, count) in ACTION_NAMES.iter().zip(actions) {
                let labels = [("server", &*server), ("reason", reason), ("action", action)];
                let help = "Queries and replies over UDP beyond a limit of their client: without a \
                            reply, with a truncated one, or only counted.";
                all.counter_if_any("onward_ratelimit_total", help, &labels, *count);
            }
        }
        let help = "Accounts of clients that gave way to others while they still mattered.";
        let labels = [("server", &*server)];
        all.counter("onward_ratelimit_displaced_total", help, &labels, stats.displaced as f64);
    }
}
