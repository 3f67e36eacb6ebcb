//! The whole program, as its users meet it.
//!
//! The real binary in a process of its own: its command line, messages and exit codes ([`cli`]),
//! its work between programs of other makers ([`real_servers`]), its sleep ([`idle`]) and
//! its life ([`life`]).

mod cli;
mod idle;
mod life;
mod process;
mod real_servers;
