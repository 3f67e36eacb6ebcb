//! The engine: all decisions about queries. PURE.
//!
//! No socket, clock, thread, log or unsafe: packets, time and randomness are arguments, and the
//! results are replies in the caller's buffers and keys of connections to send on, dial or close.
//! So whole outages run in virtual time, in a test, in milliseconds. [`forwarder`] is the one place
//! that branches; it owns the rest, each of which has one invariant: [`message`] (bytes), [`zones`]
//! and [`routes`] (routing), [`chain`] and [`stages`] (directives besides `forward`), [`tsig`]
//! (signatures of messages), [`policy`] (order of upstreams), [`pool`] (connections), [`exchange`]
//! (outstanding queries), [`cache`] (stored answers), [`health`] (health state of upstreams),
//! [`data`], [`hosts`] and [`authority`] (data from loaders), [`proxy`] (clients behind proxies),
//! [`ratelimit`] (accounts of clients), [`cookies`] (proofs of their addresses), [`pulses`] (late
//! replies), [`errors`] and [`journal`] (logging), [`stats`] and [`tally`] (counters), and under
//! them the containers [`key`], [`list`], [`heap`], [`index`], [`histogram`] and [`sketch`], and
//! [`memory`], which counts their sizes. [`shell`] is the contract with the code that moves
//! packets: its duties, and the loop that carries out an engine's decisions at the end of a turn.

pub mod authority;
pub mod cache;
pub(crate) mod chain;
pub(crate) mod clients;
pub(crate) mod cookies;
pub mod data;
pub(crate) mod dnssec;
pub mod errors;
pub mod exchange;
pub mod forwarder;
pub mod frame;
pub mod health;
pub(crate) mod heap;
pub(crate) mod histogram;
pub mod hosts;
pub(crate) mod index;
pub mod journal;
pub mod key;
pub(crate) mod list;
pub(crate) mod memory;
pub mod message;
pub(crate) mod policy;
pub mod pool;
pub mod proxy;
pub(crate) mod pulses;
pub(crate) mod ratelimit;
pub(crate) mod rewrite;
pub mod routes;
pub mod shell;
pub mod sketch;
pub(crate) mod stages;
pub mod stats;
pub mod tally;
pub(crate) mod tsig;
pub(crate) mod views;
pub mod zones;

pub use exchange::Client;
pub(crate) use forwarder::{Answered, Reply};
pub use forwarder::{Dial, Forwarder, Notice, Outgoing};
pub use key::{ConnectionId, PoolId, Sweep, Via};
