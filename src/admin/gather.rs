//! Where the numbers come from: asked of the workers when somebody wants them.
//!
//! A worker answers at its next turn, into a channel of its own. All are asked at once and then
//! waited for, but for [`PATIENCE`] in all and no longer: of one that is late the last that it said
//! counts. Who still owes an answer is not asked again and not waited for, so workers that hang
//! cost one wait and not one each time.

use crate::clock::Clock;
use crate::control::{Mailbox, Reloads, ToWorker};
use crate::engine::stats::Stats;
use crate::moment::Moment;
use crate::status::{Status, Traffic, Worker};
use crate::sys::limits;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How long all workers together are waited for.
const PATIENCE: Duration = Duration::from_millis(25);
/// A worker that says nothing for longer does not turn.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// One worker, as seen from here.
struct Correspondent {
    mailbox: Mailbox,
    /// Where an answer will come, if one is owed.
    answers: Option<Receiver<Stats>>,
    /// When it was asked what it has not answered.
    asked: Option<Moment>,
    /// What it said last.
    stats: Stats,
}

impl Correspondent {
    /// Takes an answer that is owed and has come.
    fn take(&mut self) {
        let outcome = self.answers.as_ref().map(Receiver::try_recv);
        match outcome {
            Some(Ok(stats)) => self.answered(stats),
            // It failed with the question unread.
            Some(Err(TryRecvError::Disconnected)) => self.answers = None,
            Some(Err(TryRecvError::Empty)) | None => {}
        }
    }

    fn ask(&mut self, now: Moment) {
        let (answer, answers) = crossbeam_channel::bounded(1);
        // Where there is no room it is asked the next time.
        self.answers = self.mailbox.send(ToWorker::Report(answer)).is_ok().then_some(answers);
        self.asked = self.asked.or(Some(now));
    }

    fn answered(&mut self, stats: Stats) {
        (self.answers, self.asked, self.stats) = (None, None, stats);
    }
}

/// Who gathers what the pages show.
pub struct Gatherer {
    clock: Clock,
    workers: Vec<Correspondent>,
    reloads: Arc<Reloads>,
    /// Seconds since 1970.
    started: u32,
}

impl Gatherer {
    /// Of these workers and reloads, for a process whose `clock` began when it did.
    pub fn new(clock: Clock, workers: &[Mailbox], reloads: Arc<Reloads>) -> Self {
        let uptime = clock.now().since(Moment::ZERO).as_secs() as u32;
        let correspondent = |mailbox: &Mailbox| {
            let mailbox = mailbox.clone();
            Correspondent { mailbox, answers: None, asked: None, stats: Stats::default() }
        };
        let workers = workers.iter().map(correspondent).collect();
        Self { clock, workers, reloads, started: clock.unix().wrapping_sub(uptime) }
    }

    /// All counters, in Prometheus' text format.
    pub fn metrics(&mut self) -> Vec<u8> {
        self.gather();
        let mut text = Vec::new();
        let name = "process_start_time_seconds";
        let _ = writeln!(text, "# HELP {name} When the process began, in seconds since 1970.");
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {}", self.started);
        text
    }

    /// What is shown to people and to `onward top`.
    pub fn status(&mut self) -> Status {
        self.gather();
        let mut all = Stats::default();
        self.workers.iter().for_each(|worker| all.add(&worker.stats));
        let workers = self.workers.iter().zip(0..);
        let workers = workers.map(|(worker, number)| Worker {
            number,
            panics: worker.stats.panics,
            ..Worker::default()
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: limits::host_name(),
            now_ms: u64::from(self.clock.unix()) * 1000,
            uptime_s: self.clock.now().since(Moment::ZERO).as_secs_f64(),
            reloads: [self.reloads.done(), self.reloads.failed()],
            traffic: Traffic {
                queries: all.queries,
                replies: all.replied(),
                coalesced: all.coalesced,
                records_lost: all.errors_lost,
                ..Traffic::default()
            },
            workers: workers.collect(),
            ..Status::default()
        }
    }

    /// Does what is due by `now`.
    pub fn on_time(&mut self, _now: Moment) {}

    /// When [`Gatherer::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// Workers that do not turn.
    pub(super) fn silent(&mut self) -> impl Iterator<Item = usize> + '_ {
        self.gather();
        self.silent_at(self.clock.now())
    }

    /// Those who have owed an answer for longer than [`SILENCE_MAX`] by `now`.
    fn silent_at(&self, now: Moment) -> impl Iterator<Item = usize> + '_ {
        let is_silent = move |worker: &Correspondent| {
            worker.asked.is_some_and(|asked| now.since(asked) > SILENCE_MAX)
        };
        let workers = self.workers.iter().enumerate();
        workers.filter(move |(_, worker)| is_silent(worker)).map(|(number, _)| number)
    }

    /// Asks all workers, and waits for them a little.
    fn gather(&mut self) {
        let now = self.clock.now();
        let until = self.clock.instant(now.plus(PATIENCE));
        self.workers.iter_mut().for_each(Correspondent::take);
        let mut asked = Vec::with_capacity(self.workers.len());
        for (number, worker) in self.workers.iter_mut().enumerate() {
            if worker.answers.is_none() {
                worker.ask(now);
                asked.push(number);
            }
        }
        for number in asked {
            let worker = &mut self.workers[number];
            let Some((answers, until)) = worker.answers.as_ref().zip(until) else { continue };
            match answers.recv_deadline(until) {
                Ok(stats) => worker.answered(stats),
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
    use crate::control::{Mailbox, ToWorker};
    use crate::engine::stats::Stats;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn of_a_worker_that_is_late_counts_what_it_said_last() {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (mailbox, mail) = Mailbox::new(1, waker);
        let clock = Clock::start();
        let mut gatherer = Gatherer::new(clock, &[mailbox], Arc::default());
        assert_eq!(gatherer.status().traffic.queries, 0);
        assert_eq!(gatherer.status().traffic.queries, 0);
        let Ok(ToWorker::Report(answer)) = mail.try_recv() else { panic!("it was not asked") };
        assert!(mail.try_recv().is_err(), "it was asked twice");
        let later = clock.now().plus(SILENCE_MAX + Duration::from_secs(1));
        assert_eq!(gatherer.silent_at(clock.now()).count(), 0);
        assert_eq!(gatherer.silent_at(later).collect::<Vec<_>>(), [0]);

        answer.send(Stats { queries: 7, ..Stats::default() }).unwrap();
        assert_eq!(gatherer.status().traffic.queries, 7);
        // It fails with the question unread, and is asked again.
        drop(mail.try_recv().unwrap());
        assert_eq!(gatherer.status().traffic.queries, 7);
        assert!(matches!(mail.try_recv(), Ok(ToWorker::Report(_))));
        let metrics = String::from_utf8(gatherer.metrics()).unwrap();
        assert!(metrics.contains("\nprocess_start_time_seconds "), "{metrics}");
    }
}
