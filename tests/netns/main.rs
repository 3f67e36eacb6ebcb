//! The whole program behind real connection tracking, in network namespaces of each test.
//!
//! Effects of connection tracking, routing and ICMP on live flows: after any disturbance queries
//! are answered again within a bound, counters show it, and nothing is stuck. Needs root, iproute2,
//! nftables and conntrack; otherwise the tests print that they are skipped.

#[path = "../common/certs.rs"]
mod certs;
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
mod mtu;
mod site;
mod steering;
