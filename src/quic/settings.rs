//! Parameters of QUIC: windows, limits, keys, and connection IDs that name the worker.
//!
//! All sizes are small, because a client of DNS sends a few hundred bytes and receives little more.
//! The keys of stateless resets and of tokens are the same for all workers of the process, and for
//! the process that takes over from it, so that each can answer packets of any connection. The
//! first byte of a connection ID, modulo the number of workers, is the number of its worker: the
//! kernel steers packets by it, so that a client whose address changes stays with its worker.

use super::application::Application;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{HandshakeTokenKey, HmacKey};
use quinn_proto::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, NoneTokenStore,
    ServerConfig, TransportConfig, VarInt,
};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ring::{hkdf, hmac};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of workers that the first byte of a connection ID can name.
const NAMED_MAX: usize = 256;
/// Length of connection IDs.
const ID_LEN: usize = 8;
/// QUIC version 1 (RFC 9000), the only one that the library speaks besides drafts.
const VERSION: u32 = 1;

/// Bytes of a stream that may be sent before they are read: the longest query, twice.
const STREAM_WINDOW: u32 = 8 << 10;
/// Bytes of all streams of a connection that may be sent before they are read.
const RECEIVE_WINDOW: u32 = 64 << 10;
/// Bytes of a connection's queries that were read before their ends: more than those of all
/// streams in practice.
pub(super) const BEGUN_MAX: usize = 64 << 10;
/// Bytes of replies that a connection keeps until they are acknowledged: four of maximum length.
const SEND_WINDOW: u64 = 256 << 10;
/// Bytes of a handshake that arrive out of order: a chain of client certificates.
const CRYPTO_BUFFER: usize = 16 << 10;
/// Attempts to connect that wait for the CPU time of their handshake.
const INCOMING_MAX: usize = 1_024;
/// Bytes that one of them may send meanwhile.
const INCOMING_BUFFER: u64 = 16 << 10;
/// Bytes that all of them may send meanwhile.
const INCOMING_BUFFERS: u64 = 1 << 20;
/// Length of UDP payloads. It is what each path must carry (RFC 9000 §14), and enough for nearly
/// all replies, so that no packet is spent on the discovery of a larger one.
const PAYLOAD_LEN: u16 = 1_200;
/// Minimum interval between two stateless resets: after an upgrade, all clients need one at once.
const RESET_INTERVAL: Duration = Duration::from_micros(100);

/// Bytes of a reply that an upstream may send before they are read.
const REPLY_WINDOW: u32 = 16 << 10;
/// Bytes of all replies that an upstream may send before they are read.
const REPLIES_WINDOW: u32 = 128 << 10;
/// Bytes of queries that are kept until they are acknowledged.
const QUERIES_WINDOW: u64 = 64 << 10;
/// Round-trip time that is assumed before one is known: the first packet is repeated after three
/// of them, before the dial is given up.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Settings of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Protocol on the streams.
    pub(crate) application: Application,
    /// Maximum number of requests at a time on a connection, which is the number of its streams.
    pub(crate) requests_max: u32,
    /// Maximum time of a handshake, and of a query that has begun.
    pub(crate) read: Duration,
    /// Time without a packet after which both sides forget the connection.
    pub(crate) silence: Duration,
    /// Maximum length of a query.
    pub(crate) query_len_max: usize,
}

/// Keys of the process, and the number of its workers.
#[derive(Clone)]
pub(crate) struct Keys {
    reset: Arc<dyn HmacKey>,
    token: Arc<dyn HandshakeTokenKey>,
    workers: usize,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Keys {
    /// Derives the keys of a process with this number of workers from its secret.
    pub(crate) fn new(secret: &[u8; 32], workers: usize) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let reset = hmac::sign(&root, b"stateless reset");
        let token = hmac::sign(&root, b"retry token");
        Self {
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(token.as_ref())),
            workers,
        }
    }

    /// Returns the parameters of the endpoints of worker number `worker`. `seed`: of its connection
    /// IDs.
    pub(super) fn endpoint(&self, worker: usize, seed: [u8; 32]) -> Arc<EndpointConfig> {
        let mut config = EndpointConfig::new(Arc::clone(&self.reset));
        let workers = named(self.workers);
        // The library expands the seed as well, and what it makes of it must stay unknown.
        let mut own = [0; 32];
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), b"connection IDs");
        own.copy_from_slice(derived.as_ref());
        let ids = move || -> Box<dyn ConnectionIdGenerator> {
            Box::new(WorkerIds {
                worker: worker % workers,
                workers,
                random: ChaCha12Rng::from_seed(own),
            })
        };
        config.cid_generator(ids);
        config.supported_versions(vec![VERSION]);
        config.min_reset_interval(RESET_INTERVAL);
        Arc::new(config)
    }

    /// Returns the parameters of new connections, with certificates from `tls`. `None`: `tls` does
    /// not speak TLS 1.3.
    pub(super) fn server(
        &self,
        tls: Arc<rustls::ServerConfig>,
        settings: &Settings,
    ) -> Option<Arc<ServerConfig>> {
        let crypto = QuicServerConfig::try_from(tls).ok()?;
        let mut config = ServerConfig::new(Arc::new(crypto), Arc::clone(&self.token));
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(settings.requests_max.into())
            .max_concurrent_uni_streams(settings.application.unidirectional_max().into())
            .max_idle_timeout(IdleTimeout::try_from(settings.silence).ok())
            .stream_receive_window(STREAM_WINDOW.into())
            .receive_window(RECEIVE_WINDOW.into())
            .send_window(SEND_WINDOW)
            .crypto_buffer_size(CRYPTO_BUFFER)
            .datagram_receive_buffer_size(None)
            .initial_mtu(PAYLOAD_LEN)
            .mtu_discovery_config(None)
            .allow_spin(false)
            .enable_segmentation_offload(false);
        config
            .transport_config(Arc::new(transport))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS);
        Some(Arc::new(config))
    }
}

