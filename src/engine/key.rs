//! Keys with generations: the number of a slot and the generation of its contents.
//!
//! Slots of a slab are reused. A key held elsewhere (the shell's event token, a queued send, a
//! timer) must not match after its slot was reused, so each use of a slot has its own generation.

/// Slot of a slab, with the generation of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The slot.
    pub(crate) index: u32,
    /// Generation of the slot. Wraps after 2^32 uses, long after any key was forgotten.
    pub generation: u32,
}

/// Transport of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// One message per datagram.
    #[default]
    Udp,
    /// Many messages on a connection, each with its length.
    Tcp,
}

/// Path by which a query came, and its reply returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// A datagram.
    Datagram,
    /// A datagram of a proxy, to which the reply returns.
    Relayed(RelayKey),
    /// A connection that carries one message after the other (RFC 1035 §4.2.2).
    Connection(ConnectionKey),
    /// A request on a connection, by its number: a stream of HTTP/2.
    Request(ConnectionKey, u32),
}

impl Via {
    /// Returns the connection; `None`: a datagram.
    #[inline(always)]
    pub fn connection(self) -> Option<ConnectionKey> {
        match self {
            Self::Datagram | Self::Relayed(_) => None,
            Self::Connection(connection) | Self::Request(connection, _) => Some(connection),
        }
    }
}

/// Kind of path to an upstream, which determines the options of the OPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A datagram.
    Datagram,
    /// An unencrypted connection.
    Tcp,
    /// An encrypted connection, where only the lengths of messages are visible.
    Secure,
    /// Requests of HTTP on an encrypted connection.
    Https,
    /// Requests of gRPC on an unencrypted connection.
    Grpc,
    /// Requests of gRPC on an encrypted connection.
    SecureGrpc,
    /// Streams of QUIC.
    Quic,
}

impl Way {
    /// Returns the transport of its messages.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Datagram => Transport::Udp,
            Self::Tcp | Self::Secure | Self::Https | Self::Grpc | Self::SecureGrpc | Self::Quic => {
                Transport::Tcp
            }
        }
    }
}

/// The pool of connections to one upstream over one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(u32);

impl PoolId {
    /// Number of pools per upstream: one per transport.
    const PER_UPSTREAM: u32 = 2;

    /// Returns the pool of connections to `upstream` over `transport`.
    pub fn new(upstream: usize, transport: Transport) -> Self {
        Self(Self::PER_UPSTREAM * upstream as u32 + transport as u32)
    }

    /// Returns the pools of `upstream`, in the order of their indices.
    pub(crate) fn of_upstream(upstream: usize) -> [Self; Self::PER_UPSTREAM as usize] {
        [Transport::Udp, Transport::Tcp].map(|transport| Self::new(upstream, transport))
    }

    /// Returns the pool with this index in tables of pools.
    pub(crate) fn from_index(index: usize) -> Self {
        Self(index as u32)
    }

    /// Returns the index in tables of pools.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn upstream(self) -> usize {
        (self.0 / Self::PER_UPSTREAM) as usize
    }

    /// Returns the transport of its connections.
    pub(crate) fn transport(self) -> Transport {
        match self.0 % Self::PER_UPSTREAM {
            0 => Transport::Udp,
            _ => Transport::Tcp,
        }
    }
}

/// Reason for which the keeper wakes a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sweep {
    /// A pool with connections to close.
    Pool(PoolId),
    /// The cache of this server block, with expired entries.
    Cache(usize),
}

/// A connection of one of this worker's pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub Key);

impl ConnectionId {
    /// Returns the slot, for tables beside the slab.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// An exchange: one forwarded query that waits for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ExchangeKey(pub(crate) Key);

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub Key);

/// A proxy that sends datagrams with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayKey(pub(crate) Key);

impl ConnectionKey {
    /// Returns the slot, for tables beside the slab.
    pub(crate) fn index(self) -> usize {
        self.0.index as usize
    }
}

#[cfg(test)]
mod tests {
    use super::{PoolId, Transport};

    #[test]
    fn each_upstream_has_a_pool_per_transport() {
        let pools: Vec<_> = (0..3).flat_map(PoolId::of_upstream).collect();
        for (index, pool) in pools.iter().enumerate() {
            assert_eq!((pool.index(), PoolId::from_index(index)), (index, *pool));
            assert_eq!(PoolId::new(pool.upstream(), pool.transport()), *pool);
        }
        let last = pools[5];
        assert_eq!((last.upstream(), last.transport()), (2, Transport::Tcp));
    }
}
