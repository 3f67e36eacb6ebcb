//! Trust: detection of connections that lead to a failed backend.
//!
//! Behind a virtual address connection tracking pins each source port to one backend. When a
//! backend fails, the connections pinned to it time out and are closed, so the remaining ones are
//! pinned to the others; as rotation keeps them busy, a backend that has recovered gets no query
//! until they age. So after a *trouble* all connections dialled before are renewed once. `Trust`
//! decides when; the pool does it when such a connection would be taken next. Pure integer
//! arithmetic, constant space, a few steps per outcome.
//!
//! The unit is an *outcome*: a connection that came back with its answers, or one that was closed
//! because of a time-out or a socket error. Connections are counted, not queries: even loss hits
//! queries, a failed backend hits connections. A trouble begins when within one to two seconds at
//! least two connections and a twelfth of the pool failed, at four times the usual rate here: a
//! lone time-out is none. It lasts as long as an eighth of the *newcomers*, connections on their
//! first query, fails.
//!
//! During a trouble one connection each [`STEP`] is renewed as a test (a *scout*), and when
//! [`STREAK`] of them in a row were answered before the next one left, the pool is renewed: a
//! *round*. The first round is made at once, since the trouble may be over already, and more follow
//! in the quiet after it, because a tracker that moves flows hides the return of a backend: at
//! growing intervals, which stay even for a minute if newcomers had failed, so that a failed
//! backend is certain. Renewals are paid for: see [`PRICE`].

use crate::moment::Moment;
use std::time::Duration;

/// Length of a window; outcomes of the current and the previous one count together.
const WINDOW: Duration = Duration::from_secs(1);
/// Number of outcomes after which earlier ones count half.
const USUAL_MAX: u32 = 8_192;
/// Initial estimate: one in sixteen fails, with little weight.
const USUAL_FIRST: Outcomes = Outcomes { answered: 240, failed: 16 };
/// A trouble needs `FAILED_MIN` failures plus one per [`FAILED_SHARE`] connections of the pool.
const FAILED_MIN: u32 = 2;
const FAILED_SHARE: u32 = 12;
/// Factor over the usual rate of failures from which on they are a trouble.
const BURST: u64 = 4;
/// Newcomers are bad if one in this many, and at least the minimum, fails: more than even loss on a
/// usable network.
const NEWCOMERS_SHARE: u32 = 8;
const NEWCOMERS_MIN: u32 = 3;
/// Interval over which the rate of renewals is bounded.
const STEP: Duration = Duration::from_millis(100);
/// Divisor of the pool's size: maximum of renewals per step, but at least one connection.
const STEP_SHARE: usize = 8;
/// Answered scouts in a row that end a trouble. With one in three dead: wrong once a minute.
const STREAK: u32 = 16;
/// Time for which scouts continue after the last bad new connection, besides the time that a query
/// waits.
const SCOUTS: Duration = Duration::from_secs(2);
/// Maximum duration of a trouble's scouts: a longer failure is permanent.
const FRESH: Duration = Duration::from_secs(60);
/// Quiet between rounds in that time: with the second that a round takes, a backend that recovers
/// unnoticed has its share within three. Afterwards it doubles until it would exceed `QUIET_MAX`.
const QUIET: Duration = Duration::from_millis(1_500);
const QUIET_MAX: Duration = Duration::from_secs(30);
/// In larger pools of TCP rounds grow rarer at once, because ports would run out.
const PERSISTENT_TCP_MAX: usize = 64;
/// Price of a replacement in outcomes: less than one dial in a hundred queries, or less than one in
/// sixteen in a certain trouble.
const PRICE: i64 = 128;
const PRICE_IN_TROUBLE: i64 = 16;
/// Maximum number of renewals of the whole pool that it can save up, or owe after a failure.
const SAVED_MAX: i64 = 2;
const DEBT_MAX: i64 = 8;
/// Minimum time between the beginnings of two renewals of all connections by `rebalance`.
const BALANCE_PAUSE: Duration = Duration::from_secs(10);

/// Settings of trust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustSettings {
    /// Time that a query waits for its answer; `None`: distrust is off.
    pub(crate) distrust: Option<Duration>,
    /// Old connections are renewed as traffic pays for it, troubles or not.
    pub(crate) rebalance: bool,
}

