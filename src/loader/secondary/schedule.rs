//! Times of a zone that is transferred: the next check, and its expiry (RFC 1035 §3.3.13). PURE.
//!
//! A check that finds the zone current, or a transfer, counts as confirmation: the next check is
//! due after REFRESH, and the zone expires EXPIRE after the last confirmation. After a failed check
//! the next one is due after RETRY, or, while no zone is served, after times that double. A
//! notification makes a check due at once; one during a check causes one more behind it.

use crate::moment::Moment;
use std::time::Duration;

/// Minimum of all intervals, and between the end of a check and the next one.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Maximum interval between two checks.
const INTERVAL_MAX: Duration = Duration::from_secs(28 * 86_400);
/// Interval after the first failed check of a zone that was never transferred.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Maximum of these intervals.
const FIRST_RETRY_MAX: Duration = Duration::from_secs(10);

/// Numbers of a SOA record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timers {
    pub(super) refresh: Duration,
    pub(super) retry: Duration,
    pub(super) expire: Duration,
}

impl Timers {
    /// Reads them from the data of a SOA record.
    pub(super) fn of(soa: &[u8]) -> Option<Self> {
        let numbers = soa.len().checked_sub(16)?;
        let number = |place: usize| {
            let bytes = soa.get(numbers + place..)?.first_chunk::<4>()?;
            Some(Duration::from_secs(u32::from_be_bytes(*bytes).into()))
        };
        let [refresh, retry] =
            [number(0)?, number(4)?].map(|time| time.clamp(INTERVAL_MIN, INTERVAL_MAX));
        // A zone must not expire before a failed check was repeated.
        Some(Self { refresh, retry, expire: number(8)?.max(refresh + retry) })
    }
}

/// State of a zone.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    timers: Option<Timers>,
    /// Time of expiry. `None`: there is no zone.
    expires: Option<Moment>,
    next: Moment,
    /// End of the last check.
    ended: Option<Moment>,
    failures: u32,
    is_running: bool,
    is_notified: bool,
}

impl Schedule {
    /// A zone without records, whose first check is due now.
    pub(super) fn new(now: Moment) -> Self {
        let (is_running, is_notified) = (false, false);
        let (timers, expires, ended) = (None, None, None);
        Self { timers, expires, next: now, ended, failures: 0, is_running, is_notified }
    }

    /// Adopts a zone that was confirmed `age` ago; its next check is due now.
    pub(super) fn adopt(&mut self, now: Moment, timers: Timers, age: Duration) {
        self.timers = Some(timers);
        self.expires = Some(now.plus(timers.expire.saturating_sub(age)));
        self.next = now;
    }

