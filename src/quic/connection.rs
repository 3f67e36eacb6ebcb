//! One connection: what the transport reports, turned into steps for the owner.
//!
//! [`Connection::next`] is called until it returns `None` after each call that may change
//! something. The order of steps is that of the client's packets, save that no stream is read while
//! the client may ask no more: flow control then slows the client down.

use super::application::{Application, Query, Reason};
use super::doq;
use super::http3::Http3;
use super::outbox::{Full, Outbox};
use super::streams::{Answered, Read, Streams};
use crate::engine::key::ConnectionKey;
use crate::http::{Response, http3};
use crate::moment::Moment;
use bytes::Bytes;
use quinn_proto::{ConnectionError, Dir, Event, StreamEvent, StreamId, VarInt};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Codes of QUIC for alerts of TLS: this, and the alert (RFC 9001 §4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// Reason why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client has sent an alert of TLS, or gone.
    Refused,
    /// There is no version, cipher or protocol in common, or the client's certificate is refused.
    Incompatible,
    /// The client violates the protocol.
    Broken,
    /// The handshake was not complete in time.
    Unfinished,
}

impl Failure {
    /// Returns the reason of the library's error.
    pub(super) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TransportError(error) => {
                let is_alert = CRYPTO_ERRORS.contains(&u64::from(error.code));
                if is_alert { Self::Incompatible } else { Self::Broken }
            }
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset => Self::Refused,
            _ => Self::Unfinished,
        }
    }
}

/// A step of a connection.
#[derive(Debug)]
pub(super) enum Step {
    /// The handshake is complete.
    Connected,
    /// The handshake has failed; the connection is over.
    Failed(Failure),
    /// A query, and the number of its stream.
    Query(u32, Query),
    /// The client cancels the query on the stream with this number.
    Cancelled,
    /// The client has taken bytes that were waiting.
    Taken,
    /// The connection is over. The code that the client gets, if this side has closed it.
    Closed(Option<u32>),
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake is not complete.
    Handshaking,
    /// Queries are read.
    Open,
    /// No more queries are read; the connection closes once the last reply was handed over and what
    /// may be sent of it at once is sent.
    Ending,
    /// The connection is over, once its last datagrams are written.
    Over,
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) quic: quinn_proto::Connection,
    application: Application,
    /// Distinguishes it from earlier ones with its index.
    pub(super) generation: u32,
    /// Address from which the client has made the handshake, and so proved that it is its own; or
    /// that of a proxy.
    proved: IpAddr,
    /// Address of the client, if a proxy has named it.
    named: Option<SocketAddr>,
    /// Key in the table of all client connections, once the connection is admitted.
    pub(super) owner: Option<ConnectionKey>,
    pub(super) phase: Phase,
    /// Time of its first packet.
    pub(super) since: Moment,
    /// Entry in the table of deadlines.
    pub(super) due: Option<Moment>,
    /// True in the queue of connections with steps.
    pub(super) is_touched: bool,
    /// True in the queue of connections with datagrams.
    pub(super) is_unsent: bool,
    /// True in the queue of connections whose streams may be read again.
    pub(super) is_resumed: bool,
    streams: Streams,
    /// The streams in one direction, which only HTTP/3 has.
    http3: Option<Box<Http3>>,
    outbox: Outbox,
    /// Number of streams that this side has refused and its owner does not know of.
    refused: u64,
}

impl Connection {
    /// Creates a connection before its handshake, with the address of its client, if a proxy has
    /// named it.
    pub(super) fn new(
        (quic, named): (quinn_proto::Connection, Option<SocketAddr>),
        application: Application,
        generation: u32,
        now: Moment,
    ) -> Self {
        Self {
            application,
            proved: quic.remote_address().ip(),
            named,
            quic,
            generation,
            owner: None,
            phase: Phase::Handshaking,
            since: now,
            due: None,
            is_touched: false,
            is_unsent: false,
            is_resumed: false,
            streams: Streams::new(application),
            http3: (application == Application::Http3).then(Box::default),
            outbox: Outbox::default(),
            refused: 0,
        }
    }

    /// Returns the maximum number of bytes of its own with at most `requests` at a time.
    pub(super) fn bytes_max(requests: usize) -> usize {
        size_of::<Self>() + size_of::<Http3>() + Streams::bytes_max(requests)
    }