/// Numbers of outcomes by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    answered: u32,
    failed: u32,
}

impl Outcomes {
    fn all(self) -> u32 {
        self.answered + self.failed
    }
}

/// Outcomes of one window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    all: Outcomes,
    /// Outcomes of connections that had carried no query before.
    newcomers: Outcomes,
}

/// Reason why a connection is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replacement {
    /// The connection is doubted, and a new one serves as well.
    Distrusted,
    /// As `Distrusted`; the pool reports the new connection to [`Trust::sent_scout`].
    Scout,
    /// The connection is old, and `rebalance` is on.
    Rebalanced,
}

/// A trouble, from its beginning to the last round.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    scouts_until: Moment,
    fresh_until: Moment,
    next_scout: Moment,
    streak: u32,
    /// Newcomers have failed since the last round.
    lost: bool,
    /// Newcomers have failed at least once, so a backend is certain to have failed.
    certain: bool,
    next_round: Moment,
    quiet: Duration,
}

/// The state of one pool.
#[derive(Debug)]
pub(super) struct Trust<Scout> {
    settings: TrustSettings,
    /// Rounds may stay frequent.
    persists: bool,
    /// Price of renewing the whole pool.
    whole: i64,
    savings: i64,
    window_ends: Moment,
    window: Window,
    before: Window,
    usual: Outcomes,
    /// Connections dialled earlier are to be renewed.
    renew_before: Moment,
    trouble: Option<Trouble>,
    /// Connection that was dialled last as a test.
    scout: Option<Scout>,
    step_ends: Moment,
    step_left: usize,
    /// Connections dialled before this time are renewed for balance; `young`: number of those in a
    /// row that were dialled later.
    balance_before: Moment,
    young: u32,
}

impl<Scout: Copy> Trust<Scout> {
    /// Trust for a pool that holds `spread` connections; `tcp`: each costs a handshake, and its
    /// port for a minute after its end.
    pub(super) fn new(settings: TrustSettings, spread: usize, tcp: bool) -> Self {
        let persists = !tcp || spread <= PERSISTENT_TCP_MAX;
        let whole = PRICE * spread.max(1) as i64;
        Self {
            settings,
            persists,
            whole,
            savings: whole,
            window_ends: Moment::ZERO,
            window: Window::default(),
            before: Window::default(),
            usual: USUAL_FIRST,
            renew_before: Moment::ZERO,
            trouble: None,
            scout: None,
            step_ends: Moment::ZERO,
            step_left: 0,
            balance_before: Moment::ZERO,
            young: 0,
        }
    }

    /// Adopts the settings of `new` and keeps the learnt state.
    pub(super) fn go_by(&mut self, new: &Self) {
        self.settings = new.settings;
        (self.persists, self.whole) = (new.persists, new.whole);
        let whole = self.whole;
        self.savings = self.savings.clamp(-DEBT_MAX * whole, SAVED_MAX * whole);
        if self.settings.distrust.is_none() {
            (self.trouble, self.renew_before) = (None, Moment::ZERO);
        }
    }

    /// Records a connection that came back with its answers; `newcomer`: for the first time.
    pub(super) fn answered(&mut self, now: Moment, newcomer: bool) {
        if self.window_ends <= now {
            self.roll(now);
        }
        self.window.all.answered += 1;
        self.window.newcomers.answered += u32::from(newcomer);
        self.savings = (self.savings + 1).min(SAVED_MAX * self.whole);
    }

    /// Records a connection that was closed after a time-out or a socket error. `size`: number of
    /// connections of the pool.
    pub(super) fn failed(&mut self, now: Moment, newcomer: bool, size: usize) {
        let Some(timeout) = self.settings.distrust else { return };
        if self.window_ends <= now {
            self.roll(now);
        }
        self.window.all.failed += 1;
        self.window.newcomers.failed += u32::from(newcomer);
        if self.trouble.is_none() {
            return self.begin(now, timeout, size);
        }
        let newcomers = sum(self.before.newcomers, self.window.newcomers);
        let bad = newcomers.failed >= NEWCOMERS_MIN
            && newcomers.failed * NEWCOMERS_SHARE >= newcomers.all();
        let Some(trouble) = self.trouble.as_mut() else { return };
        if newcomer && bad && now < trouble.fresh_until {
            (trouble.lost, trouble.certain) = (true, self.persists);
            trouble.scouts_until = now.plus(timeout + SCOUTS).min(trouble.fresh_until);
            trouble.next_round = now.plus(timeout + QUIET);
        }
    }

