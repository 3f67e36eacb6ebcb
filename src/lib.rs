//! onward, a DNS forwarder.

pub mod clock;
pub mod config;
pub mod corefile;
pub mod moment;
