//! loadgen: a load generator for DNS servers, and an upstream to point a forwarder at.
//!
//! ```text
//! workload ──► schedule ──► client (one thread a core) ──► the server under test ──► upstream
//!  what          when         │  ledger: what became of each query                     scripted
//!                             ▼
//!                           tally ──► report (text, JSON, HDR percentiles, HTML)
//! ```
//!
//! The rooms:
//!
//! * [`workload`]: what is asked, from files, captures or made up. [`schedule`]: when; pure.
//! * [`client`]: the loop of each thread and its sockets. [`ledger`]: what is outstanding on one of
//!   them and what each message is; pure. [`verify`]: what answers must say; pure.
//! * [`tally`]: what is counted; pure. [`stats`]: what follows from numbers; pure.
//! * [`report`]: what is told about a run, and whether it did what was asked; pure.
//! * [`search`]: for the highest rate; [`compare`]: of two servers; pure. [`process`]: what a
//!   server takes of its processors.
//! * [`upstream`]: a server that behaves as badly as it is told to. [`zone`]: what zone files say;
//!   pure.
//! * [`dot`]: certificates for both sides of DNS over TLS.
//! * [`incident`]: a backend behind a virtual address fails and is back, in network namespaces.
//! * [`cli`]: what was typed. [`units`]: durations, shares and rates as people write them.
//!
//! One idea rules the rest: an open loop. Queries leave on a schedule that was fixed beforehand,
//! and latency counts from the instant on the schedule, so that neither a server that stalls nor
//! this program, when it comes late itself, can hide what a real client would have waited. The
//! kernel is reached through `onward::sys`, time is read through `onward::clock`; the format of
//! messages is that of `onward::traffic`, which shares nothing with the forwarder's own.

pub mod cli;
pub mod client;
pub mod compare;
pub mod dot;
pub mod incident;
pub mod ledger;
pub mod process;
pub mod report;
pub mod schedule;
pub mod search;
pub mod stats;
pub mod tally;
pub mod units;
pub mod upstream;
pub mod verify;
pub mod workload;
pub mod zone;