    /// Returns the kind of replacement if the connection dialled at `dialled_at`, which would be
    /// taken next, is to be replaced. `size`: number of connections of the pool; `answered` returns
    /// true if the scout still exists and was answered.
    #[inline]
    pub(super) fn replaces(
        &mut self,
        now: Moment,
        dialled_at: Moment,
        size: usize,
        answered: impl Fn(Scout) -> bool,
    ) -> Option<Replacement> {
        if self.trouble.is_none() && self.renew_before <= dialled_at && !self.settings.rebalance {
            return None;
        }
        self.decide(now, dialled_at, size, answered)
    }

    #[inline(never)]
    fn decide(
        &mut self,
        now: Moment,
        dialled_at: Moment,
        size: usize,
        answered: impl Fn(Scout) -> bool,
    ) -> Option<Replacement> {
        let scouts = self.go_on(now, answered);
        let replacement = if scouts {
            Replacement::Scout
        } else if dialled_at < self.renew_before {
            Replacement::Distrusted
        } else if self.settings.rebalance && self.balances(now, dialled_at, size) {
            Replacement::Rebalanced
        } else {
            return None;
        };
        if self.step_ends <= now {
            (self.step_ends, self.step_left) = (now.plus(STEP), (size / STEP_SHARE).max(1));
        }
        let certain = self.trouble.as_ref().is_some_and(|trouble| trouble.certain);
        let price = if certain { PRICE_IN_TROUBLE } else { PRICE };
        if self.savings - price < -DEBT_MAX * self.whole {
            return None;
        }
        self.step_left = self.step_left.checked_sub(1)?;
        self.savings -= price;
        Some(replacement)
    }

    /// Records the connection that was dialled as a scout.
    pub(super) fn sent_scout(&mut self, scout: Scout) {
        self.scout = Some(scout);
    }

    /// Returns true if the connection dialled at `dialled_at` is renewed for balance. Each is
    /// renewed once before any is renewed twice.
    fn balances(&mut self, now: Moment, dialled_at: Moment, size: usize) -> bool {
        if dialled_at < self.balance_before {
            self.young = 0;
            return self.savings >= self.whole + PRICE;
        }
        self.young = self.young.saturating_add(1);
        if self.young as usize >= size && self.balance_before.plus(BALANCE_PAUSE) <= now {
            (self.balance_before, self.young) = (now, 0);
        }
        false
    }

    fn begin(&mut self, now: Moment, timeout: Duration, size: usize) {
        let late = sum(self.before.all, self.window.all);
        let many = late.failed >= FAILED_MIN + size as u32 / FAILED_SHARE;
        let unusual = u64::from(late.failed) * u64::from(self.usual.all())
            >= BURST * u64::from(late.all()) * u64::from(self.usual.failed);
        if !many || !unusual || self.savings < self.whole {
            return;
        }
        self.trouble = Some(Trouble {
            scouts_until: now.plus(timeout + SCOUTS),
            fresh_until: now.plus(FRESH),
            next_scout: now,
            streak: 0,
            lost: false,
            certain: false,
            next_round: now.plus(timeout + QUIET),
            quiet: QUIET,
        });
        self.scout = None;
        self.renew_before = now;
    }

    /// Advances a trouble, if there is one. Returns true if a scout is due.
    fn go_on(&mut self, now: Moment, answered: impl Fn(Scout) -> bool) -> bool {
        let Some(trouble) = &mut self.trouble else { return false };
        if trouble.next_round <= now {
            self.renew_before = now;
            trouble.lost = false;
            if !trouble.certain || trouble.fresh_until <= now {
                trouble.quiet *= 2;
            }
            trouble.next_round = now.plus(trouble.quiet);
            if trouble.quiet > QUIET_MAX {
                self.trouble = None;
            }
            return false;
        }
        if now < trouble.next_scout || trouble.scouts_until <= now {
            return false;
        }
        trouble.next_scout = now.plus(STEP);
        let well = self.scout.take().is_some_and(answered);
        trouble.streak = if well { trouble.streak + 1 } else { 0 };
        if trouble.lost && trouble.streak >= STREAK {
            (trouble.lost, trouble.streak) = (false, 0);
            self.renew_before = now;
        }
        true
    }