    /// Returns true if a check is due.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        !self.is_running && self.next <= now
    }

    /// Time of the next check, or of the expiry of the zone if that is still to come.
    pub(super) fn next_turn(&self, is_served: bool) -> Option<Moment> {
        let check = (!self.is_running).then_some(self.next);
        let expiry = self.expires.filter(|_| is_served);
        check.into_iter().chain(expiry).min()
    }

    /// Returns true if the zone may not be served.
    pub(super) fn is_expired(&self, now: Moment) -> bool {
        self.expires.is_none_or(|at| at <= now)
    }

    /// A check begins.
    pub(super) fn begin(&mut self) {
        (self.is_running, self.is_notified) = (true, false);
    }

    /// No check could begin: the next attempt is made at `at`.
    pub(super) fn postpone(&mut self, at: Moment) {
        (self.next, self.is_running) = (at, false);
    }

    /// A primary has notified of a change.
    pub(super) fn notify(&mut self, now: Moment) {
        if self.is_running {
            self.is_notified = true;
        } else {
            self.hurry(now);
        }
    }

    /// The zone has expired: the next check is due at once, because it may be far away.
    pub(super) fn expire(&mut self, now: Moment) {
        if !self.is_running {
            self.hurry(now);
        }
    }

    fn hurry(&mut self, now: Moment) {
        // Notifications can be forged, and must not cause one check after the other.
        let earliest = self.ended.map_or(now, |ended| ended.plus(INTERVAL_MIN));
        self.next = self.next.min(now.max(earliest));
    }

    /// The check has confirmed the zone with these timers at `now`. `jitter`, of 0 to 255,
    /// shortens the interval by up to a tenth.
    pub(super) fn confirm(&mut self, now: Moment, timers: Timers, jitter: u8) {
        self.timers = Some(timers);
        self.expires = Some(now.plus(timers.expire));
        self.failures = 0;
        self.end(now, shortened(timers.refresh, jitter));
    }

    /// The check has confirmed the zone, but a later version could not be taken. Returns the time
    /// until the next check.
    pub(super) fn stick(&mut self, now: Moment, timers: Timers, jitter: u8) -> Duration {
        (self.timers, self.expires) = (Some(timers), Some(now.plus(timers.expire)));
        self.failures = 1;
        self.end(now, shortened(timers.retry, jitter))
    }

    /// The check has failed. Returns the time until the next one.
    pub(super) fn fail(&mut self, now: Moment, jitter: u8) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let first = FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(10));
        let first = first.min(FIRST_RETRY_MAX);
        let wait = match &self.timers {
            Some(timers) if self.is_expired(now) => first.min(timers.retry),
            Some(timers) => shortened(timers.retry, jitter),
            None => first,
        };
        self.end(now, wait)
    }

    fn end(&mut self, now: Moment, wait: Duration) -> Duration {
        (self.is_running, self.ended) = (false, Some(now));
        let wait =
            if std::mem::take(&mut self.is_notified) { wait.min(INTERVAL_MIN) } else { wait };
        self.next = now.plus(wait);
        wait
    }
}

fn shortened(interval: Duration, jitter: u8) -> Duration {
    interval - interval * u32::from(jitter) / 2_560
}

#[cfg(test)]
mod tests {
    use super::{Schedule, Timers};
    use crate::moment::Moment;
    use std::time::Duration;

    const TIMERS: Timers = Timers {
        refresh: Duration::from_secs(3_600),
        retry: Duration::from_secs(600),
        expire: Duration::from_secs(10_000),
    };

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn timers_of_a_soa_have_a_minimum() {
        let soa =
            |numbers: [u32; 5]| [&[0, 0][..], &numbers.map(u32::to_be_bytes).concat()].concat();
        let read = |numbers| Timers::of(&soa(numbers)).unwrap();
        assert_eq!(read([9, 3_600, 600, 10_000, 5]), TIMERS);
        let least = Duration::from_secs(1);
        let zeros = Timers { refresh: least, retry: least, expire: 2 * least };
        assert_eq!((read([0; 5]), Timers::of(&[0; 7])), (zeros, None));
        assert_eq!(read([9, 3_600, 600, 100, 5]).expire, Duration::from_secs(4_200));
    }

