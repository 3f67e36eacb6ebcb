//! Counters of a run, and their sum over threads.
//!
//! Counts are plain fields beside the histograms of latency and of lag (delay of sending). A
//! [`Series`] has the same by time: each query counts in the interval of its scheduled send time,
//! whenever its answer came, so that a stall shows where it began. Pure.

use crate::moment::{Moment, nanos};
use crate::traffic::ledger::{Answer, Verdict};
use hdrhistogram::Histogram;
use std::ops::AddAssign;
use std::time::Duration;

/// Maximum of recorded latencies; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(100);
/// Significant digits of the latencies of a whole run.
const DIGITS: u8 = 3;
/// Significant digits within an interval, in microseconds: few, because there are hundreds of them.
const STRETCH_DIGITS: u8 = 2;
/// Maximum number of intervals, more than a page can show; the last counts all later queries.
const STRETCHES_MAX: usize = 3_600;
/// Lag from which a query counts as late: a fiftieth of a noticeable delay, and more than the usual
/// interruption of a thread.
pub const LATE: Duration = Duration::from_millis(1);

/// Counters. Every query sent is answered, wrong, timed out, lost or still outstanding; other
/// messages are counted separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries handed to the kernel.
    pub sent: u64,
    /// Queries with the right response.
    pub answered: u64,
    /// Queries with a response of wrong content.
    pub wrong: u64,
    /// Queries given up at the time-out.
    pub timed_out: u64,
    /// Queries whose connection ended before the response.
    pub lost: u64,
    /// Queries outstanding when the run was aborted.
    pub unfinished: u64,
    /// Queries that were due but never sent, for lack of an ID, a connection or time.
    pub unsent: u64,
    /// Messages with the ID of an outstanding query that do not answer its question.
    pub mismatched: u64,
    /// Further responses to queries that had been answered.
    pub duplicate: u64,
    /// Responses to queries that had timed out.
    pub late: u64,
    /// Messages that belong to no query.
    pub stray: u64,
    /// Truncated responses, among those answered.
    pub truncated: u64,
    /// Responses by response code, among those answered.
    pub rcodes: [u64; 16],
    /// Queries sent more than [`LATE`] after their scheduled time.
    pub behind: u64,
    /// ICMP errors on sockets, and connections that could not be opened or failed.
    pub refused: u64,
    /// Connections opened.
    pub connects: u64,
    /// Connections that replaced an ended one.
    pub reconnects: u64,
    /// Bytes of the queries sent.
    pub bytes_sent: u64,
    /// Bytes of the messages received.
    pub bytes_received: u64,
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            sent,
            answered,
            wrong,
            timed_out,
            lost,
            unfinished,
            unsent,
            mismatched,
            duplicate,
            late,
            stray,
            truncated,
            rcodes,
            behind,
            refused,
            connects,
            reconnects,
            bytes_sent,
            bytes_received,
        } = other;
        self.sent += sent;
        self.answered += answered;
        self.wrong += wrong;
        self.timed_out += timed_out;
        self.lost += lost;
        self.unfinished += unfinished;
        self.unsent += unsent;
        self.mismatched += mismatched;
        self.duplicate += duplicate;
        self.late += late;
        self.stray += stray;
        self.truncated += truncated;
        self.rcodes.iter_mut().zip(rcodes).for_each(|(mine, theirs)| *mine += theirs);
        self.behind += behind;
        self.refused += refused;
        self.connects += connects;
        self.reconnects += reconnects;
        self.bytes_sent += bytes_sent;
        self.bytes_received += bytes_received;
    }
}

impl Counts {
    /// Returns the number of sent queries without a right answer.
    pub fn failed(&self) -> u64 {
        self.wrong + self.timed_out + self.lost + self.unfinished
    }
}

/// One interval of a run.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Number of queries scheduled in it and sent.
    pub sent: u64,
    /// Number of queries with a response.
    pub answered: u64,
    /// Number of queries without a response.
    pub failed: u64,
    /// Latencies of these queries, in microseconds.
    pub latency: Histogram<u32>,
}

impl Stretch {
    fn new() -> Self {
        let micros = nanos(LATENCY_MAX) / 1_000;
        let latency = Histogram::new_with_bounds(1, micros, STRETCH_DIGITS)
            .expect("the bounds are constants in range");
        Self { sent: 0, answered: 0, failed: 0, latency }
    }
}

