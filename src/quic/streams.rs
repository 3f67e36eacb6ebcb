//! The streams of a connection that carry queries.
//!
//! [`Streams`] has an entry for each stream that the client has opened in both directions and whose
//! reply is not handed over to the transport. A stream that the client resets or no longer reads is
//! forgotten at once; the reply to its query is dropped when it comes. Cancelling and frames
//! without use cost points, of which answered queries give some back, because the work is done.

use super::application::{Application, Query, Reason};
use super::doq::{Gathered, Judgement, PREFIX_LEN, gather, id_of, judge, number_of};
use super::settings::BEGUN_MAX;
use crate::http::Limits;
use crate::http::http3::{RequestStream, Violation};
use crate::moment::Moment;
use bytes::BytesMut;
use quinn_proto::{Connection, StreamId};
use std::collections::VecDeque;

/// Points of a client before its connection ends.
const POINTS_MAX: u32 = 256;
/// Points that an answered query gives back.
const POINTS_BACK: u32 = 4;

/// A stream whose reply is not handed over.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    form: Form,
    /// Time since when the rest of a query is missing.
    stalled: Option<Moment>,
    /// The query was passed on.
    is_asked: bool,
    /// The reply is sent without its body.
    is_head: bool,
    /// The stream is in the queue of those to be read.
    is_queued: bool,
}

/// Received part of a query; empty once the query was passed on.
#[derive(Debug)]
enum Form {
    Message(BytesMut),
    Request(Box<RequestStream>),
}

/// Result of reading a stream.
#[derive(Debug)]
pub(super) enum Read {
    /// Nothing is complete.
    Nothing,
    /// A query, and the number of its stream.
    Query(u32, Query),
    /// The stream is refused with this code.
    Refused(StreamId, u32),
    /// The client has reset the stream.
    Reset(StreamId),
    /// The connection must be closed with this code.
    Violation(u32),
}

/// A stream whose reply is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) id: StreamId,
    /// The reply is sent without its body.
    pub(super) is_head: bool,
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    application: Application,
    /// Ordered by number.
    table: Vec<Stream>,
    /// Streams that may have something to read.
    readable: VecDeque<StreamId>,
    /// Bytes read of queries that are incomplete.
    begun: usize,
    /// No stream has been stalled for longer.
    stalled_since: Option<Moment>,
    points: u32,
}

impl Streams {
    /// Creates an empty table.
    pub(super) fn new(application: Application) -> Self {
        Self {
            application,
            table: Vec::new(),
            readable: VecDeque::new(),
            begun: 0,
            stalled_since: None,
            points: 0,
        }
    }

    /// Returns the maximum number of bytes of `count` streams, besides those of incomplete queries.
    pub(super) fn bytes_max(count: usize) -> usize {
        let one = size_of::<Stream>() + size_of::<RequestStream>() + size_of::<StreamId>();
        2 * count * one
    }

