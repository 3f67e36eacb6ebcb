//! Collection of the workers' counters on request.
//!
//! A worker answers in its next turn, into a channel of its own. All are asked at once and then
//! waited for, `TIMEOUT` in total: for a late worker the last report is used. A worker with an
//! outstanding request is neither asked again nor waited for, so workers that hang cost one wait
//! and not one for each request.

use super::history::{History, SAMPLE_INTERVAL, Sample};
use super::metrics::{self, Facts};
use super::summary;
use crate::clock::Clock;
use crate::control::snapshot::{Seen, Snapshot};
use crate::control::{Loads, Mailbox, Reloads, ToWorker};
use crate::moment::Moment;
use crate::status::Status;
use crate::sys::limits;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::Arc;
use std::time::Duration;

/// Maximum wait for all workers together.
const TIMEOUT: Duration = Duration::from_millis(25);
/// Interval of resetting the most frequent keys; the current and the previous period are shown.
const SEEN_PERIOD: Duration = Duration::from_secs(60);
/// Time without an answer after which a worker counts as hanging.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// One worker, as seen from here.
struct Correspondent {
    mailbox: Mailbox,
    /// Receiver of the worker's answer, if one is outstanding.
    answers: Option<Receiver<Box<Snapshot>>>,
    /// Time of the outstanding request.
    asked: Option<Moment>,
    /// The outstanding request resets the most frequent keys.
    forgets: bool,
    /// Latest report of the worker.
    latest: Option<Box<Snapshot>>,
    /// Most frequent keys of the previous period.
    seen: Option<Seen>,
}

impl Correspondent {
    fn new(mailbox: Mailbox) -> Self {
        Self { mailbox, answers: None, asked: None, forgets: false, latest: None, seen: None }
    }

    /// Takes an outstanding answer if it has arrived.
    fn take(&mut self) {
        let outcome = self.answers.as_ref().map(Receiver::try_recv);
        match outcome {
            Some(Ok(snapshot)) => self.answered(snapshot),
            // The worker panicked with the request unread.
            Some(Err(TryRecvError::Disconnected)) => self.answers = None,
            Some(Err(TryRecvError::Empty)) | None => {}
        }
    }

    fn ask(&mut self, now: Moment, forget: bool) {
        let (to, answers) = crossbeam_channel::bounded(1);
        // If the mailbox is full, the next request asks again.
        let asked = self.mailbox.send(ToWorker::Report { to, forget });
        self.answers = asked.is_ok().then_some(answers);
        (self.asked, self.forgets) = (self.asked.or(Some(now)), forget);
    }

    fn answered(&mut self, mut snapshot: Box<Snapshot>) {
        if self.forgets {
            self.seen = snapshot.seen.take();
        }
        (self.answers, self.asked, self.latest) = (None, None, Some(snapshot));
    }
}

/// Collector of the numbers that the endpoints show.
pub(crate) struct Gatherer {
    clock: Clock,
    workers: Vec<Correspondent>,
    reloads: Arc<Reloads>,
    loads: Arc<Loads>,
    /// Start time of the process, in seconds since 1970.
    started: f64,
    history: History,
    /// Time of the next sample; `None`: the history is off.
    sample_at: Option<Moment>,
    /// Start of the current and of the previous period of the most frequent keys.
    seen_since: [Moment; 2],
}

impl Gatherer {
    /// Creates a collector for these workers, reloads and sources; `clock` began with the process.
    pub(crate) fn new(
        clock: Clock,
        workers: &[Mailbox],
        reloads: Arc<Reloads>,
        loads: Arc<Loads>,
    ) -> Self {
        let now = clock.now();
        let uptime = now.since(Moment::ZERO).as_secs_f64();
        Self {
            clock,
            workers: workers.iter().cloned().map(Correspondent::new).collect(),
            reloads,
            loads,
            started: f64::from(clock.unix()) - uptime.floor(),
            history: History::default(),
            sample_at: None,
            seen_since: [now; 2],
        }
    }

    /// Turns the history on or off; it takes a sample every second.
    pub(super) fn watch(&mut self, wanted: bool) {
        let now = self.clock.now();
        match (wanted, self.sample_at) {
            (true, None) => (self.sample_at, self.seen_since) = (Some(now), [now; 2]),
            (false, Some(_)) => (self.sample_at, self.history) = (None, History::default()),
            _ => {}
        }
    }

    /// Returns the states of all data sources.
    pub(super) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Returns all counters in Prometheus' text format.
    pub(crate) fn metrics(&mut self) -> Vec<u8> {
        self.gather(false);
        metrics::text(&self.latest(), &self.facts(), &self.loads)
    }

