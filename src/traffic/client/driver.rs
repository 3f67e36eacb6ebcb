//! The event loop of one client thread.
//!
//! Each turn sends due queries, receives responses and gives up queries that have timed out. In an
//! open loop a query is due at its scheduled time and not before: if the thread is late, or no
//! socket can take the query, it is sent late, its latency still counts from the scheduled time,
//! and the lag is counted. A due query that has not been sent at the end of the schedule is never
//! sent, which is counted too. In a closed loop a query is sent as soon as fewer than the limit are
//! outstanding.

use super::link::{Link, Transport};
use super::pace::{Pacer, TICK};
use super::{Halt, Instants, Known, Load, Options};
use crate::clock::Clock;
use crate::moment::Moment;
use crate::quic::Dialer;
use crate::sys::mmsg::{QueryBatch, RecvBatch};
use crate::sys::random;
use crate::traffic::ledger::{Ledger, SLOTS_MAX};
use crate::traffic::tally::{Counts, Tally};
use crate::traffic::verify::Verify;
use crate::traffic::workload::Workload;
use mio::Token;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Datagrams per call.
const BATCH: usize = 64;
/// Queries sent before responses are read, so that a schedule that is behind does not block
/// reading.
const BURST_MAX: usize = 4 * BATCH;
/// Time after the end of the schedule in which it may be finished: one turn in the worst case.
const GRACE: Duration = Duration::from_millis(20);
/// Interval at which a thread publishes its counts.
const SHOW: Duration = Duration::from_millis(100);

/// One thread's state. Moments count from the start of the run.
pub(super) struct Driver {
    clock: Clock,
    start: Moment,
    pacer: Pacer,
    links: Vec<Link>,
    /// The numbers of the links that may have input.
    ready: Vec<usize>,
    workload: Workload,
    instants: Instants,
    /// Time of the next query.
    due: Option<Moment>,
    /// Time when the schedule ends.
    end: Option<Moment>,
    /// Time of the first deadline of a link, or an earlier one.
    deadline: Option<Moment>,
    /// The link that sends next.
    turn: usize,
    verify: Verify,
    tally: Tally,
    /// Maximum length of a response.
    response_length_max: usize,
    /// The slots of the current batch.
    batch: Vec<u16>,
}

impl Driver {
    /// Opens the sockets of part `part`. The run begins at `start` of `clock`.
    ///
    /// # Errors
    /// There is no route to a server, or no descriptor or port is left.
    pub(super) fn new(
        options: &Options,
        part: usize,
        clock: Clock,
        start: Moment,
    ) -> io::Result<Self> {
        let parts = options.parts();
        let pacer = Pacer::new(options.spin)?;
        let numbers = (part..options.sockets).step_by(parts);
        let count = numbers.len();
        let mut known = Known::default();
        let dialer = dialer(options, clock, start)?;
        let links = numbers.enumerate().map(|(i, number)| {
            let pick = |length: usize| number % length.max(1);
            let target = options.targets[pick(options.targets.len())];
            let source = options.sources.get(pick(options.sources.len())).copied();
            let ledger = ledger(options, i, count);
            let registry = pacer.registry();
            let tls = options.tls.as_ref().map(|tls| known.of(tls, target)).transpose()?;
            let link =
                Link::new(target, source, Token(i), options.transport, tls, ledger, registry)?;
            if let Some(dialer) = &dialer {
                return Ok(link.over_quic(Arc::clone(dialer)));
            }
            if !options.doh {
                return Ok(link);
            }
            let name = options.tls.as_ref().and_then(|tls| tls.settings.name.clone());
            let authority = name.unwrap_or_else(|| target.to_string());
            Ok(link.over_http(authority.into(), options.transport))
        });
        let links = links.collect::<io::Result<Vec<_>>>()?;
        let mut driver = Self {
            clock,
            start,
            pacer,
            links,
            ready: Vec::with_capacity(count),
            workload: options.workload(part),
            instants: options.instants(part),
            due: None,
            end: options.length().map(|length| Moment::ZERO.plus(length)),
            deadline: None,
            turn: 0,
            verify: options.verify.clone(),
            tally: options.tally(),
            response_length_max: options.response_length_max,
            batch: Vec::with_capacity(BATCH),
        };
        driver.due = driver.next_instant(Moment::ZERO);
        Ok(driver)
    }

    /// Returns the time since the start of the run; zero before it.
    fn now(&self) -> Moment {
        Moment::ZERO.plus(self.clock.now().since(self.start))
    }

