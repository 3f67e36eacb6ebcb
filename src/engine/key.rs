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
    /// Many on a stream, each behind its length.
    Tcp,
}

/// On what a query goes upstream, which decides what its OPT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A datagram.
    Datagram,
    /// A stream in the clear.
    Stream,
    /// A stream whose bytes nobody else reads, though everybody sees how many they are.
    Secure,
}

impl Way {
    /// How messages travel on it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Datagram => Transport::Udp,
            Self::Stream | Self::Secure => Transport::Tcp,
        }
    }
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

/// A client's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub Key);

impl StreamKey {
    /// The slot, for tables kept beside this one.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}
