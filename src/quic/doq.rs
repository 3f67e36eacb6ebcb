//! DNS on the streams of a connection (RFC 9250): one query and one reply on each.
//!
//! [`Streams`] has an entry for each stream that the client has opened and whose reply is not
//! handed over to the transport. A query is passed on when it is whole and the client has ended its
//! side, so nothing but the end may follow it. A stream that the client resets or no longer reads
//! is forgotten at once; the reply to its query is dropped when it comes. Cancelling costs points,
//! of which answered queries give some back, because the work of a cancelled query is done.

use super::settings::BEGUN_MAX;
use crate::moment::Moment;
use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, Dir, ReadError, Side, StreamId};
use std::collections::VecDeque;

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
/// Queries that a client may cancel before its connection ends.
const POINTS_MAX: u32 = 256;
/// Points that an answered query gives back.
const POINTS_BACK: u32 = 4;

/// A stream whose reply is not handed over.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// Bytes received; empty once the query was passed on.
    received: BytesMut,
    /// Time since when the rest of a query is missing.
    stalled: Option<Moment>,
    /// The query was passed on.
    is_asked: bool,
    /// The stream is in the queue of those to be read.
    is_queued: bool,
}

/// Result of reading a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing is complete.
    Nothing,
    /// A query, and the number of its stream.
    Query(u32, Bytes),
    /// The stream is refused with this code.
    Refused(StreamId, u32),
    /// The client has reset the stream.
    Reset(StreamId),
    /// The connection must be closed with this code.
    Violation(u32),
}

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    table: Vec<Stream>,
    /// Streams that may have something to read.
    readable: VecDeque<StreamId>,
    /// Points for cancelled queries.
    points: u32,
}

impl Streams {
    /// Adds a stream that the client has opened.
    pub(super) fn open(&mut self, id: StreamId) {
        self.readable.push_back(id);
        self.table.push(Stream {
            id,
            received: BytesMut::new(),
            stalled: None,
            is_asked: false,
            is_queued: true,
        });
    }

    /// Queues a stream for reading.
    pub(super) fn note(&mut self, id: StreamId) {
        if let Some(stream) = self.get(id).filter(|stream| !stream.is_queued && !stream.is_asked) {
            stream.is_queued = true;
            self.readable.push_back(id);
        }
    }

    /// Returns true if a stream waits to be read.
    pub(super) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Reads the next stream that may have something. `None`: there is none.
    pub(super) fn read(
        &mut self,
        now: Moment,
        connection: &mut Connection,
        len_max: usize,
    ) -> Option<Read> {
        let id = self.readable.pop_front()?;
        let Some(stream) = self.get(id) else { return Some(Read::Nothing) };
        stream.is_queued = false;
        let read = stream.read(connection, len_max);
        let read = match read {
            Read::Nothing if self.begun() > BEGUN_MAX => Read::Refused(id, code::EXCESSIVE_LOAD),
            read => read,
        };
        let Some(stream) = self.get(id) else { return Some(read) };
        match read {
            Read::Nothing => _ = stream.stalled.get_or_insert(now),
            Read::Query(..) => (stream.is_asked, stream.stalled) = (true, None),
            Read::Refused(id, _) => self.remove(id),
            Read::Reset(id) => _ = self.cancel(id),
            Read::Violation(_) => {}
        }
        Some(read)
    }

    /// Returns the number of bytes read of queries that are incomplete.
    fn begun(&self) -> usize {
        self.table.iter().map(|stream| stream.received.len()).sum()
    }

    /// Returns true if the query on the stream with this number waits for its reply.
    pub(super) fn awaits(&self, number: u32) -> bool {
        let id = id_of(number);
        self.table.iter().any(|stream| stream.id == id && stream.is_asked)
    }

    /// Removes the stream with this number, whose query was passed on, because its reply is there.
    pub(super) fn answered(&mut self, number: u32) -> Option<StreamId> {
        let id = id_of(number);
        self.get(id).filter(|stream| stream.is_asked)?;
        self.remove(id);
        self.points = self.points.saturating_sub(POINTS_BACK);
        Some(id)
    }

    /// Removes a stream that the client does not read any more. Returns its number, if its query
    /// was passed on.
    pub(super) fn cancel(&mut self, id: StreamId) -> Option<u32> {
        let is_asked = self.get(id)?.is_asked;
        self.remove(id);
        self.points += 1;
        number_of(id).filter(|_| is_asked)
    }

    /// Returns true if the client cancels more than it asks.
    pub(super) fn is_abusive(&self) -> bool {
        self.points > POINTS_MAX
    }

    /// Removes and returns a stream whose query has been incomplete since `since` or longer. The
    /// rest may be there if the stream waits to be read.
    pub(super) fn next_stalled(&mut self, since: Moment) -> Option<StreamId> {
        let stalled = |stream: &&Stream| stream.stalled().is_some_and(|began| began <= since);
        let id = self.table.iter().find(stalled)?.id;
        self.remove(id);
        Some(id)
    }

    /// Removes and returns a stream whose query was not passed on.
    pub(super) fn next_unasked(&mut self) -> Option<StreamId> {
        let id = self.table.iter().find(|stream| !stream.is_asked)?.id;
        self.remove(id);
        Some(id)
    }

    /// Returns the earliest time since when a query has been incomplete.
    pub(super) fn stalled_since(&self) -> Option<Moment> {
        self.table.iter().filter_map(Stream::stalled).min()
    }

    /// Returns true if no query waits for its reply.
    pub(super) fn is_quiet(&self) -> bool {
        !self.table.iter().any(|stream| stream.is_asked)
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.table.iter_mut().find(|stream| stream.id == id)
    }

    fn remove(&mut self, id: StreamId) {
        if let Some(place) = self.table.iter().position(|stream| stream.id == id) {
            self.table.swap_remove(place);
        }
    }
}

impl Stream {
    /// Returns the time since when the client owes the rest of a query.
    fn stalled(&self) -> Option<Moment> {
        self.stalled.filter(|_| !self.is_queued)
    }

    /// Takes what has arrived.
    fn read(&mut self, connection: &mut Connection, len_max: usize) -> Read {
        let (whole, is_ended) = match gather(connection, self.id, &mut self.received) {
            Gathered::Nothing => return Read::Nothing,
            Gathered::Reset(_) => return Read::Reset(self.id),
            Gathered::Bytes { whole, is_ended } => (whole, is_ended),
        };
        match judge(&whole, is_ended, len_max) {
            Judgement::Whole => match number_of(self.id) {
                Some(number) => Read::Query(number, whole.slice(PREFIX_LEN..)),
                None => Read::Violation(code::NONE),
            },
            Judgement::Beginning => {
                self.received = whole.into();
                Read::Nothing
            }
            Judgement::TooLong => Read::Refused(self.id, code::EXCESSIVE_LOAD),
            Judgement::Wrong => Read::Violation(code::PROTOCOL),
        }
    }
}

/// What has arrived on a stream.
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
