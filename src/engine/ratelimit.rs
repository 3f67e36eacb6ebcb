//! Accounts of client prefixes, for limits of queries and replies.
//!
//! An account is a token bucket: it gains the rate of its limit, holds at most a burst, and pays
//! one token for each query or reply. What finds no token is limited, and counts against the
//! account as well if the limit has a window, so that a flood keeps its account empty. Of the
//! limited queries of an account, one in `slip` gets a truncated reply, with which a client whose
//! address is forged by others can repeat its query over TCP.
//!
//! The table has a fixed size. An account is found by a keyed hash, so that no one can choose
//! addresses or names that share the account of another; it has one of [`WAYS`] places, of which
//! the one that was idle for longest gives way to a new account. An account that has been idle
//! until it is full equals a new one, so accounts need not be removed.

use crate::config::{LIMITS, Net, Nets, RateLimit};
use crate::moment::Moment;
use ahash::RandomState;
use std::net::IpAddr;
use std::time::Duration;

/// Places of an account.
const WAYS: usize = 8;
/// Units of a token. A rate of one thousandth per second gains one unit in a microsecond.
const TOKEN: i64 = 1_000_000_000;

/// Subject of a limit, in the order of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(crate) enum Limit {
    /// Queries.
    Query,
    /// Replies with an answer.
    Answer,
    /// Replies that deny the type.
    NoData,
    /// Replies that deny the name.
    NxDomain,
    /// Replies that refer to other servers.
    Referral,
    /// Errors.
    Error,
}

/// Names of the limits in metrics and in the log.
pub(crate) const LIMIT_NAMES: [&str; LIMITS] =
    ["query", "answer", "nodata", "nxdomain", "referral", "error"];

/// Result of a query or reply for its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Verdict {
    /// Beyond the limit: there is no reply.
    Dropped,
    /// Beyond the limit: the reply is truncated.
    Truncated,
    /// Beyond a limit that is only counted.
    Reported,
    /// Within the limit.
    Passed,
}

/// Names in metrics of what happens beyond a limit.
pub(crate) const ACTION_NAMES: [&str; 3] = ["dropped", "truncated", "reported"];

/// Counters of a server block's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitStats {
    /// Queries and replies beyond each limit, by action.
    pub limited: [[u64; ACTION_NAMES.len()]; LIMITS],
    /// Accounts that gave way to others before they were full again.
    pub(crate) displaced: u64,
}

impl LimitStats {
    /// Adds another's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        let counts = self.limited.as_flattened_mut().iter_mut();
        counts.zip(other.limited.as_flattened()).for_each(|(own, other)| *own += other);
        self.displaced += other.displaced;
    }
}

/// Parameters of the accounts of one limit, in units.
#[derive(Clone, Copy)]
struct Pace {
    /// Gain in a microsecond; 0: there is no limit.
    rate: i64,
    most: i64,
    /// Lowest balance; 0: limited queries and replies do not count.
    least: i64,
}

impl Pace {
    fn new(rate: u32, burst: Option<u32>, burst_min: u32, window: Duration) -> Self {
        let rate = i64::from(rate);
        let second = (1_000_000 * rate).max(TOKEN);
        let most = burst.map_or(second, |burst| i64::from(burst) * TOKEN);
        let most = most.max(i64::from(burst_min) * TOKEN);
        Self { rate, most, least: -(rate * window.as_micros() as i64) }
    }
}

/// An account, or a free place.
#[derive(Clone, Copy, Default)]
struct Account {
    /// Hash of its limit and owner; 0: free.
    key: u64,
    balance: i64,
    /// Time of the balance, in microseconds.
    at: u64,
    /// Number of limited queries and replies.
    limited: u32,
    limit: u8,
}

impl Account {
    /// Returns the balance at this time.
    fn balance_at(&self, micros: u64, pace: &Pace) -> i64 {
        let elapsed = i64::try_from(micros.saturating_sub(self.at)).unwrap_or(i64::MAX);
        self.balance.saturating_add(elapsed.saturating_mul(pace.rate)).min(pace.most)
    }
}

/// The limits of a server block, and the accounts of its clients.
pub(crate) struct Limiter {
    accounts: Box<[Account]>,
    paces: [Pace; LIMITS],
    exempt: Nets,
    prefixes: [u8; 2],
    slip: u32,
    is_dry_run: bool,
    hasher: RandomState,
    /// The counters.
    pub(crate) stats: LimitStats,
}

