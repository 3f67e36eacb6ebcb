//! Keys with generations: a slot's number and how often it was given out.
//!
//! A slot of a slab is used again and again. A key held by somebody else (the shell's event
//! token, a queued send, a timer) must miss once its slot serves another, so every use of a slot
//! has its own generation and a key matches only its own.

/// Where something lives in a slab, and which of the slot's tenants it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The slot.
    pub index: u32,
    /// The slot's use. Wraps after four thousand million, long after any key was forgotten.
    pub generation: u32,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A datagram each.
    #[default]
    Udp,
    /// Many on a connection, each behind its length.
    Tcp,
}

/// On what a query goes upstream, which decides what its OPT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A datagram.
    Datagram,
    /// A connection in the clear.
    Tcp,
    /// A connection whose bytes nobody else reads, though everybody sees how many they are.
    Secure,
}

impl Way {
    /// Returns the transport of its messages.
    pub fn transport(self) -> Transport {
        match self {
            Self::Datagram => Transport::Udp,
            Self::Tcp | Self::Secure => Transport::Tcp,
        }
    }
}

/// The pool of connections to one upstream over one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(u32);

impl PoolId {
    /// Pools of an upstream: one per transport.
    const PER_UPSTREAM: u32 = 2;

    /// The pool of connections to `upstream` over `transport`.
    pub fn new(upstream: usize, transport: Transport) -> Self {
        Self(Self::PER_UPSTREAM * upstream as u32 + transport as u32)
    }

    /// The pools of `upstream`, in the order of their indices.
    pub fn of_upstream(upstream: usize) -> [Self; Self::PER_UPSTREAM as usize] {
        [Transport::Udp, Transport::Tcp].map(|transport| Self::new(upstream, transport))
    }

    /// The pools that so many upstreams have: the length of tables of pools.
    pub fn count(upstreams: usize) -> usize {
        Self::new(upstreams, Transport::Udp).index()
    }

    /// The pool with this place in tables of pools.
    pub fn from_index(index: usize) -> Self {
        Self(index as u32)
    }

    /// The place in tables of pools.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The number of the upstream.
    pub fn upstream(self) -> usize {
        (self.0 / Self::PER_UPSTREAM) as usize
    }

    /// Returns the transport of its connections.
    pub fn transport(self) -> Transport {
        match self.0 % Self::PER_UPSTREAM {
            0 => Transport::Udp,
            _ => Transport::Tcp,
        }
    }
}

/// What the keeper wakes a worker for.
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
    /// The slot, for tables kept beside the slab.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// An exchange: one forwarded query that waits for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeKey(pub Key);

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub Key);

impl ConnectionKey {
    /// The slot, for tables kept beside this one.
    pub fn index(self) -> usize {
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
        assert_eq!(PoolId::count(3), pools.len());
        let last = pools[5];
        assert_eq!((last.upstream(), last.transport()), (2, Transport::Tcp));
    }
}