    /// Runs until nothing is left to do. `show` gets the counts now and then, `halt` returns
    /// whether to end early.
    pub(super) fn run(
        mut self,
        show: impl Fn(&Counts),
        halt: impl Fn() -> Halt,
    ) -> io::Result<Tally> {
        while self.clock.now() < self.start {
            self.pacer.wait(self.clock.now(), Some(self.start), false)?;
        }
        // Allocated by the thread that uses them, on its own core.
        let mut inbox = RecvBatch::new(BATCH, self.response_length_max, false);
        let mut outbox = QueryBatch::new(BATCH);
        let (mut tick, mut shown) = (Moment::ZERO.plus(TICK), Moment::ZERO.plus(SHOW));
        loop {
            let now = self.now();
            if now >= tick {
                tick = now.plus(TICK);
                self.links.iter_mut().for_each(|link| link.expire(now, &mut self.tally));
            }
            if now >= shown {
                shown = now.plus(SHOW);
                show(&self.tally.counts);
                self.look_everywhere();
            }
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                self.meet_deadlines(now);
            }
            match halt() {
                Halt::No => self.review_end(now),
                Halt::Sending => self.due = None,
                Halt::Waiting => break,
            }
            self.send(now, &mut outbox);
            let came = !self.ready.is_empty();
            self.receive(&mut inbox);
            let outstanding = || self.links.iter().any(|link| link.ledger.outstanding() > 0);
            if self.due.is_none() && !outstanding() {
                break;
            }
            self.wait(came)?;
        }
        for link in &mut self.links {
            link.ledger.abandon(|intended| self.tally.note_unfinished(intended));
        }
        show(&self.tally.counts);
        Ok(self.tally)
    }

    /// Handles the deadlines of links that have passed.
    fn meet_deadlines(&mut self, now: Moment) {
        let Self { links, ready, .. } = self;
        for (index, link) in links.iter_mut().enumerate() {
            if link.deadline.is_some_and(|deadline| deadline <= now) {
                link.on_time(now);
                if !std::mem::replace(&mut link.ready, true) {
                    ready.push(index);
                }
            }
        }
        self.deadline = links.iter().filter_map(|link| link.deadline).min();
    }

    /// Makes every link be read: an ICMP error can end a batch early, and no event reports the
    /// datagrams after it.
    fn look_everywhere(&mut self) {
        self.links.iter_mut().for_each(|link| link.ready = true);
        self.ready.clear();
        self.ready.extend(0..self.links.len());
    }

    /// Gives up due queries that were not sent by the end of the schedule.
    fn review_end(&mut self, now: Moment) {
        let over = |end: Moment, grace: Duration| now >= end.plus(grace);
        let Some(end) = self.end else { return };
        match self.instants {
            // A closed loop has no schedule to miss.
            Instants::AtOnce if over(end, Duration::ZERO) => self.due = None,
            Instants::Planned(_) | Instants::Recorded { .. } if over(end, GRACE) => {
                while self.due.is_some() {
                    self.tally.counts.unsent += 1;
                    self.workload.skip();
                    self.due = self.next_instant(now);
                }
            }
            _ => {}
        }
    }

    /// Returns the send time of the next query of the workload; `None` if there is none.
    fn next_instant(&mut self, now: Moment) -> Option<Moment> {
        if self.workload.is_exhausted() {
            return None;
        }
        match &mut self.instants {
            Instants::Planned(schedule) => schedule.next().map(|at| Moment::ZERO.plus(at)),
            Instants::Recorded { speed } => {
                let instant = self.workload.next_instant().div_f64(*speed);
                Some(Moment::ZERO.plus(instant))
            }
            Instants::AtOnce => Some(now),
        }
    }

    /// Returns true if queries are sent as others are answered, without a schedule.
    fn is_closed_loop(&self) -> bool {
        matches!(self.instants, Instants::AtOnce)
    }

    /// Sends due queries, as far as the links can take them.
    fn send(&mut self, now: Moment, outbox: &mut QueryBatch) {
        let mut room = if self.is_closed_loop() { usize::MAX } else { BURST_MAX };
        // A link that refuses now refuses for this whole turn: each is tried in vain once at most.
        let mut refusals = 0;
        while self.due.is_some_and(|due| due <= now) && room > 0 {
            let bound = self.workload.next_client().is_some();
            let index = self.pick();
            match self.fill(index, now, outbox) {
                0 => refusals += 1,
                took => room = room.saturating_sub(took),
            }
            if refusals == self.links.len() || (bound && refusals > 0) {
                break;
            }
        }
    }

    /// Returns the link for the next query: its client's, or the next in turn.
    fn pick(&mut self) -> usize {
        let count = self.links.len();
        if let Some(client) = self.workload.next_client() {
            return client as usize % count;
        }
        self.turn = (self.turn + 1) % count;
        self.turn
    }

    /// Sends one batch of due queries on the link `index`; returns their number.
    fn fill(&mut self, index: usize, now: Moment, outbox: &mut QueryBatch) -> usize {
        let link = &mut self.links[index];
        let registry = self.pacer.registry();
        let room = link.vacancies(now, registry, &mut self.tally).min(BATCH);
        self.batch.clear();
        let closed = self.is_closed_loop();
        while self.batch.len() < room {
            let Some(due) = self.due.filter(|&due| due <= now) else { break };
            let links = self.links.len();
            let other = |client: u32| client as usize % links != index;
            if self.workload.next_client().is_some_and(other) {
                break;
            }
            let link = &mut self.links[index];
            let Some(slot) = link.ledger.reserve() else { break };
            let length = self.workload.write(link.ledger.buffer(slot));
            let chance = self.workload.draw() as u16;
            // In a closed loop it could not be sent before there was room.
            let due = if closed { now } else { due };
            link.ledger.launch(slot, length, chance, due, now);
            self.batch.push(slot);
            self.due = self.next_instant(now);
        }
        if !self.batch.is_empty() {
            let link = &mut self.links[index];
            link.send(&self.batch, now, outbox, &mut self.tally);
            self.deadline = earlier(self.deadline, link.deadline);
        }
        self.batch.len()
    }

    /// Receives from the links that are ready, one batch each.
    fn receive(&mut self, inbox: &mut RecvBatch) {
        let (clock, start) = (self.clock, self.start);
        let now = || Moment::ZERO.plus(clock.now().since(start));
        let Self { links, ready, verify, tally, deadline, .. } = self;
        ready.retain(|&index| {
            let link = &mut links[index];
            link.receive(inbox, now, verify, tally);
            *deadline = earlier(*deadline, link.deadline);
            link.ready
        });
    }

    /// Sleeps until the next deadline or event. In a closed loop a query is due when an answer has
    /// made room for it: no sleep when something `came`.
    fn wait(&mut self, came: bool) -> io::Result<()> {
        let closed = self.is_closed_loop();
        let next = earlier(self.due.filter(|_| !closed), self.deadline);
        let next = next.map(|due| self.start.plus(due.since(Moment::ZERO)));
        let now = next.map_or(Moment::ZERO, |_| self.clock.now());
        let busy = !self.ready.is_empty() || closed && came && self.due.is_some();
        self.pacer.wait(now, next, busy)?;
        for index in self.pacer.ready() {
            let link = &mut self.links[index];
            if !std::mem::replace(&mut link.ready, true) {
                self.ready.push(index);
            }
        }
        Ok(())
    }
}

