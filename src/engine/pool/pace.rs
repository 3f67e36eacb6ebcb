//! Number of outstanding queries per connection, learnt from the upstream.
//!
//! Many servers answer the queries of a connection strictly in order: one slow query delays all
//! behind it. Others close a connection after a fixed number of answers. Neither is announced, so a
//! pool begins with few queries on a TCP connection and learns three numbers: the *window*, the
//! queries that a TCP connection carries before another is taken; the *head wait*, the time that a
//! query waits behind others; and the *limit* of an upstream that closes. The window grows with
//! each timely answer on a full TCP connection and is halved when a query was stuck. Extra
//! connections and repeated queries are paid for with answers, so that their number is bounded for
//! an upstream that hangs.

use crate::moment::{Moment, nanos};
use std::time::Duration;

/// The window that a pool begins with.
const WINDOW_FIRST: u32 = 4;
/// After a query was stuck: number of timely answers on full TCP connections that widen the window
/// by one.
const WIDENING: u32 = 64;
/// Bounds of the head wait: a query is never considered stuck before the minimum, and always after
/// the maximum, however slow the upstream.
const HEAD_WAIT_MIN: Duration = Duration::from_millis(50);
const HEAD_WAIT_MAX: Duration = Duration::from_millis(500);
const HEAD_WAIT_MIN_NANOS: u64 = nanos(HEAD_WAIT_MIN);
/// Divisor of the step by which each answer moves the estimate of the usual time.
const USUAL_STEP: u64 = 16;
/// Answers per extra: a TCP connection dialled early or a query asked again.
const EXTRA_PRICE: u32 = 2;
/// Maximum number of extras that are saved up, and the number that a pool begins with.
const EXTRAS_MAX: u32 = 128;
/// Time after which the limit learnt from closed connections is forgotten.
const LIMIT_KEPT: Duration = Duration::from_secs(60);

/// Limits for an upstream that closes its connections after a few answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// Maximum number of queries on a connection at a time.
    at_once: u32,
    /// Queries per connection in total, if the last two were closed after equally many answers.
    in_all: Option<u32>,
    until: Moment,
}

/// State that one pool has learnt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// `max_inflight`, or the server's limit if that is less.
    window_max: u32,
    /// `max_inflight`.
    configured_max: u32,
    /// The server's limit.
    server_max: u32,
    window: u32,
    /// A query was stuck: the window grows slowly from now on.
    cautious: bool,
    in_time: u32,
    next_cut: Moment,
    /// Median time that the upstream takes for a query, in nanoseconds because a [`Duration`] per
    /// answer costs more; `None` before the first answer.
    usual: Option<u64>,
    /// Answers saved up for extras.
    saved: u32,
    /// Number of answers after which a connection was last closed with queries on it.
    last_end: Option<u32>,
    limit: Option<Limit>,
}

impl Pace {
    /// State before anything is known of the upstream.
    pub(super) fn new(max_inflight: usize) -> Self {
        let window_max = u32::try_from(max_inflight).unwrap_or(u32::MAX);
        Self {
            window_max,
            configured_max: window_max,
            server_max: u32::MAX,
            window: WINDOW_FIRST.min(window_max),
            cautious: false,
            in_time: 0,
            next_cut: Moment::ZERO,
            usual: None,
            saved: EXTRAS_MAX * EXTRA_PRICE,
            last_end: None,
            limit: None,
        }
    }

    /// Adopts the `max_inflight` of `new` and keeps the learnt state.
    pub(super) fn go_by(&mut self, new: &Self) {
        self.configured_max = new.configured_max;
        self.bound();
    }

    /// Respects the server's limit of requests at once on a connection.
    pub(super) fn respect(&mut self, server_max: usize) {
        self.server_max = u32::try_from(server_max).unwrap_or(u32::MAX).max(1);
        self.bound();
    }

    fn bound(&mut self) {
        self.window_max = self.configured_max.min(self.server_max);
        self.window = self.window.min(self.window_max);
    }

    /// Number of queries that a TCP connection carries before another is taken.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// The window for display, reduced to the limit of an upstream that closes.
    pub(super) fn in_flight_max(&self) -> u32 {
        self.limit.map_or(self.window, |limit| self.window.min(limit.at_once))
    }

    /// Returns the time that a query waits behind others on a TCP connection before it is asked
    /// elsewhere.
    #[inline]
    pub(super) fn head_wait(&self) -> Duration {
        match 2 * self.usual.unwrap_or_default() {
            0..=HEAD_WAIT_MIN_NANOS => HEAD_WAIT_MIN,
            twice => Duration::from_nanos(twice).min(HEAD_WAIT_MAX),
        }
    }

