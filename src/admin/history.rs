//! History: rates, percentiles and the last hour, from counters that only grow.
//!
//! Once a second the counters of all workers are added up to a [`Sample`]. Values of the last
//! seconds are the difference between the latest sample and one some seconds before; once a minute
//! the difference to the sample a minute ago is added to the last hour. Samples are kept in rings
//! of fixed length, and a counter that has become smaller, because it was reset, counts as
//! unchanged.

use crate::control::snapshot::Snapshot;
use crate::engine::histogram::{Latency, add_each};
use crate::engine::message::rcode::RCODES;
use crate::moment::Moment;
use crate::status::{HISTORY_MINUTES, RATE_SECONDS};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of entries of the last hour.
const MINUTE: Duration = Duration::from_secs(60);

/// Counters of one worker at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct WorkerSample {
    pub(super) queries: u64,
    pub(super) busy: Duration,
    /// Successful receive calls, and the datagrams of all of them.
    pub(super) calls: u64,
    pub(super) datagrams: u64,
}

/// Counters of all workers at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    at: Moment,
    pub(super) queries: u64,
    pub(super) rcodes: [u64; RCODES],
    pub(super) drops: Vec<u64>,
    pub(super) latency: Latency,
    /// Answers, and their latencies.
    pub(super) upstreams: BTreeMap<SocketAddr, (u64, Latency)>,
    pub(super) workers: Vec<WorkerSample>,
    /// Look-ups and hits of the caches, in order.
    pub(super) caches: Vec<(u64, u64)>,
}

impl Sample {
    /// Adds up the reports of the workers.
    pub(super) fn of(at: Moment, snapshots: &[&Snapshot]) -> Self {
        let mut sample = Self { at, ..Self::default() };
        for snapshot in snapshots {
            let (stats, loops) = (&snapshot.stats, &snapshot.loops);
            sample.queries += stats.queries;
            sample.latency.merge(&stats.latency);
            add_each(&mut sample.rcodes, &stats.replies);
            sample.drops.resize(stats.drops.len(), 0);
            add_each(&mut sample.drops, &stats.drops);
            for ((_, upstream), stats) in snapshot.config.upstreams().zip(&stats.upstreams) {
                let (answered, latency) = sample.upstreams.entry(upstream.address).or_default();
                *answered += stats.answered;
                latency.merge(&stats.latency);
            }
            let caches = stats.caches.len().max(sample.caches.len());
            sample.caches.resize(caches, (0, 0));
            for (own, cache) in sample.caches.iter_mut().zip(&stats.caches) {
                own.0 += cache.requests;
                own.1 += cache.hits.iter().sum::<u64>();
            }
            let calls = loops.queries.calls() + loops.responses.calls();
            let datagrams = loops.queries.datagrams + loops.responses.datagrams;
            let (queries, busy) = (stats.queries, loops.busy);
            sample.workers.push(WorkerSample { queries, busy, calls, datagrams });
        }
        sample
    }
}

/// Totals of one minute.
#[derive(Clone, Debug, Default)]
struct Minute {
    rate: f64,
    /// Answers.
    upstreams: BTreeMap<SocketAddr, u64>,
    answers: u64,
    /// Busy share of each worker.
    loads: Vec<f64>,
}

/// Samples of the last seconds and totals of the last hour.
#[derive(Default)]
pub(super) struct History {
    /// Samples, the latest last.
    samples: VecDeque<Sample>,
    minutes: VecDeque<Minute>,
    /// Sample at the start of the current minute.
    minute: Option<Sample>,
}

impl History {
    /// Adds a sample, later than all others.
    pub(super) fn push(&mut self, sample: Sample) {
        match &self.minute {
            None => self.minute = Some(sample.clone()),
            Some(minute) if sample.at.since(minute.at) >= MINUTE => {
                let between = Between { earlier: minute, later: &sample };
                self.minutes.push_back(between.minute());
                let surplus = self.minutes.len().saturating_sub(HISTORY_MINUTES);
                self.minutes.drain(..surplus);
                self.minute = Some(sample.clone());
            }
            Some(_) => {}
        }
        self.samples.push_back(sample);
        let surplus = self.samples.len().saturating_sub(RATE_SECONDS as usize + 1);
        self.samples.drain(..surplus);
    }

    /// Returns the totals of the last seconds. `None`: there is no sample yet.
    pub(super) fn lately(&self) -> Option<Between<'_>> {
        let (earlier, later) = (self.samples.front()?, self.samples.back()?);
        (later.at > earlier.at).then_some(Between { earlier, later })
    }

    /// Returns the rate of queries in each of the last minutes.
    pub(super) fn rates(&self) -> Vec<f64> {
        self.minutes.iter().map(|minute| minute.rate).collect()
    }

    /// Returns the share of `upstream` in all answers in each of the last minutes.
    pub(super) fn shares(&self, upstream: SocketAddr) -> Vec<Option<f64>> {
        let share = |minute: &Minute| {
            let own = minute.upstreams.get(&upstream).copied().unwrap_or(0);
            (minute.answers > 0).then(|| own as f64 / minute.answers as f64)
        };
        self.minutes.iter().map(share).collect()
    }

    /// Returns the busy share of a worker in each of the last minutes.
    pub(super) fn loads(&self, worker: usize) -> Vec<f64> {
        let load = |minute: &Minute| minute.loads.get(worker).copied().unwrap_or(0.0);
        self.minutes.iter().map(load).collect()
    }
}

/// Difference between two samples.
#[derive(Clone, Copy)]
pub(super) struct Between<'a> {
    earlier: &'a Sample,
    later: &'a Sample,
}

