//! A connection to an upstream that speaks DNS over QUIC (RFC 9250): calls in, replies out.
//!
//! A [`Client`] is this side of one connection, which has a socket of its own: received datagrams
//! go in, and datagrams to send come out. A call is a query on a stream of its own; there are as
//! many at once as the server grants. A reply that violates the protocol closes the connection.
//! Replies are bounded, and so are the bytes of those that are incomplete. Time-outs, retries and
//! the end of idle connections belong to the owner.

use super::doq::{self, Gathered, Judgement, MESSAGE_LEN_MIN, PREFIX_LEN, code, gather, judge};
use super::outbox::{Outbox, WAITING_MAX};
use super::peer;
use super::settings::{self, Dialer};
use crate::moment::Moment;
use bytes::{Bytes, BytesMut};
use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event,
    StreamEvent, StreamId, VarInt,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Codes of QUIC for alerts of TLS: this, and the alert (RFC 9001 §4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;
/// Bytes of a connection's incomplete replies: eight of maximum length.
const BEGUN_MAX: usize = 8 * 65_537;
/// Maximum number of streams that are opened before there are calls for them.
pub(super) const GRANTED_MAX: usize = 128;
/// Bytes that the library keeps for a stream without data.
const GRANTED_LEN: usize = 64;
/// Capacity for one datagram.
const DATAGRAM_LEN: usize = 2_048;

/// Result of a connection's progress.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The handshake is complete.
    Connected {
        /// Number of calls at once that the server has announced.
        calls_max: usize,
        /// Time without packets after which the server forgets the connection, if any.
        silence: Option<Duration>,
    },
    /// The reply to a call. Its message ID is 0.
    Reply(u32, Bytes),
    /// A call has ended without a reply.
    Failed(u32, Refusal),
    /// The connection is over.
    Over(End),
}

/// Reason why a call has no reply although its connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server has too much to do, and has not processed the query.
    Load,
    /// The server has reset the stream.
    Reset,
    /// Too many bytes of incomplete replies are there.
    TooLong,
}

/// Reason for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server has closed it.
    Closed,
    /// The server has closed it because it has too much to do.
    Load,
    /// The server has reset it: it does not know the connection any more.
    Reset,
    /// Neither side has sent anything for the time that both have agreed on.
    Silence,
    /// TLS has failed here; the server gets this alert.
    Handshake(u8),
    /// The server has sent this alert of TLS.
    Alert(u8),
    /// The server does not speak version 1 of QUIC.
    Version,
    /// The server has violated the protocol, or says that this side has.
    Violation,
}

impl End {
    fn of(error: &ConnectionError) -> Self {
        let alert = |code: u64| CRYPTO_ERRORS.contains(&code).then_some(code as u8);
        match error {
            ConnectionError::VersionMismatch => Self::Version,
            ConnectionError::TransportError(error) => {
                alert(error.code.into()).map_or(Self::Violation, Self::Handshake)
            }
            ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
                0 => Self::Closed,
                // CONNECTION_REFUSED (RFC 9000 §20.1).
                2 => Self::Load,
                code => alert(code).map_or(Self::Violation, Self::Alert),
            },
            ConnectionError::ApplicationClosed(close) => match close.error_code.into_inner() {
                load if load == u64::from(code::EXCESSIVE_LOAD) => Self::Load,
                protocol if protocol == u64::from(code::PROTOCOL) => Self::Violation,
                _ => Self::Closed,
            },
            ConnectionError::Reset => Self::Reset,
            ConnectionError::TimedOut => Self::Silence,
            ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => Self::Closed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Open,
    Over,
}

/// A call without its reply.
#[derive(Debug)]
struct Call {
    id: StreamId,
    /// The beginning of its reply.
    received: BytesMut,
}

/// DNS over QUIC on one connection.
pub(crate) struct Client {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    quic: Connection,
    server: SocketAddr,
    /// The library's time of [`Moment::ZERO`].
    origin: Instant,
    phase: Phase,
    /// Ordered by their streams.
    calls: Vec<Call>,
    outbox: Outbox,
    /// Streams for later calls, of which nothing is sent. The library says how many more may be
    /// opened in no other way.
    granted: VecDeque<StreamId>,
    /// Maximum number of calls at once that the server has allowed.
    calls_max: usize,
}

impl Dialer {
    /// Begins a connection to `server`, which must prove to be `name`; nothing is sent before
    /// [`Client::transmit`]. `seed` is unpredictable. `None`: `tls` does not speak TLS 1.3, or
    /// the address is none of a server.
    pub(crate) fn dial(
        &self,
        now: Moment,
        server: SocketAddr,
        (tls, name): (Arc<rustls::ClientConfig>, &str),
        seed: [u8; 32],
    ) -> Option<Client> {
        let config = self.config(tls)?;
        let mut endpoint = Endpoint::new(Arc::clone(&self.endpoint), None, true, Some(seed));
        let instant = self.origin + Duration::from_nanos(now.as_nanos());
        let (handle, quic) = endpoint.connect(instant, config, server, name).ok()?;
        Some(Client {
            endpoint,
            handle,
            quic,
            server,
            origin: self.origin,
            phase: Phase::Handshaking,
            calls: Vec::new(),
            outbox: Outbox::default(),
            granted: VecDeque::new(),
            calls_max: 0,
        })
    }
}

impl Client {
    /// Returns the maximum number of bytes of a connection with at most `calls` calls at once.
    pub(crate) fn bytes_max(calls: usize) -> usize {
        let own = size_of::<Self>() + size_of::<Connection>() + DATAGRAM_LEN;
        let granted = GRANTED_MAX * (size_of::<StreamId>() + GRANTED_LEN);
        let waiting = settings::client_windows() + BEGUN_MAX + WAITING_MAX;
        own + calls * size_of::<Call>() + granted + waiting
    }