/// Counters of a run by time, from its start.
#[derive(Clone, Debug)]
pub struct Series {
    /// Length of an interval.
    pub width: Duration,
    /// Consecutive intervals.
    pub stretches: Vec<Stretch>,
    /// The interval used last, with its begin and end in nanoseconds: it is mostly the next one
    /// too, and a comparison costs less than a division.
    last: (usize, u64, u64),
}

impl Series {
    /// Creates an empty series of intervals of `width`, with memory for a run of `length`.
    pub(crate) fn new(width: Duration, length: Duration) -> Self {
        let count = (nanos(length) / nanos(width).max(1)) as usize + 1;
        let stretches = vec![Stretch::new(); count.min(STRETCHES_MAX)];
        Self { width, stretches, last: (0, 0, 0) }
    }

    fn at(&mut self, intended: Moment) -> &mut Stretch {
        let (at, width) = (intended.as_nanos(), nanos(self.width));
        if !(self.last.1..self.last.2).contains(&at) {
            let number = at / width;
            let index = (number as usize).min(STRETCHES_MAX - 1);
            self.last = (index, number * width, (number + 1) * width);
        }
        let index = self.last.0;
        while self.stretches.len() <= index {
            self.stretches.push(Stretch::new());
        }
        &mut self.stretches[index]
    }

    fn absorb(&mut self, other: &Self) {
        while self.stretches.len() < other.stretches.len() {
            self.stretches.push(Stretch::new());
        }
        for (mine, theirs) in self.stretches.iter_mut().zip(&other.stretches) {
            mine.sent += theirs.sent;
            mine.answered += theirs.answered;
            mine.failed += theirs.failed;
            mine.latency.add(&theirs.latency).expect("all have the same bounds");
        }
    }
}

/// All counters of a run. All moments are counted from the start of the run.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Counters.
    pub counts: Counts,
    /// Times from scheduled sending to response, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Times from scheduled to actual sending, in nanoseconds.
    pub lag: Histogram<u64>,
    /// Counters by time.
    pub series: Series,
    /// Time of the first and of the last query.
    pub sending: Option<(Moment, Moment)>,
    /// Time of the last response.
    pub(crate) last_response: Moment,
}

