//! DNS on the streams of a connection (RFC 9250): one query and one reply on each.
//!
//! A query is passed on when it is whole and the client has ended its side, so nothing but the end
//! may follow it.

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, Dir, ReadError, Side, StreamId};

/// Error codes (RFC 9250 §4.3).
pub(crate) mod code {
    /// No error.
    pub(crate) const NONE: u32 = 0;
    /// The client violates the protocol.
    pub(crate) const PROTOCOL: u32 = 2;
    /// The query is cancelled.
    pub(crate) const CANCELLED: u32 = 3;
    /// The server has too much to do, or the client wants too much.
    pub(crate) const EXCESSIVE_LOAD: u32 = 4;
    /// There is no other code for it.
    pub(crate) const UNSPECIFIED: u32 = 5;
}

/// Length of the length that comes before a message.
pub(super) const PREFIX_LEN: usize = 2;
/// Length of a message's header, and thus of the shortest reply.
pub(super) const MESSAGE_LEN_MIN: usize = 12;

/// Result of reading a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// The stream is read to its end already.
    Nothing,
    /// The peer has reset the stream with this code.
    Reset(u64),
    /// All bytes of the stream so far, and true if there will be no more.
    Bytes { whole: Bytes, is_ended: bool },
}

/// Takes what has arrived on stream `id`, behind what was `received` before.
pub(super) fn gather(
    connection: &mut Connection,
    id: StreamId,
    received: &mut BytesMut,
) -> Gathered {
    let mut receiving = connection.recv_stream(id);
    // It fails for a stream that was read to its end or stopped.
    let Ok(mut chunks) = receiving.read(true) else { return Gathered::Nothing };
    let mut whole = Bytes::new();
    let is_ended = loop {
        match chunks.next(usize::MAX) {
            // The usual message is one chunk, which is not copied.
            Ok(Some(chunk)) if whole.is_empty() && received.is_empty() => whole = chunk.bytes,
            Ok(Some(chunk)) => {
                received.extend_from_slice(&std::mem::take(&mut whole));
                received.extend_from_slice(&chunk.bytes);
            }
            Ok(None) => break true,
            Err(ReadError::Blocked) => break false,
            Err(ReadError::Reset(code)) => return Gathered::Reset(code.into_inner()),
        }
    };
    // The library sends what the peer has to know of it with the next packet.
    let _ = chunks.finalize();
    if whole.is_empty() {
        whole = std::mem::take(received).freeze();
    }
    Gathered::Bytes { whole, is_ended }
}

/// State of the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The bytes are a message behind its length.
    Whole,
    /// The bytes may become one.
    Beginning,
    /// The message is longer than is accepted.
    TooLong,
    /// The bytes cannot become one.
    Wrong,
}

/// Judges the bytes of a stream. `is_ended`: there will be no more.
pub(super) fn judge(bytes: &[u8], is_ended: bool, len_max: usize) -> Judgement {
    let Some((prefix, message)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
        return if is_ended { Judgement::Wrong } else { Judgement::Beginning };
    };
    let len = usize::from(u16::from_be_bytes(*prefix));
    // RFC 9250 §4.2.1: the message ID is 0.
    let is_numbered = message.iter().take(2).any(|byte| *byte != 0);
    if message.len() > len || is_numbered || is_ended && message.len() < len {
        return Judgement::Wrong;
    }
    match is_ended {
        _ if len > len_max => Judgement::TooLong,
        true => Judgement::Whole,
        false => Judgement::Beginning,
    }
}

/// Returns the number of a stream that a client has opened. `None`: there have been 2^32.
pub(super) fn number_of(id: StreamId) -> Option<u32> {
    u32::try_from(id.index()).ok()
}

/// Returns the stream with this number.
pub(super) fn id_of(number: u32) -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, number.into())
}

/// Returns `message` behind its length.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_LEN + message.len());
    bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// Returns `query` behind its length, with the message ID 0.
pub(super) fn anonymous(query: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_LEN + query.len());
    bytes.extend_from_slice(&(query.len() as u16).to_be_bytes());
    bytes.extend_from_slice(query);
    bytes.iter_mut().skip(PREFIX_LEN).take(2).for_each(|byte| *byte = 0);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::{Judgement, framed, judge};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn a_query_is_judged_at_each_split_point() {
        let message = [&[0, 0][..], &[7; 30]].concat();
        let bytes = framed(&message);
        for at in 0..bytes.len() {
            assert_eq!(judge(&bytes[..at], false, 64), Judgement::Beginning, "{at}");
            assert_eq!(judge(&bytes[..at], true, 64), Judgement::Wrong, "{at}");
        }
        assert_eq!(judge(&bytes, false, 64), Judgement::Beginning);
        assert_eq!(judge(&bytes, true, 64), Judgement::Whole);
        assert_eq!(judge(&bytes, true, message.len()), Judgement::Whole);
        assert_eq!(judge(&bytes, true, message.len() - 1), Judgement::TooLong);
        assert_eq!(judge(&bytes[..2], false, message.len() - 1), Judgement::TooLong);
        let behind = [&bytes[..], &[0]].concat();
        assert_eq!(judge(&behind, false, 64), Judgement::Wrong);
        for id in [[0, 1], [1, 0]] {
            assert_eq!(judge(&[&[0, 2][..], &id].concat(), true, 64), Judgement::Wrong);
        }
        assert_eq!(judge(&[0, 9, 1], false, 64), Judgement::Wrong);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_alike_with_more_behind_them(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            more in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            // What was wrong stays wrong.
            if judge(&bytes, false, 20) == Judgement::Wrong {
                let longer = [bytes, more].concat();
                prop_assert_eq!(judge(&longer, false, 20), Judgement::Wrong);
            }
        }
    }
}