/// Parameters of connections to upstreams, which all of a thread share.
pub(crate) struct Dialer {
    pub(super) endpoint: Arc<EndpointConfig>,
    transport: Arc<TransportConfig>,
    /// The library's time of [`Moment::ZERO`](crate::moment::Moment::ZERO).
    pub(super) origin: Instant,
}

impl Dialer {
    /// Creates the parameters of a thread. `seed` is unpredictable.
    pub(crate) fn new(seed: &[u8; 32], origin: Instant) -> Self {
        let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, seed)));
        // Each connection has a socket, which names it.
        endpoint.cid_generator(|| -> Box<dyn ConnectionIdGenerator> { Box::new(NoIds) });
        endpoint.supported_versions(vec![VERSION]);
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            // The owner ends idle connections.
            .max_idle_timeout(None)
            .initial_rtt(INITIAL_RTT)
            .stream_receive_window(REPLY_WINDOW.into())
            .receive_window(REPLIES_WINDOW.into())
            .send_window(QUERIES_WINDOW)
            .crypto_buffer_size(CRYPTO_BUFFER)
            .datagram_receive_buffer_size(None)
            .initial_mtu(PAYLOAD_LEN)
            .mtu_discovery_config(None)
            .allow_spin(false)
            .enable_segmentation_offload(false);
        Self { endpoint: Arc::new(endpoint), transport: Arc::new(transport), origin }
    }

    /// Returns the parameters of a connection. `None`: `tls` does not speak TLS 1.3.
    pub(super) fn config(&self, tls: Arc<rustls::ClientConfig>) -> Option<ClientConfig> {
        debug_assert!(!tls.enable_early_data, "early data can be replayed");
        let crypto = QuicClientConfig::try_from(tls).ok()?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        // A server under pressure asks for a proof of the address, which costs a round trip.
        config.token_store(Arc::new(NoneTokenStore));
        Some(config)
    }
}

/// Returns the maximum number of bytes that the library holds for a connection to an upstream.
pub(super) fn client_windows() -> usize {
    REPLIES_WINDOW as usize + QUERIES_WINDOW as usize + CRYPTO_BUFFER
}

/// Empty connection IDs.
struct NoIds;

impl ConnectionIdGenerator for NoIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&[])
    }

    fn cid_len(&self) -> usize {
        0
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Returns the number of those of `workers` that connection IDs can name: the others receive no
/// packet of QUIC.
pub(crate) fn named(workers: usize) -> usize {
    workers.clamp(1, NAMED_MAX)
}

/// Returns the maximum number of bytes that a connection's peer can make it hold, beside replies
/// that QUIC has not accepted yet.
pub(super) fn windows() -> usize {
    RECEIVE_WINDOW as usize + BEGUN_MAX + SEND_WINDOW as usize + CRYPTO_BUFFER
}

/// Connection IDs of a worker.
struct WorkerIds {
    worker: usize,
    workers: usize,
    random: ChaCha12Rng,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; ID_LEN];
        self.random.fill_bytes(&mut bytes);
        let [first, ..] = &mut bytes;
        let names = (NAMED_MAX - 1 - self.worker) / self.workers + 1;
        *first = (self.worker + self.workers * (usize::from(*first) % names)) as u8;
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, WorkerIds, named};
    use quinn_proto::ConnectionIdGenerator;
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn the_first_byte_of_a_connection_id_names_the_worker() {
        for workers in [1, 2, 3, 7, 255, 256, 300] {
            let workers = named(workers);
            for worker in [0, workers / 2, workers - 1] {
                let random = ChaCha12Rng::from_seed([7; 32]);
                let mut ids = WorkerIds { worker, workers, random };
                let all: HashSet<Vec<u8>> = (0..500).map(|_| ids.generate_cid().to_vec()).collect();
                assert_eq!(all.len(), 500);
                assert!(all.iter().all(|id| usize::from(id[0]) % workers == worker), "{workers}");
            }
        }
    }

    #[test]
    fn keys_depend_on_the_secret_alone() {
        let signed = |secret: u8, workers| {
            let keys = Keys::new(&[secret; 32], workers);
            let mut out = [0; 32];
            keys.reset.sign(b"id", &mut out);
            out
        };
        assert_eq!(signed(1, 1), signed(1, 4));
        assert_ne!(signed(1, 1), signed(2, 1));
    }
}
