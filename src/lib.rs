//! onward, a DNS forwarder.

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod engine;
pub mod keeper;
pub mod moment;
pub mod server;
pub mod sys;
pub mod traffic;
pub mod wheel;
pub mod worker;