impl Between<'_> {
    /// Returns the rate per second of a counter.
    pub(super) fn rate(&self, count: impl Fn(&Sample) -> u64) -> f64 {
        count(self.later).saturating_sub(count(self.earlier)) as f64 / self.seconds()
    }

    /// Returns the latencies of queries.
    pub(super) fn latency(&self) -> Latency {
        self.later.latency.since(&self.earlier.latency)
    }

    /// Returns the response times of an upstream.
    pub(super) fn latency_of(&self, upstream: SocketAddr) -> Latency {
        let of = |sample: &Sample| sample.upstreams.get(&upstream).map(|known| known.1);
        let later = of(self.later).unwrap_or_default();
        later.since(&of(self.earlier).unwrap_or_default())
    }

    /// Returns the totals of a worker.
    pub(super) fn worker(&self, place: usize) -> WorkerSample {
        let of = |sample: &Sample| sample.workers.get(place).copied().unwrap_or_default();
        let (earlier, later) = (of(self.earlier), of(self.later));
        WorkerSample {
            queries: later.queries.saturating_sub(earlier.queries),
            busy: later.busy.saturating_sub(earlier.busy),
            calls: later.calls.saturating_sub(earlier.calls),
            datagrams: later.datagrams.saturating_sub(earlier.datagrams),
        }
    }

    /// Returns the busy share of a worker.
    pub(super) fn load(&self, place: usize) -> f64 {
        (self.worker(place).busy.as_secs_f64() / self.seconds()).min(1.0)
    }

    /// Returns the share of look-ups that a cache answered; `None`: there was none.
    pub(super) fn hit_ratio(&self, cache: usize) -> Option<f64> {
        let of = |sample: &Sample| sample.caches.get(cache).copied().unwrap_or_default();
        let (earlier, later) = (of(self.earlier), of(self.later));
        let requests = later.0.checked_sub(earlier.0).filter(|requests| *requests > 0)?;
        Some(later.1.saturating_sub(earlier.1) as f64 / requests as f64)
    }

    /// Returns the time between the samples.
    pub(super) fn seconds(&self) -> f64 {
        self.later.at.since(self.earlier.at).as_secs_f64()
    }

    fn minute(&self) -> Minute {
        let earlier = |upstream| self.earlier.upstreams.get(upstream).map_or(0, |known| known.0);
        let answered = self.later.upstreams.iter().map(|(upstream, (answered, _))| {
            (*upstream, answered.saturating_sub(earlier(upstream)))
        });
        let upstreams: BTreeMap<_, _> = answered.collect();
        Minute {
            rate: self.rate(|sample| sample.queries),
            answers: upstreams.values().sum(),
            upstreams,
            loads: (0..self.later.workers.len()).map(|worker| self.load(worker)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Sample, WorkerSample};
    use crate::moment::Moment;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn upstream(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number))
    }

    /// Sample after this number of seconds with a hundred queries each: three of four answers are
    /// from the first upstream, and the worker is busy for a quarter of its time.
    fn sample(seconds: u64) -> Sample {
        let mut sample = Sample {
            at: Moment::ZERO.plus(Duration::from_secs(seconds)),
            queries: 100 * seconds,
            caches: vec![(10 * seconds, 4 * seconds)],
            ..Sample::default()
        };
        let busy = Duration::from_millis(250 * seconds);
        let (queries, calls, datagrams) = (sample.queries, seconds, 8 * seconds);
        sample.workers.push(WorkerSample { queries, busy, calls, datagrams });
        for (number, answers) in [(1, 75 * seconds), (2, 25 * seconds)] {
            let (answered, latency) = sample.upstreams.entry(upstream(number)).or_default();
            *answered = answers;
            (0..answers).for_each(|_| latency.add(Duration::from_millis(number.into())));
        }
        sample
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut history = History::default();
        assert!(history.lately().is_none());
        history.push(sample(0));
        assert!(history.lately().is_none(), "one sample is no time");
        (1..=30).for_each(|seconds| history.push(sample(seconds)));
        let lately = history.lately().unwrap();
        assert_eq!((lately.seconds(), lately.rate(|sample| sample.queries)), (10.0, 100.0));
        assert_eq!((lately.load(0), lately.load(1)), (0.25, 0.0));
        assert_eq!((lately.worker(0).calls, lately.worker(0).datagrams), (10, 80));
        assert_eq!((lately.hit_ratio(0), lately.hit_ratio(1)), (Some(0.4), None));
        assert_eq!(lately.latency_of(upstream(2)).count(), 250);
    }

    #[test]
    fn an_hour_has_a_value_for_each_minute_and_no_more() {
        let mut history = History::default();
        (0..=90 * 60).for_each(|seconds| history.push(sample(seconds)));
        assert_eq!(history.rates(), [100.0; 60]);
        assert_eq!(history.shares(upstream(1)), [Some(0.75); 60]);
        assert_eq!(history.shares(upstream(9)), [Some(0.0); 60]);
        assert_eq!(history.loads(0), [0.25; 60]);
        assert_eq!(history.samples.len(), 11);
    }

    #[test]
    fn a_counter_that_was_reset_counts_as_unchanged() {
        let mut history = History::default();
        history.push(sample(5));
        history.push(Sample { queries: 3, ..sample(65) });
        assert_eq!(history.lately().unwrap().rate(|sample| sample.queries), 0.0);
        assert_eq!(history.rates(), [0.0]);
        let mut idle = History::default();
        idle.push(Sample::default());
        idle.push(Sample { at: Moment::ZERO.plus(Duration::from_secs(60)), ..Sample::default() });
        assert_eq!(idle.shares(upstream(1)), [None], "nobody answered anything");
    }
}