    /// Takes the duration of a dial, at least one round trip, as the first estimate of the usual
    /// time.
    pub(super) fn connected(&mut self, took: Duration) {
        self.usual.get_or_insert(nanos(took.min(HEAD_WAIT_MAX)));
    }

    /// Records an answer after `took` nanoseconds, the wait behind others on its TCP connection
    /// excluded. `load` counts the queries on the TCP connection, this one included; the upstream
    /// is known to work on `depth` of them besides the oldest.
    #[inline]
    pub(super) fn answered(&mut self, took: u64, load: u32, depth: u32) {
        let usual = self.usual.get_or_insert(took);
        let step = *usual / USUAL_STEP + 1_000;
        *usual = if took > *usual { *usual + step } else { usual.saturating_sub(step) };
        self.saved = (self.saved + 1).min(EXTRAS_MAX * EXTRA_PRICE);
        if load >= self.window && self.window < self.window_max {
            let in_time = took <= HEAD_WAIT_MIN_NANOS.max(*usual);
            self.widen(depth >= self.window - 1, in_time);
        }
    }

    /// Widens the window for a full TCP connection. `worked_on`: the upstream works on all of its
    /// queries at the same time; `in_time`: the answer came in time.
    fn widen(&mut self, worked_on: bool, in_time: bool) {
        self.in_time += u32::from(in_time);
        if worked_on || in_time && (!self.cautious || self.in_time >= WIDENING) {
            (self.window, self.in_time) = (self.window + 1, 0);
        }
    }

    /// Halves the window after a query was stuck; the upstream is known to work on `depth` queries
    /// besides the oldest. Acts once per head wait, because TCP connections get stuck together.
    pub(super) fn stuck(&mut self, now: Moment, depth: u32) {
        if now < self.next_cut {
            return;
        }
        self.next_cut = now.plus(self.head_wait());
        self.cautious = true;
        self.in_time = 0;
        let known = (depth + 1).min(self.window_max);
        self.window = (self.window / 2).max(known).min(self.window.max(known));
    }

    /// Pays for an extra. Returns false if too few answers are saved up.
    pub(super) fn pays(&mut self) -> bool {
        let left = self.saved.checked_sub(EXTRA_PRICE);
        left.inspect(|left| self.saved = *left).is_some()
    }

    /// Records that the upstream closed a connection after `answers` answers, at least one, since
    /// it was last idle; `cut_off`: with queries on it.
    pub(super) fn ended(&mut self, now: Moment, answers: u32, cut_off: bool) {
        if let Some(limit) = self.limit.as_mut().filter(|limit| answers == limit.at_once) {
            limit.until = now.plus(LIMIT_KEPT);
        }
        if !cut_off {
            return;
        }
        if let Some(last) = self.last_end.replace(answers) {
            let in_all = (last == answers).then_some(answers);
            let (at_once, until) = (last.min(answers), now.plus(LIMIT_KEPT));
            self.limit = Some(Limit { at_once, in_all, until });
        }
    }