impl Limiter {
    /// Creates empty accounts. `hasher` is keyed.
    pub(crate) fn new(settings: &RateLimit, hasher: &RandomState) -> Self {
        let places = (settings.entries as usize).div_ceil(WAYS) * WAYS;
        let mut bursts = [None; LIMITS];
        bursts[0] = settings.burst;
        let pace = |limit: usize| {
            let RateLimit { rates, bursts_min, window, .. } = settings;
            Pace::new(rates[limit], bursts[limit], bursts_min[limit], *window)
        };
        let paces = std::array::from_fn(pace);
        Self {
            accounts: vec![Account::default(); places].into(),
            paces,
            exempt: Nets::new(settings.exempt.iter()),
            prefixes: settings.prefixes,
            slip: settings.slip,
            is_dry_run: settings.is_dry_run,
            hasher: hasher.clone(),
            stats: LimitStats::default(),
        }
    }

    /// Returns true if there is a limit of this kind for `client`.
    pub(crate) fn covers(&self, limit: Limit, client: IpAddr) -> bool {
        self.paces[limit as usize].rate > 0 && !self.exempt.contains(client.to_canonical())
    }

    /// Returns the prefix of a client.
    pub(crate) fn prefix(&self, client: IpAddr) -> Net {
        let client = client.to_canonical();
        Net::new(client, self.prefixes[usize::from(client.is_ipv6())])
    }

    /// Charges a query or reply to its account, and counts it if it is limited. `owner`: the name,
    /// in lower case, and the type whose replies have an account of their own.
    pub(crate) fn charge(
        &mut self,
        now: Moment,
        limit: Limit,
        client: IpAddr,
        owner: (&[u8], u16),
    ) -> Verdict {
        let key = self.hasher.hash_one((limit, self.prefix(client), owner)).max(1);
        let verdict = self.charge_key(now, limit, key);
        if verdict != Verdict::Passed {
            self.stats.limited[limit as usize][verdict as usize] += 1;
        }
        verdict
    }

    fn charge_key(&mut self, now: Moment, limit: Limit, key: u64) -> Verdict {
        let micros = now.as_nanos() / 1_000;
        let pace = self.paces[limit as usize];
        let place = self.find(micros, limit, key);
        let account = &mut self.accounts[place];
        let balance = account.balance_at(micros, &pace);
        account.at = account.at.max(micros);
        if balance >= TOKEN {
            account.balance = balance - TOKEN;
            return Verdict::Passed;
        }
        account.balance = match pace.least {
            // Otherwise a flood above the rate would never let anything pass.
            0 => balance,
            least => (balance - TOKEN).max(least).min(balance),
        };
        account.limited = account.limited.wrapping_add(1);
        match self.slip {
            _ if self.is_dry_run => Verdict::Reported,
            0 => Verdict::Dropped,
            slip if account.limited.is_multiple_of(slip) => Verdict::Truncated,
            _ => Verdict::Dropped,
        }
    }

    /// Returns the place of an account, which is created if there is none.
    fn find(&mut self, micros: u64, limit: Limit, key: u64) -> usize {
        let sets = (self.accounts.len() / WAYS) as u128;
        // The upper half of the product is uniform, and needs no division.
        let first = ((u128::from(key) * sets) >> 64) as usize * WAYS;
        let places = first..first + WAYS;
        if let Some(place) = places.clone().find(|place| self.accounts[*place].key == key) {
            return place;
        }
        let idle = |place: &usize| {
            let account = &self.accounts[*place];
            (account.key != 0, account.at)
        };
        let place = places.min_by_key(idle).unwrap_or(first);
        let former = &self.accounts[place];
        let pace = &self.paces[usize::from(former.limit)];
        if former.key != 0 && former.balance_at(micros, pace) < pace.most {
            self.stats.displaced += 1;
        }
        let balance = self.paces[limit as usize].most;
        self.accounts[place] = Account { key, balance, at: micros, limited: 0, limit: limit as u8 };
        place
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        size_of_val(&*self.accounts) + size_of_val(self.exempt.ranges())
    }
}

#[cfg(test)]
mod tests;