    /// Returns the status for the status page and `onward top`.
    pub(crate) fn status(&mut self) -> Status {
        self.gather(false);
        let now = self.clock.now();
        let latest = self.latest();
        let [since, before] = self.seen_since.map(|since| now.since(since));
        let present = latest.iter().filter_map(|snapshot| snapshot.seen.as_ref());
        let former = self.workers.iter().filter_map(|worker| worker.seen.as_ref());
        let seen = present.map(|seen| (seen, since)).chain(former.map(|seen| (seen, before)));
        Status {
            host: limits::host_name(),
            now_ms: u64::from(self.clock.unix()) * 1000,
            uptime_s: now.since(Moment::ZERO).as_secs_f64(),
            hosts: summary::hosts(&self.loads.states()),
            ..summary::status(&latest, &self.history, &seen.collect::<Vec<_>>(), &self.facts())
        }
    }

    /// Returns the latest report of each worker.
    fn latest(&self) -> Vec<&Snapshot> {
        self.workers.iter().filter_map(|worker| worker.latest.as_deref()).collect()
    }

    fn facts(&self) -> Facts {
        let reloads = [self.reloads.done(), self.reloads.failed()];
        Facts { started: self.started, reloads, given_up: self.reloads.given_up() }
    }

    /// Does everything due by `now`.
    pub(crate) fn on_time(&mut self, now: Moment) {
        if self.sample_at.is_none_or(|due| due > now) {
            return;
        }
        let forget = now.since(self.seen_since[0]) >= SEEN_PERIOD;
        if forget {
            self.seen_since = [now, self.seen_since[0]];
        }
        self.gather(forget);
        let sample = Sample::of(now, &self.latest());
        self.history.push(sample);
        self.sample_at = Some(now.plus(SAMPLE_INTERVAL));
    }

    /// Returns the time of the next call of [`Gatherer::on_time`].
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.sample_at
    }

    /// Returns the workers that do not respond.
    pub(super) fn silent(&mut self) -> impl Iterator<Item = usize> + '_ {
        self.gather(false);
        self.silent_at(self.clock.now())
    }

    /// Returns the workers whose answer is outstanding for longer than [`SILENCE_MAX`] at `now`.
    fn silent_at(&self, now: Moment) -> impl Iterator<Item = usize> + '_ {
        let is_silent = move |worker: &Correspondent| {
            worker.asked.is_some_and(|asked| now.since(asked) > SILENCE_MAX)
        };
        let workers = self.workers.iter().enumerate();
        workers.filter(move |(_, worker)| is_silent(worker)).map(|(number, _)| number)
    }

    /// Asks all workers, and waits for them a little. `forget`: they reset their most frequent keys
    /// afterwards, except those with an outstanding answer.
    fn gather(&mut self, forget: bool) {
        let now = self.clock.now();
        let until = self.clock.instant(now.plus(TIMEOUT));
        self.workers.iter_mut().for_each(Correspondent::take);
        let mut asked = Vec::with_capacity(self.workers.len());
        for (number, worker) in self.workers.iter_mut().enumerate() {
            if worker.answers.is_none() {
                worker.ask(now, forget);
                asked.push(number);
            }
        }
        for number in asked {
            let worker = &mut self.workers[number];
            let Some((answers, until)) = worker.answers.as_ref().zip(until) else { continue };
            match answers.recv_deadline(until) {
                Ok(snapshot) => worker.answered(snapshot),
                Err(RecvTimeoutError::Disconnected) => worker.answers = None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gatherer, SILENCE_MAX};
    use crate::clock::Clock;
    use crate::control::snapshot::Snapshot;
    use crate::control::{Mailbox, ToWorker};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_last_report_of_a_late_worker_is_used() {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (mailbox, mail) = Mailbox::new(1, waker);
        let clock = Clock::start();
        let mut gatherer = Gatherer::new(clock, &[mailbox], Arc::default(), Arc::default());
        assert_eq!(gatherer.status().traffic.queries, 0);
        assert_eq!(gatherer.status().traffic.queries, 0);
        let Ok(ToWorker::Report { to, forget: false }) = mail.try_recv() else {
            panic!("it was not asked")
        };
        assert!(mail.try_recv().is_err(), "it was asked twice");
        let later = clock.now().plus(SILENCE_MAX + Duration::from_secs(1));
        assert_eq!(gatherer.silent_at(clock.now()).count(), 0);
        assert_eq!(gatherer.silent_at(later).collect::<Vec<_>>(), [0]);

        let mut snapshot = Snapshot::of(0, ". {\n any\n}\n");
        snapshot.stats.queries = 7;
        to.send(Box::new(snapshot)).unwrap();
        assert_eq!(gatherer.status().traffic.queries, 7);
        // The worker panics with the request unread, and is asked again.
        drop(mail.try_recv().unwrap());
        assert_eq!(gatherer.status().traffic.queries, 7);
        assert!(matches!(mail.try_recv(), Ok(ToWorker::Report { .. })));
        let metrics = String::from_utf8(gatherer.metrics()).unwrap();
        assert!(metrics.contains("\nprocess_start_time_seconds "), "{metrics}");
    }
}
