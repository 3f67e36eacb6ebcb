//! TCP connections: ordered, reliable, in segments of any length, with a window, delays and
//! failures.
//!
//! A [`Link`] is the state of both kernels and the wire: bytes written at one end arrive later at
//! the other, in order; a lost segment is a longer delay. A closed end answers bytes with a reset;
//! a dead link carries nothing and reports nothing. [`SimConnection`] is the user of one end: whole
//! messages, with the program's own framing.

use super::net::{Event, Net, Port};
use onward::engine::frame::{Full, Inbox, Outbox};
use onward::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Maximum extra time of a slow dial: longer than any connect timeout.
const DIAL_LATE_MAX: Duration = Duration::from_secs(40);
/// Retransmission timeout of a lost segment.
const RESENT_AFTER: Duration = Duration::from_millis(300);
/// Maximum bytes of messages queued for a slow reader.
const WAITING_MAX: usize = 2 * 65_537;

pub(crate) type LinkId = usize;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

/// A segment on its way to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// The start of the handshake.
    Syn,
    /// The end of the handshake.
    Accepted,
    Bytes(Vec<u8>),
    /// The window is open again.
    Window,
    Fin,
    Reset,
}

/// One end, as its kernel sees it.
#[derive(Debug, Default)]
struct End {
    unread: VecDeque<u8>,
    connected: bool,
    fin: bool,
    reset: bool,
    finished: bool,
    closed: bool,
    /// Bytes written here that the other end has not read.
    unacknowledged: usize,
    wants_window: bool,
    /// Arrival time of the latest segment; none arrives before it.
    last: Moment,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) dialler: Port,
    pub(crate) acceptor: Port,
    ends: [End; 2],
    window: usize,
    dead: bool,
}

/// The link was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WasReset;

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

impl Net {
    /// Starts a dial.
    pub(crate) fn dial(&mut self, dialler: Port, acceptor: Port) -> LinkId {
        let narrow = self.dice.per_mille(self.weather.narrow);
        let window = if narrow { self.dice.pick(&[200, 2_000]) } else { 65_536 };
        let dead = self.dice.per_mille(self.weather.dial_never);
        let link = self.links.len();
        self.links.push(Link { dialler, acceptor, ends: Default::default(), window, dead });
        let late = self.dice.per_mille(self.weather.dial_late);
        let most = if late { DIAL_LATE_MAX } else { Duration::ZERO };
        let extra = self.dice.time(Duration::ZERO, most);
        self.begin_link(link);
        self.segment(link, Side::Acceptor, Segment::Syn, extra);
        link
    }

    /// Accepts a dial.
    pub(crate) fn accept(&mut self, link: LinkId) {
        self.end(link, Side::Acceptor).connected = true;
        self.segment(link, Side::Dialler, Segment::Accepted, Duration::ZERO);
    }

    /// Returns true if the dial has succeeded, as seen by this end.
    pub(crate) fn is_connected(&self, link: LinkId, side: Side) -> bool {
        self.links[link].ends[side as usize].connected
    }

    /// Returns true if the other end has reset the link.
    pub(crate) fn is_reset(&self, link: LinkId, side: Side) -> bool {
        self.links[link].ends[side as usize].reset
    }

