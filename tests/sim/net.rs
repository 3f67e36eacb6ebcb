//! Virtual time, and the network: what happens when.
//!
//! All that ever happens is an [`Event`] in one queue, in the order of its time; equal times keep
//! the order in which they were scheduled, so a seed is a whole history. Datagrams are lost,
//! delayed, duplicated and so reordered here; connections are in [`super::link`]. The last events
//! are remembered in words, if anybody wants to read them: writing words costs more than the rest.

use super::common::Dice;
use super::link::{Link, LinkId, Segment, Side};
use super::plan::Weather;
use onward::engine::{ConnectionId, Sweep};
use onward::moment::Moment;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

/// How much longer than usual a late datagram takes at most: longer than most time-outs.
const LATE_MAX: Duration = Duration::from_secs(4);
/// Somebody between forgets a path within this time of its beginning.
const PATH_LIFE_MAX: Duration = Duration::from_secs(20);

/// How long mail between workers and keeper takes at most.
pub(crate) const MAIL_MAX: Duration = Duration::from_millis(2);

/// Where datagrams and connections begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    /// A client.
    Client(usize),
    /// A worker's sockets for clients.
    Listener(usize),
    /// One of a worker's connections.
    Connection(usize, ConnectionId),
    /// The keeper's socket for a probe: the upstream, and which of its probes.
    Probe(usize, u64),
    /// An upstream.
    Upstream(usize),
}

/// What happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Datagram {
        from: Port,
        to: Port,
        packet: Vec<u8>,
    },
    /// ICMP says that nobody listens where this socket leads.
    Unreachable(Port),
    /// Something for one end of a connection.
    Segment {
        link: LinkId,
        to: Side,
        segment: Segment,
    },
    /// Somebody between has forgotten this socket, or this connection.
    PathDies(Port),
    LinkDies(LinkId),
    /// An upstream has thought about a query.
    Answer {
        upstream: usize,
        to: Via,
        query: Vec<u8>,
    },
    /// A worker's request to the keeper, or the keeper's to a worker.
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
    /// A client asks something.
    ClientActs(usize),
    /// An upstream dies or returns.
    UpstreamTurns(usize),
    SpooferActs,
    /// The configuration is another one.
    Reload,
    KeeperWakes,
    /// A worker's poll returns.
    Turn(usize),
}

/// How a query came to an upstream, and its answer goes.
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
    /// By time and number; the events themselves by number.
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    events: BTreeMap<u64, Event>,
    scheduled: u64,
    last_mail: Moment,
    dead_paths: BTreeSet<Port>,
    lines: VecDeque<String>,
    lines_max: usize,
}

impl Net {
    /// `lines_max`: events that are remembered in words.
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

    /// Has `event` happen at `at`.
    pub(crate) fn at(&mut self, at: Moment, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((at.max(self.now), self.scheduled)));
        self.events.insert(self.scheduled, event);
    }

    /// Has `event` happen after `delay`.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now.plus(delay), event);
    }

    /// Has `event` happen when the mail comes, in the order of sending.
    pub(crate) fn mail(&mut self, event: Event) {
        let delay = self.dice.time(Duration::ZERO, MAIL_MAX);
        self.last_mail = self.last_mail.max(self.now.plus(delay));
        self.at(self.last_mail, event);
    }

    /// The next event that happens until `end`; time jumps to it.
    pub(crate) fn next(&mut self, end: Moment) -> Option<Event> {
        let Reverse((at, number)) = *self.queue.peek().filter(|next| next.0.0 <= end)?;
        assert!(at >= self.now, "time runs backwards");
        self.queue.pop();
        self.now = at;
        self.events.remove(&number)
    }

    /// Sends a datagram, which arrives, or not, or twice.
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

    /// A new socket for datagrams, whose path somebody between may forget.
    pub(crate) fn begin_path(&mut self, port: Port) {
        if self.dice.per_mille(self.weather.forgotten) {
            let life = self.dice.time(Duration::ZERO, PATH_LIFE_MAX);
            self.after(life, Event::PathDies(port));
        }
    }

    /// A new connection, the same.
    pub(crate) fn begin_link(&mut self, link: LinkId) {
        if self.dice.per_mille(self.weather.forgotten) {
            let life = self.dice.time(Duration::ZERO, PATH_LIFE_MAX);
            self.after(life, Event::LinkDies(link));
        }
    }

    /// Nothing passes from or to the socket any more.
    pub(crate) fn kill_path(&mut self, port: Port) {
        self.dead_paths.insert(port);
    }

    /// Returns the delay of a packet.
    pub(crate) fn delay(&mut self) -> Duration {
        let late = self.dice.per_mille(self.weather.late);
        let most = self.weather.delay + if late { LATE_MAX } else { Duration::ZERO };
        self.dice.time(Duration::ZERO, most)
    }

    /// Remembers what `words` says.
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
