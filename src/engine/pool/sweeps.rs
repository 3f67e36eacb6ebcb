//! Closing of connections by age and idleness, and the wake-ups for it.
//!
//! Idle connections lie in the order of their return and all of them in the order of their
//! retirement, so a sweep looks at the front of both and costs what it closes. A wake-up is
//! requested for the earliest such time, and again only when an earlier one turns up, so the data
//! path does not touch the wheel.

use super::Pools;
use crate::engine::stats::Reason;
use crate::moment::Moment;

impl Pools {
    /// Closes connections of `pool` that are idle for too long, too old or no longer needed.
    /// `random`: a uniform number, for the jitter of their successors.
    pub fn sweep(&mut self, pool: usize, now: Moment, random: u32) {
        self.now = self.now.max(now);
        self.pools[pool].armed = None;
        self.retire_overdue(pool, now, random);
        self.shrink(pool, now);
        self.arm(pool);
    }

    /// Returns the next wake-up request: a pool and its time. It counts as made until the pool's
    /// [`Pools::sweep`] or [`Pools::disarm`].
    pub fn next_request(&mut self) -> Option<(usize, Moment)> {
        while let Some(pool) = self.rearm.pop() {
            let pool = pool as usize;
            self.pools[pool].rearm = false;
            if let Some(due) = self.next_due(pool) {
                self.pools[pool].armed = Some(due);
                return Some((pool, due));
            }
        }
        None
    }

    /// Repeats the request for `pool`, because it could not be delivered.
    pub(crate) fn disarm(&mut self, pool: usize) {
        self.pools[pool].armed = None;
        self.arm(pool);
    }

    /// Closes connections that are idle for too long or too old; busy ones that are too old retire.
    pub(super) fn retire_overdue(&mut self, pool: usize, now: Moment, random: u32) {
        while let Some(slot) = self.overdue_idle(pool, now) {
            self.close(slot, Reason::Expired);
        }
        while let Some(slot) = self.overdue_age(pool, now) {
            if self.replace(slot, now, random) {
                continue;
            }
            if self.connections[slot as usize].outstanding == 0 {
                self.close(slot, Reason::Aged);
            } else {
                self.retire(slot, Reason::Aged);
            }
        }
    }

    /// Returns the connection that has been idle for longest, if that is longer than `expire`.
    fn overdue_idle(&self, pool: usize, now: Moment) -> Option<u32> {
        let slot = self.pools[pool].idle.front()?;
        let until =
            self.connections[slot as usize].idle_since.plus(self.pools[pool].settings.expire);
        (until <= now).then_some(slot)
    }

    fn overdue_age(&self, pool: usize, now: Moment) -> Option<u32> {
        let slot = self.pools[pool].ages.first()?;
        (self.connections[slot as usize].retire_at <= now).then_some(slot)
    }

    /// Closes connections that were not needed for a whole `expire` period, those unused for
    /// longest first, because rotation would otherwise keep the pool of a burst alive for ever.
    fn shrink(&mut self, pool: usize, now: Moment) {
        let state = &self.pools[pool];
        if state.peak_since.plus(state.settings.expire) > now {
            return;
        }
        // A TCP connection that has a successor serves until that is connected.
        let needed = state.peak.max(state.settings.spread) + self.successors(pool);
        for _ in needed..state.usable() {
            let Some(slot) = self.pools[pool].idle.front() else { break };
            self.close(slot, Reason::Surplus);
        }
        let state = &mut self.pools[pool];
        state.peak = state.busy.len();
        state.peak_since = now;
    }

    /// Returns the time at which `pool` next has connections to close.
    fn next_due(&self, pool: usize) -> Option<Moment> {
        let state = &self.pools[pool];
        let member = |slot: u32| &self.connections[slot as usize];
        let expire = state.settings.expire;
        let idle = state.idle.front().map(|slot| member(slot).idle_since.plus(expire));
        let age = state.ages.first().map(|slot| member(slot).retire_at);
        // A pool without idle connections cannot shrink; it would be due at once for ever.
        let shrinks = state.usable() > state.settings.spread && !expire.is_zero();
        let surplus = shrinks.then(|| state.peak_since.plus(expire));
        [idle, age, surplus].into_iter().flatten().min()
    }

    /// Requests a wake-up of `pool` if it is due earlier than the one that is armed.
    pub(super) fn arm(&mut self, pool: usize) {
        let due = self.next_due(pool);
        let state = &mut self.pools[pool];
        let sooner = due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
        if sooner && !state.rearm {
            state.rearm = true;
            self.rearm.push(pool as u32);
        }
    }
}
