//! onward, a DNS forwarder.

pub mod clock;
pub mod config;
pub mod engine;
pub mod moment;
pub mod sys;
pub mod traffic;
pub mod wheel;
