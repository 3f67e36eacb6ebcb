//! The whole program, as its users meet it.
//!
//! The real binary in a process of its own: its command line, messages and exit codes ([`cli`]),
//! and its work between programs of other makers ([`real_servers`]).

mod cli;
mod process;
mod real_servers;