    /// Handles a datagram.
    pub(crate) fn receive(&mut self, now: Moment, datagram: &[u8]) {
        let instant = self.instant(now);
        let (server, bytes) = (self.server, BytesMut::from(datagram));
        // The endpoint of a client has nothing to say to strangers.
        let mut unused = Vec::new();
        let event = self.endpoint.handle(instant, server, None, None, bytes, &mut unused);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.quic.handle_event(event);
        }
        self.relay();
    }

    /// Handles the deadline, if it has passed.
    pub(crate) fn on_time(&mut self, now: Moment) {
        let instant = self.instant(now);
        self.quic.handle_timeout(instant);
        self.relay();
    }

    /// Returns the time of the next call of [`Client::on_time`].
    pub(crate) fn next_deadline(&mut self) -> Option<Moment> {
        let due = self.quic.poll_timeout().filter(|_| self.phase != Phase::Over)?;
        Some(Moment::ZERO.plus(due.saturating_duration_since(self.origin)))
    }

    /// Passes events between the connection and its endpoint.
    fn relay(&mut self) {
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
    }

    /// Returns the next progress.
    pub(crate) fn next(&mut self, now: Moment) -> Option<Progress> {
        while self.phase != Phase::Over {
            let progress = match self.quic.poll()? {
                Event::Connected => {
                    self.phase = Phase::Open;
                    let limits = peer::limits(&self.quic);
                    self.calls_max = limits.streams;
                    let silence = limits.silence;
                    Some(Progress::Connected { calls_max: limits.streams, silence })
                }
                Event::ConnectionLost { reason } => {
                    self.phase = Phase::Over;
                    Some(Progress::Over(End::of(&reason)))
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
                Event::Stream(StreamEvent::Writable { id }) => {
                    self.outbox.resume(&mut self.quic, id);
                    None
                }
                Event::Stream(StreamEvent::Available { dir: Dir::Bi }) => {
                    self.open_granted();
                    None
                }
                Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                    match error_code.into_inner() {
                        // A server that has a query does not have to read the end of its stream.
                        0 => {
                            self.end_query(id);
                            None
                        }
                        // The reply may be here already.
                        code => self.read(now, id).or_else(|| self.refuse(id, refusal_of(code))),
                    }
                }
                _ => None,
            };
            if progress.is_some() {
                return progress;
            }
        }
        None
    }

    /// Reads the stream of a call.
    fn read(&mut self, now: Moment, id: StreamId) -> Option<Progress> {
        let others = self.calls.iter().filter(|call| call.id != id);
        let begun: usize = others.map(|call| call.received.len()).sum();
        let call = self.calls.iter_mut().find(|call| call.id == id)?;
        let (whole, is_ended) = match gather(&mut self.quic, id, &mut call.received) {
            Gathered::Nothing => return None,
            Gathered::Reset(code) => return self.refuse(id, refusal_of(code)),
            Gathered::Bytes { whole, is_ended } => (whole, is_ended),
        };
        match judge(&whole, is_ended, usize::from(u16::MAX)) {
            // The caller writes a header, so a reply has one.
            Judgement::Whole if whole.len() >= PREFIX_LEN + MESSAGE_LEN_MIN => {
                self.remove(id);
                // A server may answer before it has read all of the query's stream.
                self.end_query(id);
                Some(Progress::Reply(doq::number_of(id)?, whole.slice(PREFIX_LEN..)))
            }
            Judgement::Beginning if begun + whole.len() > BEGUN_MAX => {
                self.refuse(id, Refusal::TooLong)
            }
            Judgement::Beginning => {
                call.received = whole.into();
                None
            }
            Judgement::Whole | Judgement::TooLong | Judgement::Wrong => {
                self.close(now, code::PROTOCOL);
                Some(Progress::Over(End::Violation))
            }
        }
    }