/// Returns the earlier of two times, as far as there are any.
fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    one.into_iter().chain(other).min()
}

/// Creates the parameters of QUIC of a thread whose run begins at `start`, if it uses that.
fn dialer(options: &Options, clock: Clock, start: Moment) -> io::Result<Option<Arc<Dialer>>> {
    let Transport::Quic { .. } = options.transport else { return Ok(None) };
    let origin = clock.instant(start).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Some(Arc::new(Dialer::new(&random::seed()?, origin))))
}

/// Creates a ledger for link number `i` of `count` of a thread.
fn ledger(options: &Options, i: usize, count: usize) -> Ledger {
    let parts = options.parts();
    let most = match &options.load {
        Load::Closed { outstanding, .. } => {
            // Every thread has its share of the queries, and every link its share of those.
            let share = outstanding.div_ceil(parts);
            share / count + usize::from(i < share % count)
        }
        Load::Open(plan) => {
            let each = plan.rate_max() * options.timeout.as_secs_f64();
            // Twice the number of unanswered queries of an even distribution.
            (2.0 * each / (parts * count) as f64) as usize + BATCH
        }
        Load::Replay(_) => SLOTS_MAX,
    };
    let most = match options.transport {
        Transport::Connections { pipeline, .. } | Transport::Quic { pipeline, .. } => {
            most.min(pipeline)
        }
        Transport::Datagrams => most,
    };
    Ledger::new(most, options.source.length_max(), options.timeout)
}
