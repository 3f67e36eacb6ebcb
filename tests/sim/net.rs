//! Virtual time and the network: the event queue.
//!
//! Every event is an [`Event`] in one queue, ordered by time; equal times keep the order of
//! scheduling, so that a seed determines the whole run. Datagrams are lost, delayed, duplicated and
//! thereby reordered here; connections are in [`super::link`]. The last events are recorded as text
//! on demand only, because formatting costs more than the rest.

use super::common::Dice;
use super::link::{Link, LinkId, Segment, Side};
use super::plan::Weather;
use onward::engine::{ConnectionId, Sweep};
use onward::moment::Moment;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

/// Maximum extra delay of a late datagram: longer than most timeouts.
const LATE_MAX: Duration = Duration::from_secs(4);
/// Maximum age at which a middlebox forgets a path.
const PATH_LIFE_MAX: Duration = Duration::from_secs(20);

/// Maximum delay of a message between workers and keeper.
pub(crate) const MAIL_MAX: Duration = Duration::from_millis(2);

/// Endpoints of datagrams and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    /// A client.
    Client(usize),
    /// A worker's client-side sockets.
    Listener(usize),
    /// A worker's connection to an upstream.
    Connection(usize, ConnectionId),
    /// The keeper's socket for a probe: the upstream, and the number of the probe.
    Probe(usize, u64),
    /// An upstream.
    Upstream(usize),
}

/// An event.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Datagram {
        from: Port,
        to: Port,
        packet: Vec<u8>,
    },
    /// ICMP port unreachable for this socket.
    Unreachable(Port),
    /// A segment for one end of a connection.
    Segment {
        link: LinkId,
        to: Side,
        segment: Segment,
    },
    /// A middlebox forgets this socket or connection.
    PathDies(Port),
    LinkDies(LinkId),
    /// An upstream's answer is ready.
    Answer {
        upstream: usize,
        to: Via,
        query: Vec<u8>,
    },
    /// A worker's request to the keeper, or the keeper's message to a worker.
    Wake {
        worker: usize,
        sweep: Sweep,
        at: Moment,
    },
    Failed {
        upstream: usize,
    },
    Sweep {
        worker: usize,
        sweep: Sweep,
    },
    /// A client sends a burst.
    ClientActs(usize),
    /// An upstream goes down or recovers.
    UpstreamTurns(usize),
    SpooferActs,
    Reload,
    KeeperWakes,
    /// A worker's poll returns.
    Turn(usize),
}

/// Transport of a query to an upstream, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Datagram(Port),
    Stream(LinkId),
}

/// Time and the network.
pub(crate) struct Net {
    pub(crate) now: Moment,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) links: Vec<Link>,
    /// Ordered by time and number; the events themselves are stored by number.
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    events: BTreeMap<u64, Event>,
    scheduled: u64,
    last_mail: Moment,
    dead_paths: BTreeSet<Port>,
    lines: VecDeque<String>,
    lines_max: usize,
}

impl Net {
    /// `lines_max` is the number of events recorded as text.
    pub(crate) fn new(dice: Dice, weather: Weather, lines_max: usize) -> Self {
        Self {
            now: Moment::ZERO,
            dice,
            weather,
            links: Vec::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            last_mail: Moment::ZERO,
            dead_paths: BTreeSet::new(),
            lines: VecDeque::new(),
            lines_max,
        }
    }

    /// Schedules `event` at `at`.
    pub(crate) fn at(&mut self, at: Moment, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((at.max(self.now), self.scheduled)));
        self.events.insert(self.scheduled, event);
    }

    /// Schedules `event` after `delay`.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now.plus(delay), event);
    }

    /// Schedules `event` after the delay of a message, in the order of sending.
    pub(crate) fn mail(&mut self, event: Event) {
        let delay = self.dice.time(Duration::ZERO, MAIL_MAX);
        self.last_mail = self.last_mail.max(self.now.plus(delay));
        self.at(self.last_mail, event);
    }

    /// Returns the next event up to `end` and moves time to it.
    pub(crate) fn next(&mut self, end: Moment) -> Option<Event> {
        let Reverse((at, number)) = *self.queue.peek().filter(|next| next.0.0 <= end)?;
        assert!(at >= self.now, "time runs backwards");
        self.queue.pop();
        self.now = at;
        self.events.remove(&number)
    }

    /// Sends a datagram, which may be lost or duplicated.
    pub(crate) fn datagram(&mut self, from: Port, to: Port, packet: Vec<u8>) {
        if self.dead_paths.contains(&from) || self.dead_paths.contains(&to) {
            return;
        }
        if self.dice.per_mille(self.weather.duplicated) {
            let delay = self.delay();
            self.after(delay, Event::Datagram { from, to, packet: packet.clone() });
        }
        if self.dice.per_mille(self.weather.lost) {
            return self.note(|| format!("{from:?} to {to:?}: lost"));
        }
        let delay = self.delay();
        self.after(delay, Event::Datagram { from, to, packet });
    }

    /// Registers a new UDP socket, whose path a middlebox may forget.
    pub(crate) fn begin_path(&mut self, port: Port) {
        if self.dice.per_mille(self.weather.forgotten) {
            let life = self.dice.time(Duration::ZERO, PATH_LIFE_MAX);
            self.after(life, Event::PathDies(port));
        }
    }

    /// Registers a new connection, whose path a middlebox may forget.
    pub(crate) fn begin_link(&mut self, link: LinkId) {
        if self.dice.per_mille(self.weather.forgotten) {
            let life = self.dice.time(Duration::ZERO, PATH_LIFE_MAX);
            self.after(life, Event::LinkDies(link));
        }
    }

    /// Blocks all traffic of the socket.
    pub(crate) fn kill_path(&mut self, port: Port) {
        self.dead_paths.insert(port);
    }

    /// Returns the delay of a packet.
    pub(crate) fn delay(&mut self) -> Duration {
        let late = self.dice.per_mille(self.weather.late);
        let most = self.weather.delay + if late { LATE_MAX } else { Duration::ZERO };
        self.dice.time(Duration::ZERO, most)
    }

    /// Records the text of `words`.
    pub(crate) fn note(&mut self, words: impl FnOnce() -> String) {
        if self.lines_max == 0 {
            return;
        }
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        let seconds = self.now.as_nanos() as f64 / 1e9;
        self.lines.push_back(format!("{seconds:13.6}  {}", words()));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if !self.lines.is_empty() {
            eprintln!("the last events (seconds, what happened):");
            self.lines.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
