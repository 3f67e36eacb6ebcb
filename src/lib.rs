//! onward, a DNS forwarder.

pub mod clock;
pub mod corefile;
pub mod moment;
