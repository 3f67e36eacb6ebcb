//! The engine: every decision about a query, and nothing else. PURE.
//!
//! No socket, clock, thread, log or unsafe: packets, time and randomness come in as arguments,
//! and what comes out are replies in the caller's buffers and keys of connections to send on,
//! dial or close. So whole outages run in virtual time, in a test, in milliseconds.
//! [`forwarder`] is the one place that branches; it owns the rest, each of which has one
//! invariant: [`message`] (bytes), [`zones`] and [`routes`] (routing), [`chain`] and [`stages`]
//! (what happens besides forwarding), [`tsig`] (signatures of messages), [`policy`] (order),
//! [`pool`] (connections), [`exchange`] (outstanding queries), [`cache`] (answers that are
//! remembered), [`health`] (who is down),
//! [`data`], [`hosts`] and [`authority`] (what loaders have loaded), [`errors`] and [`journal`]
//! (what is to be logged), [`stats`] and [`tally`] (counters), and under them the containers
//! [`key`], [`list`], [`heap`], [`index`], [`histogram`] and [`sketch`], and [`memory`], which says
//! how large they are. [`shell`] is the contract with the one who moves the packets: what a shell
//! has to do, and the loop that has it done at the end of a turn.

pub mod authority;
pub mod cache;
pub mod chain;
pub mod clients;
pub mod data;
pub mod errors;
pub mod exchange;
pub mod forwarder;
pub mod frame;
pub mod health;
pub mod heap;
pub mod histogram;
pub mod hosts;
pub mod index;
pub mod journal;
pub mod key;
pub mod list;
pub mod memory;
pub mod message;
pub mod policy;
pub mod pool;
pub mod rewrite;
pub mod routes;
pub mod shell;
pub mod sketch;
pub mod stages;
pub mod stats;
pub mod tally;
pub mod tsig;
pub mod views;
pub mod zones;

pub use exchange::Client;
pub use forwarder::{Answered, Dial, Forwarder, Notice, Outgoing, Reply};
pub use key::{ConnectionId, PoolId, Sweep};
