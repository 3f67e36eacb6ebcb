//! The whole program, as its users meet it.
//!
//! The real binary in a process of its own: its command line, messages and exit codes ([`cli`]),
//! what it says of a configuration ([`check`]), its work between programs of other makers
//! ([`real_servers`]), and its sleep ([`idle`]).

mod check;
mod cli;
mod idle;
mod process;
mod real_servers;
