//! Traffic: a client and an upstream that are made for each other.
//!
//! [`client`] asks for names that nobody asked before; [`responder`] answers each with an address
//! derived from the name; so the client can tell a right answer from any other, whatever stands
//! between the two. The demonstration, the loopback tests and the load generator drive a real
//! forwarder with this pair, over real sockets.
//!
//! Both ends agree in [`wire`] (the little of the format that they need) and [`answer`] (what the
//! answer to a question is); [`query`] makes the questions, [`report`] prints what was counted.
//! These are pure. Nothing here knows the forwarder: it must not be tested with its own parser.

pub mod answer;
pub mod client;
mod flight;
mod peers;
pub mod query;
pub mod report;
pub mod responder;
pub mod stream;
pub mod wire;

#[cfg(test)]
mod tests;

use crate::sys::{cpu, random};
use std::io;

/// A seed for names that no run before this one has asked for ([`query::QueryMaker`]).
///
/// # Errors
/// The kernel has no randomness to give.
pub fn fresh_seed() -> io::Result<u64> {
    let [a, b, c, d, e, f, g, h, ..] = random::seed()?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Refuses a core that this process may not run on, before a thread is started for it.
fn check_core(core: usize) -> io::Result<()> {
    if cpu::cores().contains(&core) {
        return Ok(());
    }
    let text = format!("this process may not run on core {core}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
