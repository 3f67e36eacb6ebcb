//! The keeper: the thread that owns the shared timer wheel and the probing of upstreams.
//!
//! A worker's pool reports the earliest time at which one of its connections can expire or reach
//! its maximum age; the keeper sleeps until the next such time or message, and then tells that
//! worker to sweep that pool. So its cost follows the number of pools, and no thread wakes when
//! nothing is due. When a worker's exchange fails, the keeper probes the upstream, once for all
//! workers (`probing`); sockets and timers of probes are watched in the same poll. It also
//! coordinates the stop: all workers drain, and it ends with the last. It never waits for a worker:
//! a message to a full mailbox is retried a little later.

mod call;
mod probe;
mod probing;
mod quic;
mod retired;
mod timers;
mod wire;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{KeeperMail, KeeperMailbox, Mailbox, ToKeeper, ToWorker};
use crate::engine::health::{HealthStates, PLAIN_FOR};
use crate::log::{Event, Level, Log, Value};
use crate::moment::Moment;
use crate::sys::random;
use crate::tls::Setup;
use crossbeam_channel::TryRecvError;
use mio::{Events, Poll, Token, Waker};
use probing::Probing;
use retired::Retired;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use timers::{Due, Timers};

/// Delay of the next attempt when a worker's mailbox is full, or the worker panicked with a message
/// unread.
const RETRY: Duration = Duration::from_millis(10);
/// Capacity of the mailbox; a worker that finds it full retries.
const MAIL_MAX: usize = 4096;
/// Messages read before sockets and timers have their turn.
const MAIL_BATCH: usize = 256;
/// Events taken from the kernel at once; the rest are taken by the next poll.
const EVENTS_MAX: usize = 64;
/// Number of timers for which memory is allocated at the start.
const TIMERS: usize = 64;
/// The token of the mailbox; those of probes' sockets are the upstreams' numbers.
const MAILBOX: Token = Token(usize::MAX);

/// The keeper's state.
pub(crate) struct Keeper {
    clock: Clock,
    poll: Poll,
    events: Events,
    mail: KeeperMail,
    /// The last batch of mail was full.
    behind: bool,
    workers: Vec<Mailbox>,
    timers: Timers,
    probing: Probing,
    retired: Retired,
    /// Workers that have not left.
    present: usize,
    /// Workers that have not received the order to drain, once a stop has begun.
    to_drain: Vec<usize>,
}

impl Keeper {
    /// Creates a keeper, and the mailbox for its messages. It probes the upstreams of `config`,
    /// over TLS as `tls` says, and updates `health_states`.
    ///
    /// # Errors
    /// The kernel refused a poll or randomness: descriptors have run out.
    pub(crate) fn new(
        clock: Clock,
        config: &Config,
        health_states: Arc<HealthStates>,
        tls: &Setup,
    ) -> io::Result<(Self, KeeperMailbox)> {
        let poll = Poll::new()?;
        let (mailbox, mail) = KeeperMailbox::new(MAIL_MAX, Waker::new(poll.registry(), MAILBOX)?);
        let registry = poll.registry().try_clone()?;
        let keeper = Self {
            clock,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            mail,
            behind: false,
            workers: Vec::new(),
            timers: Timers::with_capacity(TIMERS),
            probing: Probing::new(config, health_states, tls, registry, (random::seed()?, clock)),
            retired: Retired::default(),
            present: 0,
            to_drain: Vec::new(),
        };
        Ok((keeper, mailbox))
    }

    /// Runs until a stop is requested and the last of `workers` has left. `log` receives messages
    /// for the operator.
    pub(crate) fn run(mut self, workers: Vec<Mailbox>, log: Log) {
        self.present = workers.len();
        self.workers = workers;
        while self.present > 0 && self.turn(log).is_ok() {}
    }

    /// Waits for events and handles them.
    ///
    /// # Errors
    /// All senders are dropped.
    fn turn(&mut self, log: Log) -> Result<(), TryRecvError> {
        self.wait();
        let now = self.clock.now();
        for event in &self.events {
            let Token(upstream) = event.token();
            if event.token() != MAILBOX && upstream < self.probing.count() {
                self.probing.on_ready(now, upstream, log);
                self.timers.set(Due::Probe(upstream), self.probing.wake_at(upstream));
            }
        }
        self.read_mail(now, log)?;
        let workers = &self.workers;
        self.to_drain.retain(|worker| workers[*worker].send(ToWorker::Drain).is_err());
        self.on_time(now, log);
        Ok(())
    }

    /// Waits for an event until the next timer is due.
    fn wait(&mut self) {
        let now = self.clock.now();
        let drain = (!self.to_drain.is_empty()).then(|| now.plus(RETRY));
        let behind = self.behind.then_some(now);
        let until = [self.timers.next_deadline(), drain, behind].into_iter().flatten().min();
        match self.poll.poll(&mut self.events, until.map(|until| until.since(now))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => outcome.expect("the poll is ours and stays valid"),
        }
    }

