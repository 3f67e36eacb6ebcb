//! HTTP: messages and connections as bytes. PURE: no sockets, no time.
//!
//! [`Server`] is a client's connection over TCP: received bytes in, requests
//! out; responses in, bytes to send out. [`Client`] is the other side of it. In HTTP/3 the streams
//! are those of QUIC, and [`http3`] has what they say. [`doh`] and [`grpc`] are the two ways to
//! carry DNS in requests, and [`forwarded`] reads the addresses that proxies pass on.
//! The room knows no DNS beyond a message's length. Everything that a peer can make it hold has a
//! bound ([`Limits`]).

mod chunked;
mod client;
pub mod doh;
pub mod forwarded;
pub mod grpc;
mod http1;
mod http2;
pub mod http3;
mod limits;
mod media;
mod request;
mod response;
mod server;
mod streams;
#[cfg(test)]
mod tests;

pub use client::{Client, Failure, Reply};
pub(crate) use limits::KEPT_BYTES_MAX;
pub use limits::{Full, Limits, Version};
pub use request::{Incoming, Request};
pub(crate) use response::Response;
pub use server::Server;