    #[test]
    fn a_zone_that_was_never_there_is_tried_in_times_that_double() {
        let mut schedule = Schedule::new(at(5));
        assert!(schedule.is_due(at(5)) && schedule.is_expired(at(5)));
        let waits: Vec<_> = (0..8)
            .map(|_| {
                schedule.begin();
                assert!(!schedule.is_due(at(9_999)), "one check at a time");
                schedule.fail(at(5), 255).as_millis()
            })
            .collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn a_zone_is_refreshed_retried_and_expires_after_the_last_confirmation() {
        let mut schedule = Schedule::new(at(0));
        schedule.begin();
        schedule.confirm(at(100), TIMERS, 0);
        assert_eq!(schedule.next_turn(true), Some(at(3_700)));
        schedule.begin();
        assert_eq!(schedule.next_turn(true), Some(at(10_100)), "while a check runs it may expire");
        assert_eq!(schedule.fail(at(3_710), 0), TIMERS.retry);
        assert_eq!(schedule.next_turn(true), Some(at(4_310)));
        assert!(!schedule.is_expired(at(10_099)) && schedule.is_expired(at(10_100)));
        schedule.begin();
        schedule.confirm(at(20_000), TIMERS, 255);
        assert!(!schedule.is_expired(at(20_000)), "the next good answer ends the expiry");
        let next = schedule.next_turn(true).unwrap();
        assert!(next > at(20_000 + 3_240) && next < at(20_000 + 3_250), "a tenth earlier at most");
    }

    #[test]
    fn a_notification_makes_one_check_due_and_one_more_behind_a_running_one() {
        let mut schedule = Schedule::new(at(0));
        schedule.begin();
        schedule.confirm(at(0), TIMERS, 0);
        schedule.notify(at(10));
        assert!(schedule.is_due(at(10)));
        schedule.begin();
        schedule.notify(at(11));
        schedule.notify(at(12));
        schedule.confirm(at(13), TIMERS, 0);
        assert!(!schedule.is_due(at(13)) && schedule.is_due(at(14)));
        schedule.begin();
        schedule.confirm(at(14), TIMERS, 0);
        assert_eq!(schedule.next_turn(true), Some(at(3_614)));
        schedule.notify(at(14));
        assert!(!schedule.is_due(at(14)) && schedule.is_due(at(15)), "a second behind the last");
    }

    #[test]
    fn a_notification_during_a_check_that_is_stuck_is_not_lost() {
        let mut schedule = Schedule::new(at(0));
        schedule.begin();
        assert_eq!(schedule.stick(at(5), TIMERS, 0), TIMERS.retry);
        assert_eq!(schedule.next_turn(true), Some(at(605)));
        assert!(!schedule.is_expired(at(10_004)) && schedule.is_expired(at(10_005)));
        schedule.begin();
        schedule.notify(at(610));
        assert_eq!(schedule.stick(at(620), TIMERS, 0), Duration::from_secs(1));
        assert!(!schedule.is_due(at(620)) && schedule.is_due(at(621)));
        schedule.begin();
        assert_eq!(schedule.stick(at(622), TIMERS, 0), TIMERS.retry, "it counts once");
    }

    #[test]
    fn the_expiry_makes_a_check_due_that_is_far_away() {
        let mut schedule = Schedule::new(at(0));
        let timers = Timers { retry: Duration::from_secs(50_000), ..TIMERS };
        schedule.begin();
        schedule.confirm(at(0), timers, 0);
        schedule.begin();
        schedule.expire(at(9_000));
        assert_eq!(schedule.fail(at(9_000), 0), timers.retry);
        schedule.expire(at(10_000));
        assert!(schedule.is_due(at(10_000)));
        schedule.begin();
        schedule.fail(at(10_000), 0);
        schedule.begin();
        schedule.fail(at(10_000), 0);
        schedule.postpone(at(60_000));
        schedule.expire(at(10_000));
        assert_eq!(schedule.next_turn(false), Some(at(10_001)), "a second behind the last");
    }

    #[test]
    fn a_zone_that_has_expired_is_checked_as_often_as_one_that_never_came() {
        let mut schedule = Schedule::new(at(0));
        schedule.adopt(at(50), TIMERS, Duration::from_secs(20_000));
        let waits = [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000];
        for wait in waits.map(Duration::from_millis) {
            schedule.begin();
            assert_eq!(schedule.fail(at(50), 0), wait);
        }
        schedule.begin();
        schedule.confirm(at(60), TIMERS, 0);
        schedule.begin();
        assert_eq!(schedule.fail(at(61), 0), TIMERS.retry);
        let short = Timers { retry: Duration::from_secs(1), ..TIMERS };
        schedule.adopt(at(70), short, Duration::from_secs(20_000));
        let waits: Vec<_> = (0..9).map(|_| schedule.fail(at(70), 0)).collect();
        assert_eq!(waits[8], short.retry, "never less often than its own interval");
    }

    #[test]
    fn a_zone_from_disk_has_the_rest_of_its_time() {
        let mut schedule = Schedule::new(at(0));
        schedule.adopt(at(50), TIMERS, Duration::from_secs(9_000));
        assert!(schedule.is_due(at(50)) && !schedule.is_expired(at(1_049)));
        assert!(schedule.is_expired(at(1_050)));
        schedule.adopt(at(50), TIMERS, Duration::from_secs(10_001));
        assert!(schedule.is_expired(at(50)));
    }
}
