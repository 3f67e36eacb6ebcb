//! loadgen: a load generator for DNS servers, and an upstream to point a forwarder at.
//!
//! The client and the upstream are those of [`onward::traffic`], which has the drawing; this crate
//! reads their options and reports their results. The modules:
//!
//! * [`cli`]: arguments of the commands. [`units`]: parsing of durations, shares and rates.
//! * [`workload`]: queries from files and captures. [`zone`]: zone files. [`script`]: scripts of
//!   upstreams. Pure.
//! * [`report`]: text, JSON and HTML about a run, and its exit code; pure. [`stats`]: confidence
//!   intervals; pure.
//! * [`search`]: the highest rate; [`compare`]: comparison of two servers; pure. [`process`]:
//!   processor time of a server.
//! * [`dot`]: certificates for both sides of DNS over TLS.
//! * [`incident`]: a backend behind a virtual address fails and recovers, in network namespaces.
//!
//! One idea rules the rest: an open loop. Queries are sent on a schedule that was fixed beforehand,
//! and latency counts from the scheduled time, so that neither a server that stalls nor this
//! program, if it is late itself, can hide the time that a real client would have waited.

pub mod cli;
pub mod compare;
pub mod dot;
pub mod incident;
pub mod process;
pub mod report;
pub mod script;
pub mod search;
pub mod stats;
pub mod units;
pub mod workload;
pub mod zone;