    /// Writes as many of `bytes` as the window allows, in segments.
    pub(crate) fn write(
        &mut self,
        link: LinkId,
        side: Side,
        bytes: &[u8],
    ) -> Result<usize, WasReset> {
        let window = self.links[link].window;
        let end = self.end(link, side);
        if end.reset || end.closed {
            return Err(WasReset);
        }
        let count = if end.connected { bytes.len().min(window - end.unacknowledged) } else { 0 };
        end.unacknowledged += count;
        end.wants_window = count < bytes.len();
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let whole = self.dice.one_in(2);
            let len = if whole { rest.len() } else { 1 + self.dice.below(rest.len()) };
            let (segment, after) = rest.split_at(len);
            self.segment(link, side.other(), Segment::Bytes(segment.to_vec()), Duration::ZERO);
            rest = after;
        }
        Ok(count)
    }

    /// Reads the bytes that have arrived. `None` after the end of the connection.
    pub(crate) fn read(
        &mut self,
        link: LinkId,
        side: Side,
        room: &mut [u8],
    ) -> Result<Option<usize>, WasReset> {
        let end = self.end(link, side);
        // As in real kernels, data that arrived before the reset can still be read.
        if end.reset && end.unread.is_empty() {
            return Err(WasReset);
        }
        let count = end.unread.len().min(room.len());
        if count == 0 {
            return Ok(if end.fin { None } else { Some(0) });
        }
        end.unread.drain(..count).zip(room).for_each(|(byte, place)| *place = byte);
        let other = self.end(link, side.other());
        other.unacknowledged -= count;
        if std::mem::take(&mut other.wants_window) {
            self.segment(link, side.other(), Segment::Window, Duration::ZERO);
        }
        Ok(Some(count))
    }

    /// Closes this end: with a FIN, or with a reset if unread data is left.
    pub(crate) fn close(&mut self, link: LinkId, side: Side) {
        let end = self.end(link, side);
        if std::mem::replace(&mut end.closed, true) || end.reset {
            return;
        }
        let goodbye = if end.unread.is_empty() { Segment::Fin } else { Segment::Reset };
        if goodbye == Segment::Reset || !end.finished {
            self.segment(link, side.other(), goodbye, Duration::ZERO);
        }
    }

    /// Closes the sending side of this end, which continues to read.
    pub(crate) fn finish(&mut self, link: LinkId, side: Side) {
        if !std::mem::replace(&mut self.end(link, side).finished, true) {
            self.segment(link, side.other(), Segment::Fin, Duration::ZERO);
        }
    }

    /// Closes this end with a reset.
    pub(crate) fn reset(&mut self, link: LinkId, side: Side) {
        if !std::mem::replace(&mut self.end(link, side).closed, true) {
            self.segment(link, side.other(), Segment::Reset, Duration::ZERO);
        }
    }

    /// Kills the link silently, as a middlebox that drops its state.
    pub(crate) fn kill_link(&mut self, link: LinkId) {
        self.links[link].dead = true;
    }

    /// Sends a segment to the end `to`, after `extra` and the usual delay, and in order.
    fn segment(&mut self, link: LinkId, to: Side, segment: Segment, extra: Duration) {
        let lost = self.dice.per_mille(self.weather.lost);
        let at = self.now.plus(self.delay() + if lost { RESENT_AFTER } else { extra });
        let end = self.end(link, to);
        end.last = end.last.max(at);
        let at = end.last;
        self.at(at, Event::Segment { link, to, segment });
    }

    /// Delivers a segment to the end `to`. Returns the owner of that end if it must be notified.
    pub(crate) fn arrive(&mut self, link: LinkId, to: Side, segment: Segment) -> Option<Port> {
        if self.links[link].dead {
            return None;
        }
        let end = self.end(link, to);
        if end.closed || end.reset {
            let bytes = matches!(segment, Segment::Bytes(_) | Segment::Accepted);
            if bytes && end.closed {
                self.segment(link, to.other(), Segment::Reset, Duration::ZERO);
            }
            return None;
        }
        match segment {
            Segment::Bytes(bytes) => end.unread.extend(bytes),
            Segment::Fin => end.fin = true,
            Segment::Reset => end.reset = true,
            Segment::Accepted => end.connected = true,
            Segment::Syn | Segment::Window => {}
        }
        let Link { dialler, acceptor, .. } = self.links[link];
        Some(if to == Side::Dialler { dialler } else { acceptor })
    }

    fn end(&mut self, link: LinkId, side: Side) -> &mut End {
        &mut self.links[link].ends[side as usize]
    }
}

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More data may be available.
    More,
    /// No more data for now.
    Blocked,
    /// The other end has closed, or the link was reset.
    Over,
}

/// One end of a link, with message framing.
pub(crate) struct SimConnection {
    pub(crate) link: LinkId,
    side: Side,
    pub(crate) inbox: Inbox,
    outbox: Outbox,
}

impl SimConnection {
    pub(crate) fn new(link: LinkId, side: Side) -> Self {
        Self { link, side, inbox: Inbox::default(), outbox: Outbox::default() }
    }

    /// Reads once.
    pub(crate) fn read(&mut self, net: &mut Net) -> Progress {
        let room = self.inbox.room();
        let capacity = room.len();
        match net.read(self.link, self.side, room) {
            Ok(Some(count)) => {
                self.inbox.filled(count);
                let more = count == capacity || net.end(self.link, self.side).fin;
                if more { Progress::More } else { Progress::Blocked }
            }
            Ok(None) | Err(WasReset) => Progress::Over,
        }
    }

    /// Reads everything available, without a bound. False if no more will come.
    pub(crate) fn read_all(&mut self, net: &mut Net) -> bool {
        loop {
            match self.read(net) {
                Progress::More => {}
                progress => return progress == Progress::Blocked,
            }
        }
    }

    /// The next whole message of any length.
    pub(crate) fn message(&mut self) -> Option<Vec<u8>> {
        let next = self.inbox.next(usize::from(u16::MAX)).expect("no message is longer");
        next.map(<[u8]>::to_vec)
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, message: &[u8]) -> Result<(), Full> {
        self.outbox.push(message.len(), WAITING_MAX, |room| {
            room.copy_from_slice(message);
            message.len()
        })
    }

    /// Returns true if the queue of outgoing messages is full.
    pub(crate) fn is_full(&self) -> bool {
        self.outbox.waiting().len() > WAITING_MAX
    }

    /// Returns true if the queue of outgoing messages is empty.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.waiting().is_empty()
    }

    /// Writes queued bytes as far as the window allows; returns their number.
    pub(crate) fn flush(&mut self, net: &mut Net) -> Result<usize, WasReset> {
        let mut total = 0;
        while !self.outbox.waiting().is_empty() {
            let count = net.write(self.link, self.side, self.outbox.waiting())?;
            if count == 0 {
                break;
            }
            self.outbox.written(count);
            total += count;
        }
        Ok(total)
    }

    /// Queues a message and writes as much as possible. False if the link is unusable.
    pub(crate) fn send(&mut self, net: &mut Net, message: &[u8]) -> bool {
        self.push(message).is_ok() && self.flush(net).is_ok()
    }

    /// Closes this end.
    pub(crate) fn close(&self, net: &mut Net) {
        net.close(self.link, self.side);
    }
}