    /// Begins a new window. The one before the last is added to the usual rate, unless there is a
    /// trouble.
    #[cold]
    fn roll(&mut self, now: Moment) {
        let next = self.window_ends.plus(WINDOW) > now;
        let (window, before) = (std::mem::take(&mut self.window), self.before);
        self.before = if next { window } else { Window::default() };
        self.window_ends = now.plus(WINDOW);
        if self.trouble.is_none() {
            self.usual = sum(self.usual, before.all);
            if !next {
                self.usual = sum(self.usual, window.all);
            }
            while self.usual.all() > USUAL_MAX {
                self.usual.answered /= 2;
                self.usual.failed /= 2;
            }
        }
    }
}

fn sum(one: Outcomes, other: Outcomes) -> Outcomes {
    Outcomes {
        answered: one.answered.saturating_add(other.answered),
        failed: one.failed.saturating_add(other.failed),
    }
}

#[cfg(test)]
mod tests {
    use super::{DEBT_MAX, PRICE, PRICE_IN_TROUBLE, Replacement, STREAK, Trust, TrustSettings};
    use crate::moment::Moment;
    use std::time::Duration;

    const SIZE: usize = 32;
    const TIMEOUT: Duration = Duration::from_secs(2);
    const ON: TrustSettings = TrustSettings { distrust: Some(TIMEOUT), rebalance: false };
    const OLD: Moment = Moment::ZERO;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    /// A pool that has answered well for ten seconds, a thousand times a second.
    fn proven(settings: TrustSettings) -> Trust<u32> {
        let mut trust = Trust::new(settings, SIZE, false);
        (0..10_000).for_each(|ms| trust.answered(at(ms), false));
        trust
    }

    fn burst(trust: &mut Trust<u32>, now: Moment) {
        (0..SIZE / 3).for_each(|_| trust.failed(now, false, SIZE));
    }

    /// Returns the number of `count` old connections that are renewed now, scouts excluded.
    fn renewed(trust: &mut Trust<u32>, now: Moment, count: usize) -> usize {
        let mut replaces = || trust.replaces(now, OLD, SIZE, |_| false);
        (0..count).filter(|_| replaces() == Some(Replacement::Distrusted)).count()
    }

    #[test]
    fn a_lone_failure_is_no_trouble_and_a_burst_is() {
        let mut trust = proven(ON);
        trust.failed(at(10_000), false, SIZE);
        assert_eq!(trust.replaces(at(10_000), OLD, SIZE, |_| false), None);
        burst(&mut trust, at(10_100));
        assert!(trust.replaces(at(10_100), OLD, SIZE, |_| false).is_some());
    }

    #[test]
    fn failures_as_usual_are_no_trouble_however_many() {
        let mut trust = Trust::<u32>::new(ON, SIZE, false);
        for ms in 0..100_000 {
            match ms % 20 {
                0 => trust.failed(at(ms), ms % 100 == 0, SIZE),
                _ => trust.answered(at(ms), false),
            }
            assert_eq!(trust.replaces(at(ms), OLD, SIZE, |_| false), None, "after {ms} ms");
        }
    }

    #[test]
    fn the_pool_is_renewed_once_and_not_all_at_once() {
        let mut trust = proven(ON);
        let begun = at(10_000);
        burst(&mut trust, begun);
        // One of each eighth is a scout.
        for step in 0..8 {
            let count = renewed(&mut trust, begun.plus(Duration::from_millis(100 * step)), SIZE);
            assert_eq!(count, SIZE / 8 - 1, "in step {step}");
        }
        let young = begun.plus(Duration::from_millis(1));
        let later = begun.plus(Duration::from_millis(850));
        let replaces = |trust: &mut Trust<u32>| trust.replaces(later, young, SIZE, |_| false);
        assert_eq!(replaces(&mut trust), Some(Replacement::Scout));
        assert_eq!(replaces(&mut trust), None, "it was dialled after the trouble had begun");
    }