    /// Ends the stream of a query of which the server does not want the rest.
    fn end_query(&mut self, id: StreamId) {
        if self.outbox.forget(id) {
            let _ = self.quic.send_stream(id).reset(VarInt::from_u32(code::NONE));
        }
    }

    /// Opens the streams that the server has granted. It has to grant one for each that has ended;
    /// more than that allows more calls at once.
    fn open_granted(&mut self) {
        while self.granted.len() < GRANTED_MAX
            && let Some(id) = self.quic.streams().open(Dir::Bi)
        {
            self.granted.push_back(id);
        }
        self.calls_max = self.calls_max.max(self.calls.len() + self.granted.len());
    }

    /// Ends a call whose server gives no reply.
    fn refuse(&mut self, id: StreamId, refusal: Refusal) -> Option<Progress> {
        self.remove(id)?;
        self.end_stream(id, code::CANCELLED);
        Some(Progress::Failed(doq::number_of(id)?, refusal))
    }

    /// Returns true if the handshake is complete, and the connection not over.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns the largest number of calls at once that the server has allowed so far.
    pub(crate) fn calls_max(&self) -> usize {
        self.calls_max
    }

    /// Sends a query on a stream of its own, with the message ID 0. Returns the number of the call;
    /// `None`: the server grants no more streams now.
    pub(crate) fn call(&mut self, query: &[u8]) -> Option<u32> {
        if !self.is_open() {
            return None;
        }
        let granted = self.granted.pop_front();
        let id = granted.or_else(|| self.quic.streams().open(Dir::Bi))?;
        let number = doq::number_of(id)?;
        self.calls.push(Call { id, received: BytesMut::new() });
        self.calls_max = self.calls_max.max(self.calls.len());
        // Calls are bounded by their owner, and so are the bytes that wait.
        let _ = self.outbox.send(&mut self.quic, id, doq::anonymous(query), true);
        Some(number)
    }

    /// Ends a call whose reply is not wanted any more.
    pub(crate) fn cancel(&mut self, call: u32) {
        let id = doq::id_of(call);
        if self.remove(id).is_some() {
            self.end_stream(id, code::CANCELLED);
        }
    }

    /// Closes the connection with `code`.
    pub(crate) fn close(&mut self, now: Moment, code: u32) {
        let instant = self.instant(now);
        self.quic.close(instant, VarInt::from_u32(code), Bytes::new());
        self.phase = Phase::Over;
    }

    /// Writes the datagrams that are due, and passes each to `send`. `buffer` is lent.
    pub(crate) fn transmit(
        &mut self,
        now: Moment,
        buffer: &mut Vec<u8>,
        mut send: impl FnMut(&[u8]),
    ) {
        let instant = self.instant(now);
        buffer.clear();
        while let Some(transmit) = self.quic.poll_transmit(instant, 1, buffer) {
            send(buffer.get(..transmit.size).unwrap_or_default());
            buffer.clear();
        }
    }

    fn remove(&mut self, id: StreamId) -> Option<Call> {
        let place = self.calls.binary_search_by_key(&id, |call| call.id).ok()?;
        Some(self.calls.remove(place))
    }

    /// Ends both sides of a stream with `code`, as far as they have not ended.
    fn end_stream(&mut self, id: StreamId, code: u32) {
        let code = VarInt::from_u32(code);
        self.outbox.forget(id);
        // Sides that have ended already say so.
        let _ = self.quic.recv_stream(id).stop(code);
        let _ = self.quic.send_stream(id).reset(code);
    }

    fn instant(&self, now: Moment) -> Instant {
        self.origin + Duration::from_nanos(now.as_nanos())
    }
}

/// Returns the reason for which a server resets or stops a stream with this code.
fn refusal_of(code: u64) -> Refusal {
    if code == u64::from(code::EXCESSIVE_LOAD) { Refusal::Load } else { Refusal::Reset }
}