impl Tally {
    /// Creates empty counters; a run of `length` is divided into intervals of `width`.
    pub fn new(width: Duration, length: Duration) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, nanos(LATENCY_MAX), DIGITS)
                .expect("the bounds are constants in range")
        };
        Self {
            counts: Counts::default(),
            latency: histogram(),
            lag: histogram(),
            series: Series::new(width, length),
            sending: None,
            last_response: Moment::ZERO,
        }
    }

    /// Counts `count` queries of `bytes` bytes, scheduled for `intended` and sent `now`.
    pub fn note_sent(&mut self, intended: Moment, now: Moment, count: u64, bytes: u64) {
        self.counts.sent += count;
        self.counts.bytes_sent += bytes;
        let lag = now.since(intended);
        if lag > LATE {
            self.counts.behind += count;
        }
        self.lag.saturating_record_n(nanos(lag), count);
        self.series.at(intended).sent += count;
        let first = self.sending.map_or(now, |(first, _)| first);
        self.sending = Some((first, now));
    }

    /// Counts a message of `length` bytes, received `now`.
    pub fn note_message(&mut self, verdict: Verdict, now: Moment, length: usize) {
        let counts = &mut self.counts;
        counts.bytes_received += length as u64;
        match verdict {
            Verdict::Answered(answer) => self.note_answer(answer, now),
            Verdict::Wrong(answer) => {
                counts.wrong += 1;
                self.series.at(answer.intended).failed += 1;
                self.last_response = now;
            }
            Verdict::Mismatched => counts.mismatched += 1,
            Verdict::Duplicate => counts.duplicate += 1,
            Verdict::Late => counts.late += 1,
            Verdict::Stray => counts.stray += 1,
        }
    }

    fn note_answer(&mut self, answer: Answer, now: Moment) {
        self.counts.answered += 1;
        self.counts.truncated += u64::from(answer.truncated);
        self.counts.rcodes[usize::from(answer.rcode & 15)] += 1;
        let latency = nanos(now.since(answer.intended));
        self.latency.saturating_record(latency);
        let stretch = self.series.at(answer.intended);
        stretch.answered += 1;
        stretch.latency.saturating_record((latency / 1_000).max(1));
        self.last_response = now;
    }

    /// Counts a query scheduled for `intended` that has timed out.
    pub fn note_timed_out(&mut self, intended: Moment) {
        self.counts.timed_out += 1;
        self.series.at(intended).failed += 1;
    }

    /// Counts a query scheduled for `intended` that was lost with its connection.
    pub(crate) fn note_lost(&mut self, intended: Moment) {
        self.counts.lost += 1;
        self.series.at(intended).failed += 1;
    }

    /// Counts a query scheduled for `intended` that is given up because the run ends.
    pub(crate) fn note_unfinished(&mut self, intended: Moment) {
        self.counts.unfinished += 1;
        self.series.at(intended).failed += 1;
    }

    /// Adds the counters of another thread of the same run.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.counts += &other.counts;
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.lag.add(&other.lag).expect("all have the same bounds");
        self.series.absorb(&other.series);
        self.sending = match (self.sending, other.sending) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (mine, theirs) => mine.or(theirs),
        };
        self.last_response = self.last_response.max(other.last_response);
    }

    /// Returns the time from the first query to the last, or to the last response if that is later.
    pub fn elapsed(&self) -> Duration {
        let end = |last: Moment| last.max(self.last_response);
        self.sending.map_or(Duration::ZERO, |(first, last)| end(last).since(first))
    }

    /// Returns the queries sent per second, between the first and the last.
    pub fn rate_sent(&self) -> f64 {
        let Some((first, last)) = self.sending else { return 0.0 };
        let seconds = last.since(first).as_secs_f64();
        if seconds > 0.0 { (self.counts.sent - 1) as f64 / seconds } else { 0.0 }
    }

    /// Returns the answers per second, until the last one.
    pub fn rate_answered(&self) -> f64 {
        let Some((first, _)) = self.sending else { return 0.0 };
        let seconds = self.last_response.since(first).as_secs_f64();
        if seconds > 0.0 { self.counts.answered as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{LATE, Tally};
    use crate::moment::Moment;
    use crate::traffic::ledger::{Answer, Verdict};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn answer(intended: u64) -> Verdict {
        let (intended, sent) = (at(intended), at(intended));
        Verdict::Answered(Answer { intended, sent, rcode: 3, truncated: true })
    }

    #[test]
    fn latency_is_counted_from_the_intended_instant_and_belongs_there() {
        let mut tally = Tally::new(SECOND, 2 * SECOND);
        tally.note_sent(at(500), at(1_700), 1, 40);
        tally.note_message(answer(500), at(2_500), 56);
        assert_eq!(tally.counts.behind, 1, "it left more than {LATE:?} late");
        assert_eq!(tally.latency.max() / 10_000_000, 200);
        assert_eq!(tally.lag.max() / 10_000_000, 120);
        let first = &tally.series.stretches[0];
        assert_eq!((first.sent, first.answered, first.failed), (1, 1, 0));
        assert_eq!(first.latency.max() / 100_000, 20);
        assert_eq!((tally.counts.rcodes[3], tally.counts.truncated), (1, 1));
        assert_eq!(tally.elapsed(), Duration::from_millis(800));
    }

    #[test]
    fn rates_are_those_between_the_first_and_the_last() {
        let mut tally = Tally::new(SECOND, SECOND);
        assert_eq!((tally.rate_sent(), tally.rate_answered()), (0.0, 0.0));
        for millis in [100, 200, 300, 400, 500] {
            tally.note_sent(at(millis), at(millis), 1, 40);
            tally.note_message(answer(millis), at(millis + 100), 40);
        }
        assert_eq!((tally.rate_sent(), tally.rate_answered()), (10.0, 10.0));
    }

    #[test]
    fn threads_add_up() {
        let mut sum = Tally::new(SECOND, SECOND);
        for part in 0..3 {
            let mut tally = Tally::new(SECOND, SECOND);
            tally.note_sent(at(part), at(part), 1, 40);
            tally.note_message(answer(part), at(10 + part), 40);
            tally.note_sent(at(5_000), at(5_000), 1, 40);
            tally.note_timed_out(at(5_000));
            tally.note_message(Verdict::Stray, at(6_000), 1);
            sum.absorb(&tally);
        }
        assert_eq!((sum.counts.sent, sum.counts.answered, sum.counts.failed()), (6, 3, 3));
        assert_eq!((sum.latency.len(), sum.counts.stray), (3, 3));
        assert_eq!(sum.sending, Some((at(0), at(5_000))));
        assert_eq!((sum.series.stretches.len(), sum.series.stretches[5].failed), (6, 3));
        assert_eq!(sum.last_response, at(12));
    }
}