    #[test]
    fn scouts_that_are_answered_in_a_row_have_the_pool_renewed_if_others_were_not() {
        for lost in [true, false] {
            let mut trust = proven(ON);
            burst(&mut trust, at(10_000));
            (0..4).for_each(|_| {
                if lost {
                    trust.failed(at(10_100), true, SIZE);
                }
            });
            let young = at(10_150);
            let mut rounds = 0;
            for step in 0..u64::from(STREAK) + 2 {
                let now = at(10_200 + 100 * step);
                if trust.replaces(now, young, SIZE, |_| true) == Some(Replacement::Scout) {
                    trust.sent_scout(7);
                }
                let replaces = trust.replaces(now, young, SIZE, |_| true);
                rounds += u32::from(replaces == Some(Replacement::Distrusted));
            }
            assert_eq!(rounds > 0, lost);
        }
    }

    /// The rounds after a trouble, in tenths of a second: from its last failure to the first, and
    /// from each to the next.
    fn rounds(mut trust: Trust<u32>, certain: bool) -> Vec<u64> {
        burst(&mut trust, at(10_000));
        (0..4).for_each(|_| trust.failed(at(10_000), certain, SIZE));
        let (mut dialled_at, mut rounds) = (at(10_001), vec![10_000]);
        for ms in 10_001..200_000 {
            trust.answered(at(ms), false);
            match trust.replaces(at(ms), dialled_at, SIZE, |_| false) {
                Some(Replacement::Distrusted) => {
                    rounds.push(ms);
                    dialled_at = at(ms);
                }
                Some(Replacement::Scout) => trust.sent_scout(1),
                _ => {}
            }
        }
        rounds.windows(2).map(|two| (two[1] - two[0]).div_ceil(100)).collect()
    }

    #[test]
    fn after_a_trouble_rounds_grow_rarer_and_end() {
        // Outstanding queries end first.
        assert_eq!(rounds(proven(ON), false), [35, 30, 60, 120, 240]);
    }

    #[test]
    fn where_newcomers_had_failed_rounds_are_frequent_for_a_minute() {
        let rounds = rounds(proven(ON), true);
        let (fresh, later) = rounds[1..].split_at(38);
        assert_eq!(rounds[0], 35);
        assert!(fresh.iter().all(|pause| *pause == 15), "{fresh:?}");
        assert_eq!(later, [30, 60, 120, 240]);
    }

    #[test]
    fn rounds_of_large_tcp_pools_grow_rarer_at_once() {
        let many = Trust { persists: false, ..proven(ON) };
        assert_eq!(rounds(many, true), [35, 30, 60, 120, 240]);
        let persists = |tcp| Trust::<u32>::new(ON, tcp, true).persists;
        assert!(persists(64) && !persists(65));
    }

    #[test]
    fn renewals_are_paid_for() {
        let mut trust = Trust::<u32>::new(ON, SIZE, false);
        burst(&mut trust, at(0));
        let mut count = 0;
        for ms in 0..50_000 {
            trust.failed(at(ms), true, SIZE);
            count += usize::from(trust.replaces(at(ms), OLD, SIZE, |_| false).is_some());
        }
        let most = SIZE as i64 * (1 + DEBT_MAX) * PRICE / PRICE_IN_TROUBLE;
        assert!(count > SIZE && count <= most as usize, "{count}");
    }

    #[test]
    fn rebalance_renews_each_once_before_any_twice_as_answers_pay_for_it() {
        let settings = TrustSettings { distrust: None, rebalance: true };
        let mut trust = Trust::<u32>::new(settings, SIZE, false);
        let mut dialled = [OLD; SIZE];
        let mut count = 0;
        for ms in 0..60_000 {
            let place = ms as usize % SIZE;
            trust.answered(at(ms), false);
            if trust.replaces(at(ms), dialled[place], SIZE, |_| false).is_some() {
                dialled[place] = at(ms);
                count += 1;
            }
        }
        assert!(count <= 60_000 / PRICE, "{count}");
        assert!(dialled.iter().all(|dialled| *dialled > OLD), "{dialled:?}");
    }

    #[test]
    fn without_distrust_nothing_is_renewed() {
        let mut trust = proven(TrustSettings::default());
        burst(&mut trust, at(10_000));
        assert_eq!(renewed(&mut trust, at(10_000), SIZE), 0);
    }
}
