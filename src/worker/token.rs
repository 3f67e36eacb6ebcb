//! What an event is about, packed into mio's token.
//!
//! A connection's token carries its generation: an event that was queued for a socket closed
//! meanwhile must miss the one that has taken its place.

use crate::engine::ConnectionId;
use crate::engine::key::Key;

/// Two bits tell the kind; a listener's number or a connection's key follows.
const KIND_SHIFT: u32 = 62;
const CONNECTION: usize = 1;
const WAKER: usize = 2;
/// A key's index has this many bits left; a worker has far fewer connections.
const INDEX_BITS: u32 = 30;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A listener, by its number in the configuration.
    Listener(usize),
    /// An upstream connection.
    Connection(ConnectionId),
    /// The mailbox.
    Mailbox,
}

impl Token {
    /// As mio carries it.
    pub(super) fn pack(self) -> mio::Token {
        mio::Token(match self {
            Self::Listener(number) => number,
            Self::Connection(ConnectionId(Key { index, generation })) => {
                debug_assert!(index < 1 << INDEX_BITS);
                CONNECTION << KIND_SHIFT | (index as usize) << 32 | generation as usize
            }
            Self::Mailbox => WAKER << KIND_SHIFT,
        })
    }

    /// The other way.
    pub(super) fn unpack(token: mio::Token) -> Self {
        match token.0 >> KIND_SHIFT {
            CONNECTION => Self::Connection(ConnectionId(Key {
                index: (token.0 >> 32) as u32 & ((1 << INDEX_BITS) - 1),
                generation: token.0 as u32,
            })),
            WAKER => Self::Mailbox,
            _ => Self::Listener(token.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Token;
    use crate::engine::ConnectionId;
    use crate::engine::key::Key;

    #[test]
    fn tokens_survive_packing() {
        let connection =
            |index, generation| Token::Connection(ConnectionId(Key { index, generation }));
        for token in [
            Token::Listener(0),
            Token::Listener(70_000),
            Token::Mailbox,
            connection(0, 0),
            connection((1 << 30) - 1, u32::MAX),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
