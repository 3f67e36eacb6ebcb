//! Connections: in order, whole, in segments of any length, with a window, delayed, and cut.
//!
//! A [`Link`] is what both kernels and the wire know of a connection: what one end writes arrives
//! at the other later and in order; a lost segment is a longer delay. An end that is closed answers
//! bytes with a reset; a link that is dead carries nothing and tells nobody. [`Stream`] is a user
//! of one end: whole messages in and out, by the program's own framing.

use super::net::{Event, Net, Port};
use onward::engine::frame::{Full, Inbox, Outbox};
use onward::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// A dial that takes long takes so much longer than usual at most: longer than any is waited for.
const DIAL_LATE_MAX: Duration = Duration::from_secs(40);
/// A lost segment is sent again after this.
const RESENT_AFTER: Duration = Duration::from_millis(300);
/// Messages that wait for a slow reader, in bytes.
const WAITING_MAX: usize = 2 * 65_537;

/// A link's number.
pub(crate) type LinkId = usize;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

/// What is on its way to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// The dial.
    Syn,
    /// The dial has succeeded.
    Accepted,
    Bytes(Vec<u8>),
    /// There is room in the window again.
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
    /// Bytes that it wrote and that the other end has not read.
    unacknowledged: usize,
    wants_window: bool,
    /// Nothing arrives here before this.
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
    /// Dials.
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

    /// Returns true if the dial has succeeded, as far as this end knows.
    pub(crate) fn is_connected(&self, link: LinkId, side: Side) -> bool {
        self.links[link].ends[side as usize].connected
    }

    /// Returns true if the other end has reset the link.
    pub(crate) fn is_reset(&self, link: LinkId, side: Side) -> bool {
        self.links[link].ends[side as usize].reset
    }

    /// Writes as many of `bytes` as the window has room for, in segments.
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

    /// Reads what has arrived. `None`: there will be nothing more.
    pub(crate) fn read(
        &mut self,
        link: LinkId,
        side: Side,
        room: &mut [u8],
    ) -> Result<Option<usize>, WasReset> {
        let end = self.end(link, side);
        // As kernels do it: what had come before the reset can be read.
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

    /// Closes this end: with a FIN, or a reset if something is left unread here.
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

    /// This end says that it writes no more, and goes on reading.
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

    /// Somebody between the ends forgets the link.
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

    /// A segment arrives at the end `to`. Whose that is, if it is news there.
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

/// What a read has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be more at once.
    More,
    /// There is nothing more for now.
    Blocked,
    /// The other end has closed, or the link was reset.
    Over,
}

/// One end of a link, and whole messages.
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

    /// Reads all there is, without a bound. False: nothing more will come.
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

    /// Returns true if so much waits that no message more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.outbox.waiting().len() > WAITING_MAX
    }

    /// Returns true if nothing waits to go out.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.waiting().is_empty()
    }

    /// Writes what waits, as far as the link takes it; returns how many bytes that was.
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

    /// Queues a message and writes what can be written. False: the link is of no more use.
    pub(crate) fn send(&mut self, net: &mut Net, message: &[u8]) -> bool {
        self.push(message).is_ok() && self.flush(net).is_ok()
    }

    /// Closes this end.
    pub(crate) fn close(&self, net: &mut Net) {
        net.close(self.link, self.side);
    }
}
