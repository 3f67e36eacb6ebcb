//! Subject of an event, packed into mio's token.
//!
//! The token of a connection contains its generation, so that a queued event of a closed socket
//! does not match the socket that has taken its place.

use crate::engine::ConnectionId;
use crate::engine::key::{ConnectionKey, Key};

/// Position of the kind, in the three highest bits; the others hold a listener's number or a key.
const KIND_SHIFT: u32 = 61;
const DATAGRAMS: usize = 0;
const ACCEPTOR: usize = 1;
const CONNECTION: usize = 2;
const CLIENT: usize = 3;
const MAILBOX: usize = 4;
/// Number of bits for a key's index, more than enough for the sockets of a worker.
const INDEX_BITS: u32 = 29;

/// Subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The UDP socket of a listener, by its number in the configuration.
    Datagrams(usize),
    /// The TCP socket of a listener.
    Acceptor(usize),
    /// An upstream connection.
    Connection(ConnectionId),
    /// A client's connection.
    Client(ConnectionKey),
    Mailbox,
}

impl Token {
    pub(super) fn pack(self) -> mio::Token {
        let (kind, value) = match self {
            Self::Datagrams(number) => (DATAGRAMS, number),
            Self::Acceptor(number) => (ACCEPTOR, number),
            Self::Connection(ConnectionId(key)) => (CONNECTION, pack_key(key)),
            Self::Client(ConnectionKey(key)) => (CLIENT, pack_key(key)),
            Self::Mailbox => (MAILBOX, 0),
        };
        mio::Token(kind << KIND_SHIFT | value)
    }

    /// Returns the subject of a token from mio.
    pub(super) fn unpack(token: mio::Token) -> Self {
        let value = token.0 & ((1 << KIND_SHIFT) - 1);
        let key = || Key { index: (value >> 32) as u32, generation: value as u32 };
        match token.0 >> KIND_SHIFT {
            DATAGRAMS => Self::Datagrams(value),
            ACCEPTOR => Self::Acceptor(value),
            CONNECTION => Self::Connection(ConnectionId(key())),
            CLIENT => Self::Client(ConnectionKey(key())),
            _ => Self::Mailbox,
        }
    }
}

fn pack_key(Key { index, generation }: Key) -> usize {
    debug_assert!(index < 1 << INDEX_BITS, "no worker has so many sockets");
    (index as usize) << 32 | generation as usize
}

#[cfg(test)]
mod tests {
    use super::Token;
    use crate::engine::ConnectionId;
    use crate::engine::key::{ConnectionKey, Key};

    #[test]
    fn tokens_survive_packing() {
        let last = Key { index: (1 << 29) - 1, generation: u32::MAX };
        for token in [
            Token::Datagrams(0),
            Token::Datagrams(70_000),
            Token::Acceptor(70_000),
            Token::Mailbox,
            Token::Connection(ConnectionId(Key { index: 0, generation: 0 })),
            Token::Connection(ConnectionId(last)),
            Token::Client(ConnectionKey(last)),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
