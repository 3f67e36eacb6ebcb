//! onward, a DNS forwarder.

pub mod clock;
pub mod moment;
pub mod wheel;