    /// Reads a batch of messages.
    ///
    /// # Errors
    /// All senders are dropped.
    fn read_mail(&mut self, now: Moment, log: Log) -> Result<(), TryRecvError> {
        self.mail.unring();
        self.behind = false;
        for _ in 0..MAIL_BATCH {
            match self.mail.try_next() {
                Ok(message) => self.on_message(now, message, log),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(TryRecvError::Disconnected),
            }
        }
        self.behind = true;
        Ok(())
    }

    fn on_message(&mut self, now: Moment, message: ToKeeper, log: Log) {
        match message {
            ToKeeper::Wake { worker, sweep, at } => {
                self.timers.set(Due::Sweep { worker, sweep }, Some(at));
            }
            ToKeeper::Reload { config, health_states, tls, done } => {
                // The workers will ask again, with the numbers of their new pools.
                self.timers.clear();
                self.retired.clear();
                self.probing.reload(now, &config, health_states, &tls, log);
                for upstream in 0..self.probing.count() {
                    self.timers.set(Due::Probe(upstream), self.probing.wake_at(upstream));
                }
                let _ = done.send(());
            }
            // A worker may still use an old configuration with more upstreams.
            ToKeeper::Failed { upstream } if upstream >= self.probing.count() => {}
            ToKeeper::Failed { upstream } => {
                self.probing.on_failed_exchange(now, upstream, log);
                self.timers.set(Due::Probe(upstream), self.probing.wake_at(upstream));
            }
            ToKeeper::Odd(remark) if remark.upstream >= self.probing.count() => {}
            ToKeeper::Odd(remark) => self.probing.tell_quirk(remark, log),
            ToKeeper::Retired { upstream, .. } if upstream >= self.probing.count() => {}
            ToKeeper::Retired { upstream, count } => {
                let due = self.retired.add(now, upstream, count);
                self.timers.set(Due::Retired(upstream), Some(due));
            }
            ToKeeper::Panicked { worker, message } => {
                self.probing.forget_reports();
                let text = format_args!("worker {worker} panicked and was restarted: {message}");
                let fields = [("worker", Value::Number(worker as u64))];
                log.event(&Event::new(Level::Error, "onward", &text).with(&fields).alone());
            }
            ToKeeper::BadHeader { peer, flaw, is_datagram: true, others } => {
                let text = format_args!(
                    "dropping invalid Proxy Protocol packet from {peer}: {flaw}; {others} others \
                     were not logged"
                );
                log.event(&Event::new(Level::Warning, "plugin/proxyproto", &text));
            }
            ToKeeper::BadHeader { peer, flaw, is_datagram: false, others } => {
                let text = format_args!(
                    "closing a connection of {peer} for its header of the PROXY protocol: {flaw}; \
                     {others} others were not logged"
                );
                log.event(&Event::new(Level::Warning, "plugin/proxyproto", &text));
            }
            ToKeeper::Flood { zone } => {
                let text = format_args!(
                    "queries for many names below {zone} wait for answers and fill the table of \
                     outstanding queries: new ones get SERVFAIL, so that others are served (not \
                     repeated for {} minutes)",
                    PLAIN_FOR.as_secs() / 60
                );
                let fields = [("zone", Value::Text(&zone))];
                log.event(&Event::new(Level::Warning, "plugin/forward", &text).with(&fields));
            }
            ToKeeper::Looping { message } => {
                log.event(&Event::new(Level::Error, "plugin/loop", &message));
            }
            ToKeeper::Limited { zones, prefix, limit } => tell_limited(&zones, prefix, limit, log),
            ToKeeper::Left => self.present -= 1,
            ToKeeper::Stop => {
                self.to_drain = (0..self.workers.len()).collect();
                self.probing.stop(now);
            }
        }
    }

    /// Sends probes and ends overdue ones, and tells every worker with a due pool to sweep it.
    fn on_time(&mut self, now: Moment, log: Log) {
        while let Some(due) = self.timers.pop(now) {
            let again = match due {
                Due::Probe(upstream) => {
                    self.probing.on_due(now, upstream, log);
                    self.probing.wake_at(upstream)
                }
                Due::Retired(upstream) => {
                    let count = self.retired.take(now, upstream);
                    self.probing.tell_retired(upstream, count, log);
                    None
                }
                Due::Sweep { worker, sweep } => {
                    let sent = self.workers[worker].send(ToWorker::Sweep(sweep));
                    sent.is_err().then(|| now.plus(RETRY))
                }
            };
            self.timers.set(due, again);
        }
    }
}

/// Logs that clients exceed a limit of the server block with these zones.
fn tell_limited(zones: &str, prefix: (IpAddr, u8), limit: &str, log: Log) {
    let text = "clients exceed a rate limit";
    let prefix = format_args!("{}/{}", prefix.0, prefix.1);
    let (prefix, limit) = (Value::Text(&prefix), Value::Text(&limit));
    let fields = [("zones", Value::Text(&zones)), ("prefix", prefix), ("limit", limit)];
    log.event(&Event::new(Level::Warning, "plugin/ratelimit", &text).with(&fields));
}

#[cfg(test)]
mod tests;
