//! The whole program behind real connection tracking, in network namespaces of its own.
//!
//! What tracking, routing and ICMP do to flows that are alive: whatever happens, queries are
//! answered again within a bound, the counters tell, and nothing is stuck. Needs root, iproute2,
//! nftables and conntrack; says aloud that it is skipped without. Each test has its own namespaces.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/installed.rs"]
mod installed;
#[path = "../common/lab.rs"]
mod lab;
#[allow(dead_code, reason = "shared with the tests of the program, which use more of it")]
#[path = "../program/process.rs"]
mod process;
#[path = "../common/until.rs"]
mod until;

mod flows;
mod site;
mod steering;