    /// Returns true if the upstream is known to close its connections after a few answers.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some_and(|limit| limit.at_once < self.window_max)
    }

    /// Forgets the learnt limit if it is old.
    pub(super) fn forget_old(&mut self, now: Moment) {
        if self.limit.is_some_and(|limit| limit.until <= now) {
            self.forget_limit();
        }
    }

    /// Forgets the limit, because the upstream kept a connection open that it was expected to
    /// close.
    pub(super) fn forget_limit(&mut self) {
        (self.limit, self.last_end) = (None, None);
    }

    /// Returns true if a connection with `at_once` queries on it, and `carried` in total, takes no
    /// other because its upstream would close it.
    pub(super) fn is_at_limit(&self, at_once: u32, carried: u32) -> bool {
        let reached =
            |limit: Limit| at_once >= limit.at_once || limit.in_all.is_some_and(|n| carried >= n);
        self.limit.is_some_and(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        EXTRA_PRICE, EXTRAS_MAX, HEAD_WAIT_MAX, HEAD_WAIT_MIN, HEAD_WAIT_MIN_NANOS, LIMIT_KEPT,
        Pace, WIDENING,
    };
    use crate::moment::Moment;
    use std::time::Duration;

    const QUICK: u64 = 300_000;
    const SECOND: u64 = 1_000_000_000;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn answer(pace: &mut Pace, count: u32) {
        (0..count).for_each(|_| pace.answered(QUICK, pace.window(), 0));
    }

    #[test]
    fn the_window_widens_with_answers_on_full_connections_up_to_max_inflight() {
        let mut pace = Pace::new(32);
        assert_eq!(pace.window(), 4);
        (0..100).for_each(|_| pace.answered(QUICK, 3, 0));
        assert_eq!(pace.window(), 4, "no connection was full");
        answer(&mut pace, 27);
        assert_eq!(pace.window(), 31);
        answer(&mut pace, 100);
        assert_eq!(pace.window(), 32);
        assert_eq!(Pace::new(2).window(), 2, "max_inflight is the upper bound");
    }

    #[test]
    fn slow_answers_do_not_widen_the_window() {
        let mut pace = Pace::new(32);
        (0..10).for_each(|_| pace.answered(QUICK, 1, 0));
        pace.answered(2 * HEAD_WAIT_MIN_NANOS, 4, 0);
        assert_eq!(pace.window(), 4);
    }

    #[test]
    fn a_stuck_query_halves_the_window_once_per_head_wait_and_it_grows_slowly_then() {
        let mut pace = Pace::new(32);
        answer(&mut pace, 28);
        for ms in [0, 10, 49] {
            pace.stuck(at(ms), 0);
            assert_eq!(pace.window(), 16, "after {ms} ms");
        }
        for window in [8, 4, 2, 1, 1] {
            pace.stuck(pace.next_cut, 0);
            assert_eq!(pace.window(), window);
        }
        answer(&mut pace, WIDENING);
        assert_eq!(pace.window(), 2);
    }

    #[test]
    fn the_window_is_never_smaller_than_the_depth_shown_by_answers_out_of_order() {
        let mut pace = Pace::new(32);
        answer(&mut pace, 28);
        for _ in 0..3 {
            pace.stuck(pace.next_cut, 22);
            assert_eq!(pace.window(), 23);
        }
    }

    #[test]
    fn a_connection_worked_on_as_a_whole_widens_the_window_whatever_happened_before() {
        let mut pace = Pace::new(32);
        pace.stuck(at(0), 0);
        assert_eq!(pace.window(), 2);
        for window in 2..10 {
            pace.answered(SECOND / 2, window, window - 2);
            assert_eq!(pace.window(), window);
            pace.answered(SECOND / 2, window, window - 1);
        }
        assert_eq!(pace.window(), 10);
    }

    #[test]
    fn head_wait_follows_the_usual_time_within_bounds() {
        let mut pace = Pace::new(32);
        assert_eq!(pace.head_wait(), HEAD_WAIT_MIN);
        pace.connected(Duration::from_millis(80));
        assert_eq!(pace.head_wait(), Duration::from_millis(160));
        (0..200).for_each(|_| pace.answered(QUICK, 1, 0));
        assert_eq!(pace.head_wait(), HEAD_WAIT_MIN);
        // One slow name in four does not raise the usual time.
        for number in 0..1_000 {
            let slow = number % 4 == 0;
            pace.answered(if slow { SECOND } else { QUICK }, 1, 0);
        }
        assert_eq!(pace.head_wait(), HEAD_WAIT_MIN);
        (0..1_000).for_each(|_| pace.answered(2 * SECOND, 1, 0));
        assert_eq!(pace.head_wait(), HEAD_WAIT_MAX);
    }

    #[test]
    fn extras_are_paid_for_with_answers() {
        let mut pace = Pace::new(32);
        let spent = (0..1_000).take_while(|_| pace.pays()).count();
        assert_eq!(spent, EXTRAS_MAX as usize);
        (0..10 * EXTRA_PRICE).for_each(|_| pace.answered(QUICK, 1, 0));
        assert_eq!((0..1_000).take_while(|_| pace.pays()).count(), 10);
    }

    #[test]
    fn two_ends_after_equally_many_answers_are_a_limit_for_each_connection() {
        let mut pace = Pace::new(32);
        pace.ended(at(0), 2, true);
        assert!(!pace.is_at_limit(31, 100) && !pace.is_limited());
        pace.ended(at(1), 2, true);
        assert!(pace.is_limited());
        assert_eq!(
            [(0, 0), (1, 1), (2, 2), (0, 2)].map(|(a, b)| pace.is_at_limit(a, b)),
            [false, false, true, true]
        );
        // An expected end extends the limit.
        pace.ended(at(59_000), 2, false);
        pace.forget_old(at(60_001));
        assert!(pace.is_limited());
        pace.forget_old(at(59_000).plus(LIMIT_KEPT));
        assert!(!pace.is_limited() && !pace.is_at_limit(100, 100));
    }

    #[test]
    fn ends_after_unequal_answers_limit_what_is_on_a_connection_at_once() {
        let mut pace = Pace::new(32);
        [7, 3].iter().for_each(|answers| pace.ended(at(0), *answers, true));
        assert_eq!([(2, 100), (3, 3)].map(|(a, b)| pace.is_at_limit(a, b)), [false, true]);
        assert_eq!((pace.window(), pace.in_flight_max()), (4, 3));
        // Any server closes connections that carry no query.
        let mut pace = Pace::new(32);
        (0..5).for_each(|_| pace.ended(at(0), 1, false));
        assert!(!pace.is_limited());
    }
}
