//! Traffic: a client and an upstream that are made for each other.
//!
//! ```text
//! workload ──► schedule ──► client (one thread a core) ──► the server under test ──► upstream
//!                              │  ledger: outcome of each query
//!                              ▼
//!                            tally
//! ```
//!
//! [`upstream`] answers each question with an address derived from the name, or by a script;
//! [`client`] sends queries, on a schedule or with a fixed number outstanding, and verifies each
//! answer. The demonstration, the tests with sockets and the load generator drive a real forwarder
//! with this pair.
//!
//! [`workload`] generates queries, [`schedule`] their send times; [`ledger`] holds the outstanding
//! queries of a socket, [`verify`] checks answers, [`tally`] counts. Both ends share [`wire`] (the
//! part of the format that they need), [`answer`] (the answer to a question) and [`zone`] (answers
//! with other records); [`report`] prints tables. These are pure. Nothing here uses the forwarder's
//! own parser of DNS, so that a mistake in it cannot hide.

pub mod answer;
pub mod chi_square;
pub mod client;
mod doh;
mod doq;
pub mod ledger;
pub mod report;
pub mod schedule;
pub mod tally;
pub(crate) mod tcp;
pub mod upstream;
pub mod verify;
pub mod wire;
pub mod workload;
pub mod zone;

#[cfg(test)]
mod tests;

use crate::sys::random;
use std::io;

/// Returns a seed for names that no earlier run has queried ([`workload::Source::unique`]).
///
/// # Errors
/// The kernel has no randomness.
pub fn fresh_seed() -> io::Result<u64> {
    let [a, b, c, d, e, f, g, h, ..] = random::seed()?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}
