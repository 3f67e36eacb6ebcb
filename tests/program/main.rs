//! The whole program, as its users meet it.
//!
//! The real binary in a process of its own: its command line, messages and exit codes ([`cli`]),
//! what it says of a configuration ([`check`]), of a host ([`doctor`]), of queries ([`log`]) and of
//! those that fail ([`errors`]), its work between programs of other makers ([`real_servers`],
//! [`dnstap`], [`dot`]), its sleep ([`idle`]), its life ([`life`]), what a host
//! that does not answer leaves of it ([`blocked`]), its pages over HTTP
//! ([`pages`]), what outages leave behind ([`outages`]), what it may still do ([`confinement`]),
//! the files that a host gets ([`tuning`]), who announces its address ([`anycast`]), and what it
//! does to a terminal ([`top`]), and how zones follow a directory ([`zones`]).

mod anycast;
mod blocked;
#[path = "../common/certs.rs"]
mod certs;
mod check;
mod cli;
mod confinement;
#[path = "../common/dead.rs"]
mod dead;
mod dnstap;
mod doctor;
mod dot;
mod errors;
#[path = "../common/flood.rs"]
mod flood;
#[path = "../common/http.rs"]
mod http;
mod idle;
#[path = "../common/installed.rs"]
mod installed;
mod life;
mod log;
mod names;
mod outages;
mod pages;
mod process;
mod real_servers;
mod top;
mod tsig;
mod tuning;
#[path = "../common/until.rs"]
mod until;
mod zones;
