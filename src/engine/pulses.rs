//! Pace of late replies to each client address.
//!
//! An attacker who forges a client's address can hold up answers to many queries and then let them
//! arrive at once (a pulse). Late replies to one address therefore leave one by one, after a small
//! burst. Each place of the table has the time from which the next reply is free (the generic cell
//! rate algorithm), and an address has a place by a keyed hash, so no one can choose an address
//! that shares the place of another.

use crate::config::Late;
use crate::moment::Moment;
use ahash::RandomState;
use std::net::IpAddr;

/// Number of places, a power of two: 32 KiB.
const PLACES: usize = 4_096;
const SECOND: u64 = 1_000_000_000;

/// The pace of a worker.
pub(crate) struct Pulses {
    /// Times in nanoseconds at which all earlier replies are paid.
    paid_at: Box<[u64]>,
    /// Time between two replies in nanoseconds; 0: none.
    interval: u64,
    /// Time by which replies may be ahead of their pace.
    allowance: u64,
    hasher: RandomState,
}

impl Pulses {
    /// Creates a pace. `hasher` is keyed.
    pub(crate) fn new(settings: &Late, hasher: &RandomState) -> Self {
        let paid_at = vec![0; PLACES].into();
        let mut pulses = Self { paid_at, interval: 0, allowance: 0, hasher: hasher.clone() };
        pulses.set(settings);
        pulses
    }

    /// Continues with other settings.
    pub(crate) fn set(&mut self, settings: &Late) {
        let interval = if settings.rate == 0 { 0 } else { SECOND / u64::from(settings.rate) };
        if interval != self.interval {
            // Times at the old pace may be far ahead of the new one.
            self.paid_at.fill(0);
        }
        self.interval = interval;
        self.allowance = self.interval * u64::from(settings.burst.saturating_sub(1));
    }

    /// Returns the time at which the next late reply to `client` leaves, without counting it.
    pub(crate) fn due(&self, now: Moment, client: IpAddr) -> Moment {
        let paid_at = self.paid_at[self.place(client)];
        Moment::from_nanos(paid_at.saturating_sub(self.allowance).max(now.as_nanos()))
    }

    /// Counts a late reply to `client`, which leaves when it is due.
    pub(crate) fn count(&mut self, now: Moment, client: IpAddr) {
        let paid_at = &mut self.paid_at[self.place(client)];
        *paid_at = (*paid_at).max(now.as_nanos()) + self.interval;
    }

    fn place(&self, client: IpAddr) -> usize {
        self.hasher.hash_one(client.to_canonical()) as usize % PLACES
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        size_of_val(&*self.paid_at)
    }
}

#[cfg(test)]
mod tests {
    use super::Pulses;
    use crate::config::Late;
    use crate::moment::Moment;
    use ahash::RandomState;
    use std::net::IpAddr;
    use std::time::Duration;

    fn pulses(rate: u32, burst: u32) -> Pulses {
        let settings = Late { rate, burst, discard: None };
        Pulses::new(&settings, &RandomState::with_seeds(1, 2, 3, 4))
    }

    fn client(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    /// Milliseconds after `now` at which each of `count` replies leaves.
    fn delays(pulses: &mut Pulses, now: Moment, client: IpAddr, count: usize) -> Vec<u128> {
        let mut take = || {
            let due = pulses.due(now, client);
            pulses.count(now, client);
            due.since(now).as_millis()
        };
        (0..count).map(|_| take()).collect()
    }

    #[test]
    fn replies_beyond_the_burst_leave_one_by_one() {
        let mut pulses = pulses(1_000, 3);
        let at = |millis| Moment::ZERO.plus(Duration::from_millis(millis));
        assert_eq!(delays(&mut pulses, at(5), client(1), 6), [0, 0, 0, 1, 2, 3]);
        assert_eq!(delays(&mut pulses, at(5), client(2), 4), [0, 0, 0, 1], "another client");
        // Five of six are paid at 10 ms.
        assert_eq!(delays(&mut pulses, at(10), client(1), 3), [0, 0, 1]);
        assert_eq!(delays(&mut pulses, at(999), client(1), 4), [0, 0, 0, 1]);
        pulses.set(&Late { rate: 0, burst: 3, discard: None });
        assert!(delays(&mut pulses, at(2_000), client(1), 100).iter().all(|delay| *delay == 0));
    }

    #[test]
    fn an_address_has_one_pace_in_both_forms() {
        let mut pulses = pulses(1_000, 1);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(delays(&mut pulses, Moment::ZERO, client(1), 1), [0]);
        assert_eq!(delays(&mut pulses, Moment::ZERO, mapped, 1), [1]);
    }
}