    /// Adds a stream that the client has opened.
    pub(super) fn open(&mut self, id: StreamId) {
        let form = match self.application {
            Application::Doq => Form::Message(BytesMut::new()),
            Application::Http3 => Form::Request(Box::default()),
        };
        debug_assert!(self.table.last().is_none_or(|last| last.id < id), "streams open in order");
        self.readable.push_back(id);
        self.table.push(Stream {
            id,
            form,
            stalled: None,
            is_asked: false,
            is_head: false,
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
        let before = stream.form.len();
        let (read, points) = stream.read(connection, len_max);
        let len = stream.form.len();
        self.begun = self.begun + len - before;
        self.charge(points);
        let read = match read {
            Read::Nothing if self.begun > BEGUN_MAX => {
                Read::Refused(id, self.application.code(Reason::Load))
            }
            read => read,
        };
        let Some(stream) = self.get(id) else { return Some(read) };
        match &read {
            Read::Nothing => {
                let since = *stream.stalled.get_or_insert(now);
                self.stalled_since = Some(self.stalled_since.map_or(since, |own| own.min(since)));
            }
            Read::Query(_, query) => {
                stream.is_head = matches!(query, Query::Request(request) if request.is_head());
                stream.is_asked = true;
                let stalled = stream.stalled.take();
                self.forget_stalled(stalled);
            }
            Read::Refused(id, _) => self.remove(*id),
            Read::Reset(id) => _ = self.cancel(*id),
            Read::Violation(_) => {}
        }
        Some(read)
    }

    /// Returns true if the query on the stream with this number waits for its reply.
    pub(super) fn awaits(&self, number: u32) -> bool {
        let place = self.place(id_of(number));
        place.is_some_and(|place| self.table[place].is_asked)
    }

    /// Removes the stream with this number, whose query was passed on, because its reply is there.
    /// `is_useful`: the reply is a DNS message; a refusal gives no points back.
    pub(super) fn answered(&mut self, number: u32, is_useful: bool) -> Option<Answered> {
        let id = id_of(number);
        let is_head = self.get(id).filter(|stream| stream.is_asked)?.is_head;
        self.remove(id);
        if is_useful {
            self.points = self.points.saturating_sub(POINTS_BACK);
        }
        Some(Answered { id, is_head })
    }

    /// Removes a stream that the client does not read any more. Returns its number, if its query
    /// was passed on.
    pub(super) fn cancel(&mut self, id: StreamId) -> Option<u32> {
        let is_asked = self.get(id)?.is_asked;
        self.remove(id);
        self.charge(1);
        number_of(id).filter(|_| is_asked)
    }

    /// Takes points from the client.
    pub(super) fn charge(&mut self, points: u32) {
        self.points = self.points.saturating_add(points);
    }

    /// Returns true if the client does more without use than it asks.
    pub(super) fn is_abusive(&self) -> bool {
        self.points > POINTS_MAX
    }

    /// Removes and returns a stream whose query has been incomplete since `since` or longer. The
    /// rest may be there if the stream waits to be read.
    pub(super) fn next_stalled(&mut self, since: Moment) -> Option<StreamId> {
        if self.stalled_since? > since {
            return None;
        }
        let stalled = |stream: &&Stream| stream.stalled().is_some_and(|began| began <= since);
        let found = self.table.iter().find(stalled).map(|stream| stream.id);
        match found {
            Some(id) => self.remove(id),
            // Those that wait to be read are looked at again then.
            None => self.find_stalled(),
        }
        found
    }

    /// Removes and returns a stream whose query was not passed on.
    pub(super) fn next_unasked(&mut self) -> Option<StreamId> {
        let id = self.table.iter().find(|stream| !stream.is_asked)?.id;
        self.remove(id);
        Some(id)
    }

    /// Returns the earliest time since when a query may have been incomplete.
    pub(super) fn stalled_since(&self) -> Option<Moment> {
        self.stalled_since
    }

    /// Notes that a stream is not stalled any more, which it was since `stalled`.
    fn forget_stalled(&mut self, stalled: Option<Moment>) {
        if stalled.is_some() && stalled == self.stalled_since {
            self.find_stalled();
        }
    }

    fn find_stalled(&mut self) {
        self.stalled_since = self.table.iter().filter_map(Stream::stalled).min();
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

    fn place(&self, id: StreamId) -> Option<usize> {
        self.table.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        let place = self.place(id)?;
        self.table.get_mut(place)
    }

    fn remove(&mut self, id: StreamId) {
        let Some(place) = self.place(id) else { return };
        let Stream { form, stalled, .. } = self.table.remove(place);
        self.begun -= form.len();
        self.forget_stalled(stalled);
        debug_assert!(!self.table.is_empty() || self.begun == 0, "bytes of no stream");
    }
}

impl Form {
    /// Bytes that are kept.
    fn len(&self) -> usize {
        match self {
            Self::Message(received) => received.len(),
            Self::Request(request) => request.len(),
        }
    }
}

impl Stream {
    /// Returns the time since when the client owes the rest of a query.
    fn stalled(&self) -> Option<Moment> {
        self.stalled.filter(|_| !self.is_queued)
    }

    /// Takes what has arrived. Returns points for bytes without use, too.
    fn read(&mut self, connection: &mut Connection, len_max: usize) -> (Read, u32) {
        let id = self.id;
        match &mut self.form {
            Form::Message(received) => {
                let gathered = gather(connection, id, received);
                (read_message(id, gathered, received, len_max), 0)
            }
            Form::Request(request) => {
                let gathered = gather(connection, id, &mut BytesMut::new());
                read_request(id, gathered, request)
            }
        }
    }
}

/// Takes the bytes of a message behind its length; an incomplete one goes back to `received`.
fn read_message(id: StreamId, gathered: Gathered, received: &mut BytesMut, len_max: usize) -> Read {
    let (whole, is_ended) = match gathered {
        Gathered::Nothing => return Read::Nothing,
        Gathered::Reset(_) => return Read::Reset(id),
        Gathered::Bytes { whole, is_ended } => (whole, is_ended),
    };
    let code = |reason| Application::Doq.code(reason);
    match judge(&whole, is_ended, len_max) {
        Judgement::Whole => match number_of(id) {
            Some(number) => Read::Query(number, Query::Message(whole.slice(PREFIX_LEN..))),
            None => Read::Violation(code(Reason::Done)),
        },
        Judgement::Beginning => {
            *received = whole.into();
            Read::Nothing
        }
        Judgement::TooLong => Read::Refused(id, code(Reason::Load)),
        Judgement::Wrong => Read::Violation(code(Reason::Violation)),
    }
}

/// Takes bytes of a request. Returns points for those without use, too.
fn read_request(id: StreamId, gathered: Gathered, request: &mut RequestStream) -> (Read, u32) {
    let (bytes, is_ended) = match gathered {
        Gathered::Nothing => return (Read::Nothing, 0),
        Gathered::Reset(_) => return (Read::Reset(id), 0),
        Gathered::Bytes { whole, is_ended } => (whole, is_ended),
    };
    let outcome = request.receive(&bytes, &Limits::DNS).and_then(|points| {
        let read = match is_ended {
            true => match number_of(id) {
                Some(number) => Read::Query(number, Query::Request(request.end()?)),
                None => Read::Violation(Application::Http3.code(Reason::Done)),
            },
            false => Read::Nothing,
        };
        Ok((read, points))
    });
    outcome.unwrap_or_else(|violation| match violation {
        Violation::Stream(code) => (Read::Refused(id, code), 1),
        Violation::Connection(code) => (Read::Violation(code), 0),
    })
}