    /// Returns the number of streams that this side has refused since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Returns the address of the client. Only the port follows the client to other addresses:
    /// the library sends there before they are proved, and anyone may forge one.
    pub(super) fn peer(&self) -> SocketAddr {
        let own = || SocketAddr::new(self.proved, self.quic.remote_address().port());
        self.named.unwrap_or_else(own)
    }

    /// Returns the address that the client sends to, where the listener is a wildcard.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.quic.local_ip()
    }

    /// Returns the next step. `may_ask`: the client may ask more now.
    pub(super) fn next(
        &mut self,
        now: Moment,
        instant: Instant,
        may_ask: bool,
        len_max: usize,
    ) -> Option<Step> {
        while self.phase != Phase::Over {
            let Some(event) = self.quic.poll() else { break };
            let step = match event {
                Event::Connected if self.phase == Phase::Handshaking => Some(self.open(instant)),
                Event::ConnectionLost { reason } => Some(self.lost(&reason)),
                Event::Stream(event) => self.note(event, instant),
                _ => None,
            };
            if step.is_some() {
                return step;
            }
        }
        while self.phase == Phase::Open && may_ask {
            let read = self.streams.read(now, &mut self.quic, len_max)?;
            match read {
                Read::Nothing => {}
                // What came with the query may have been too much.
                Read::Query(number, query) if !self.streams.is_abusive() => {
                    return Some(Step::Query(number, query));
                }
                Read::Query(..) => {}
                Read::Violation(code) => return Some(self.close(instant, code)),
                Read::Refused(id, code) => self.refuse(id, code),
                Read::Reset(id) => self.end_stream(id, self.application.code(Reason::Cancelled)),
            }
            if self.streams.is_abusive() {
                return Some(self.end(instant, Reason::Load));
            }
        }
        None
    }

    /// Begins to use a connection whose handshake is complete.
    fn open(&mut self, instant: Instant) -> Step {
        if let Some(http3) = &mut self.http3
            && !http3.open(&mut self.quic, &mut self.outbox)
        {
            self.end(instant, Reason::Violation);
            return Step::Failed(Failure::Broken);
        }
        self.phase = Phase::Open;
        Step::Connected
    }

    /// Returns true if streams wait to be read.
    pub(super) fn has_readable(&self) -> bool {
        self.phase == Phase::Open && self.streams.has_readable()
    }

    /// Handles an event of a stream.
    fn note(&mut self, event: StreamEvent, instant: Instant) -> Option<Step> {
        match event {
            StreamEvent::Opened { dir: Dir::Bi } => {
                while let Some(id) = self.quic.streams().accept(Dir::Bi) {
                    if let Some(http3) = &mut self.http3 {
                        http3.begins(id);
                    }
                    match self.phase {
                        Phase::Ending => self.refuse(id, self.application.code(Reason::Unread)),
                        _ => self.streams.open(id),
                    }
                }
                None
            }
            StreamEvent::Opened { dir: Dir::Uni } => {
                std::iter::from_fn(|| self.quic.streams().accept(Dir::Uni))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .find_map(|id| self.hear(id, instant))
            }
            StreamEvent::Readable { id } if id.dir() == Dir::Uni => self.hear(id, instant),
            StreamEvent::Readable { id } => {
                self.streams.note(id);
                None
            }
            StreamEvent::Writable { id } => {
                let is_taken = self.outbox.resume(&mut self.quic, id);
                (is_taken && self.control() != Some(id)).then_some(Step::Taken)
            }
            StreamEvent::Stopped { id, .. } => {
                if let Some(code) = self.http3.as_ref().and_then(|http3| http3.stopped(id)) {
                    return Some(self.close(instant, code));
                }
                let is_unblocked = self.outbox.forget(id);
                let cancelled = self.streams.cancel(id);
                self.end_stream(id, self.application.code(Reason::Cancelled));
                if self.streams.is_abusive() {
                    return Some(self.end(instant, Reason::Load));
                }
                // The client owes nothing more.
                let taken = (is_unblocked && self.is_drained()).then_some(Step::Taken);
                taken.or(cancelled.map(|_| Step::Cancelled))
            }
            _ => None,
        }
    }

    /// Reads a stream that the client has opened in one direction.
    fn hear(&mut self, id: StreamId, instant: Instant) -> Option<Step> {
        let points = match self.http3.as_mut()?.read(&mut self.quic, id) {
            Ok(points) => points,
            Err(code) => return Some(self.close(instant, code)),
        };
        self.streams.charge(points);
        self.streams.is_abusive().then(|| self.end(instant, Reason::Load))
    }

    /// Refuses the query on a stream with `code`.
    fn refuse(&mut self, id: StreamId, code: u32) {
        self.refused += 1;
        self.end_stream(id, code);
    }

    /// Ends both sides of a stream with `code`, as far as they have not ended.
    fn end_stream(&mut self, id: StreamId, code: u32) {
        let code = VarInt::from_u32(code);
        // Sides that have ended already say so.
        let _ = self.quic.recv_stream(id).stop(code);
        let _ = self.quic.send_stream(id).reset(code);
    }

    /// Hands over the reply to the query on stream `number`, unless that was cancelled.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn answer(&mut self, number: u32, message: &[u8]) -> Result<(), Full> {
        let Some(Answered { id, .. }) = self.streams.answered(number, true) else { return Ok(()) };
        self.outbox.send(&mut self.quic, id, doq::framed(message), true)
    }

    /// Hands over the response to the request on stream `number`, unless that was cancelled.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn respond(&mut self, number: u32, response: &Response<'_>) -> Result<(), Full> {
        let is_useful = response.status == 200;
        let Some(Answered { id, is_head }) = self.streams.answered(number, is_useful) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        http3::write_response(&mut bytes, response, is_head);
        self.outbox.send(&mut self.quic, id, bytes.into(), true)
    }

    /// Returns true if the query on stream `number` waits for its reply.
    pub(super) fn awaits(&self, number: u32) -> bool {
        self.streams.awaits(number)
    }

    /// Refuses the query on stream `number`.
    pub(super) fn refuse_query(&mut self, number: u32, reason: Reason) {
        if let Some(Answered { id, .. }) = self.streams.answered(number, false) {
            self.refuse(id, self.application.code(reason));
        }
    }

    /// Returns true if no reply waits to be taken by the client. It may have its reasons to leave
    /// this side's control stream unread.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.is_empty_but_for(self.control())
    }

    /// Returns the control stream of this side, which only HTTP/3 has.
    fn control(&self) -> Option<StreamId> {
        self.http3.as_ref()?.control()
    }

    /// Returns true if no query waits, and nothing else to be sent to the client.
    pub(super) fn is_quiet(&self) -> bool {
        self.streams.is_quiet() && self.is_drained()
    }

    /// Closes the connection for `reason`.
    pub(super) fn end(&mut self, instant: Instant, reason: Reason) -> Step {
        self.close(instant, self.application.code(reason))
    }

    /// Closes the connection with `code`.
    fn close(&mut self, instant: Instant, code: u32) -> Step {
        self.quic.close(instant, VarInt::from_u32(code), Bytes::new());
        self.phase = Phase::Over;
        Step::Closed(Some(code))
    }

    /// Reads no more queries. Those that were not passed on are refused, so that the client asks
    /// elsewhere at once.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Ending;
        if let Some(http3) = &mut self.http3 {
            // A client that does not read learns of it by the end.
            let _ = http3.leave(&mut self.quic, &mut self.outbox);
        }
        while let Some(id) = self.streams.next_unasked() {
            self.refuse(id, self.application.code(Reason::Unread));
        }
    }

    /// Refuses streams whose queries have been incomplete for `max`.
    pub(super) fn end_stalled(&mut self, now: Moment, max: Duration) {
        while let Some(id) = self.streams.next_stalled(now.minus(max)) {
            self.refuse(id, self.application.code(Reason::Stalled));
        }
    }

    /// Returns the time of the next call of [`Connection::end_stalled`] or, during the handshake,
    /// its end.
    pub(super) fn overdue_at(&self, max: Duration) -> Option<Moment> {
        let since = match self.phase {
            Phase::Handshaking => Some(self.since),
            _ => self.streams.stalled_since(),
        };
        since.map(|since| since.plus(max))
    }

    /// Returns the step for a connection that the transport has given up.
    fn lost(&mut self, reason: &ConnectionError) -> Step {
        let was_handshaking = self.phase == Phase::Handshaking;
        self.phase = Phase::Over;
        if !was_handshaking {
            return Step::Closed(None);
        }
        Step::Failed(Failure::of(reason))
    }

    /// Returns the number of streams whose replies were not handed over.
    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }
}
