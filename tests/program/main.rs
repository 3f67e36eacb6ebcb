//! The whole program, as users run it.
//!
//! The real binary in a process of its own: command line, messages and exit codes ([`cli`]),
//! reports on a configuration ([`check`]) and on a host ([`doctor`]), query log ([`log`]) and error
//! log ([`errors`]), third-party programs ([`real_servers`], [`aioquic`], [`dnstap`],
//! [`doq_server`], [`doq_upstream`], [`dot`], [`https`], [`doh_upstream`], [`grpc_upstream`],
//! [`browser`], [`proxyproto`]), idle state ([`idle`]), process lifecycle ([`life`]), files and
//! resolvers that never respond ([`blocked`]), HTTP endpoints ([`pages`]), outages ([`outages`]),
//! privileges ([`confinement`]), server cookies ([`cookies`]), files for a host ([`tuning`]),
//! anycast ([`anycast`]), the terminal ([`top`]), zones in a directory ([`zones`]), signed answers
//! ([`dnssec`]), zone transfers ([`transfer`], [`secondaries`], [`secondary`], [`catalog`]), caches
//! that outlive a process ([`warm`]), and answers compared with those of nsd and named
//! ([`differential`]).

mod aioquic;
mod anycast;
mod blocked;
mod browser;
mod catalog;
#[path = "../common/certs.rs"]
mod certs;
mod check;
mod cli;
mod confinement;
mod cookies;
#[path = "../common/dead.rs"]
mod dead;
mod differential;
mod dnssec;
mod dnstap;
mod doctor;
mod doh_upstream;
#[path = "../common/doq.rs"]
mod doq;
mod doq_server;
mod doq_upstream;
mod dot;
mod errors;
#[path = "../common/flood.rs"]
mod flood;
mod grpc_upstream;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/http2.rs"]
mod http2;
mod https;
mod idle;
#[path = "../common/installed.rs"]
mod installed;
mod life;
#[path = "../common/load.rs"]
mod load;
mod log;
mod names;
mod outages;
mod pages;
mod process;
mod proxyproto;
#[path = "../common/quic.rs"]
mod quic;
mod real_servers;
mod secondaries;
mod secondary;
mod sign;
mod top;
mod transfer;
mod tsig;
mod tuning;
#[path = "../common/until.rs"]
mod until;
mod warm;
mod zones;
