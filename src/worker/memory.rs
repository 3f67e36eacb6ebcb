//! Memory that a worker reserves, measured on a worker without sockets.
//!
//! The sizes come from the tables themselves, not from a separate estimate. Connections reserve
//! memory only when they are opened, so only their upper bounds are reported.

use super::WorkerSlot;
use super::clients::ClientConnections;
use super::tcp::TcpConnection;
use super::turn::EventLoop;
use super::upstream_http::HttpConnection;
use super::upstream_quic::QuicConnection;
use crate::clock::Clock;
use crate::config::{Config, Listener};
use crate::control::{Assignment, KeeperMailbox, TransferMailbox, WriterMailbox};
use crate::engine::Forwarder;
use crate::engine::cache::SharedCaches;
use crate::engine::forwarder::TCP_MESSAGE_MAX;
use crate::engine::health::HealthStates;
use crate::engine::memory::EngineMemory;
use crate::engine::proxy::datagrams::Datagrams;
use crate::quic::Keys;
use ahash::RandomState;
use mio::{Poll, Token, Waker};
use std::io;
use std::sync::Arc;

/// A worker's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The engine's tables.
    pub(crate) engine: EngineMemory,
    /// The sockets of connections to upstreams.
    pub(crate) sockets: usize,
    /// Datagrams of one turn, in and out.
    pub(crate) batches: usize,
    /// Maximum of the tables of proxies and their clients, which grow as they are used.
    pub(crate) proxies_max: usize,
    /// Maximum of additional memory of one client connection.
    pub(crate) client_connection_max: usize,
    /// Maximum of additional memory of one upstream connection.
    pub(crate) upstream_connection_max: usize,
}

impl Memory {
    /// Returns the memory with full buffers and a full table of parked queries, without the
    /// connections of clients and upstreams, and without the entries of caches, which all workers
    /// share.
    pub(crate) fn most(&self) -> usize {
        let EngineMemory { caches, caches_max, parked_max, held_max, .. } = self.engine;
        self.reserved() - caches + caches_max + parked_max + held_max + self.proxies_max
    }

    /// Returns the memory that is reserved at the start.
    pub fn reserved(&self) -> usize {
        let EngineMemory { exchanges, pools, caches, limits, routes, queues, .. } = self.engine;
        exchanges + pools + caches + limits + routes + queues + self.sockets + self.batches
    }
}

/// Measures the memory of a worker for `config`.
///
/// # Errors
/// The kernel refused an epoll descriptor because the limit of open files is reached, or the
/// memory of full caches.
pub fn measure(config: &Config) -> io::Result<Memory> {
    let poll = Poll::new()?;
    let (keeper, _mail) = KeeperMailbox::new(1, Waker::new(poll.registry(), Token(0))?);
    let health_states = Arc::new(HealthStates::new(config));
    let listeners: Vec<_> = (0..config.listeners.len()).map(Some).collect();
    let caches = SharedCaches::new(config, RandomState::with_seeds(0, 0, 0, 0))?;
    let states = Arc::clone(&health_states);
    let engine = Forwarder::sharing(config, &listeners, [0; 32], states, &caches);
    let tls = Arc::default();
    let (config, data) = (Arc::new(config.clone()), Vec::new());
    let quic = Arc::new(Keys::new(&[0; 32], 1));
    let assignment =
        Assignment { config, generation: 0, health_states, caches, tls, listeners, data, quic };
    let (writer, _records) = WriterMailbox::new(1);
    let (transfers, _orders) = TransferMailbox::new();
    let (mut slot, _mailbox) =
        WorkerSlot::new(0, assignment, Vec::new(), Clock::start(), keeper, (writer, transfers))?;
    Ok(EventLoop::new(&mut slot, engine).memory())
}

impl EventLoop<'_> {
    fn memory(&self) -> Memory {
        let mut engine = self.engine.memory();
        engine.queues += self.buffers.reserved() + self.slot.writer.reserved();
        let config = &self.slot.assignment.config;
        let upstream_tls = config.upstreams().any(|(_, upstream)| upstream.tls.is_some());
        let http = config.upstreams().filter(|(_, upstream)| upstream.http.is_some());
        let in_flight = http.map(|(forward, _)| forward.sizing.tcp_inflight).max();
        let quic = config.upstreams().filter(|(_, upstream)| upstream.is_quic());
        let on_quic = quic.map(|(forward, _)| forward.sizing.tcp_inflight).max();
        let listeners = config.listeners.iter();
        let of_listener = |listener: &Listener| {
            ClientConnections::bytes_max(listener.protocol, listener.tls.is_some())
        };
        let of_headers = |listener: &Listener| {
            let settings = listener.proxies.as_ref().filter(|_| listener.protocol.layers().udp);
            settings.map_or(0, |settings| Datagrams::bytes_max(settings))
        };
        Memory {
            engine,
            proxies_max: listeners.clone().map(of_headers).sum(),
            sockets: self.upstreams.reserved_sockets(),
            batches: self.clients.reserved() + self.upstreams.reserved_batches(),
            client_connection_max: listeners.map(of_listener).max().unwrap_or(0),
            upstream_connection_max: (TcpConnection::bytes_max(TCP_MESSAGE_MAX, upstream_tls)
                + in_flight.map_or(0, HttpConnection::bytes_max))
            .max(on_quic.map_or(0, QuicConnection::bytes_max)),
        }
    }
}
