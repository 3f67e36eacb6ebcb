//! The whole program, as its users meet it.
//!
//! The real binary in a process of its own: its command line, messages and exit codes ([`cli`]),
//! its work between programs of other makers ([`real_servers`]), and its sleep ([`idle`]).

mod cli;
mod idle;
mod process;
mod real_servers;
