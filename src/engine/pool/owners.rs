//! TCP connections that are for the queries of one client address each.
//!
//! An upstream that learns the client from the beginning of a connection takes all queries on it as
//! that client's. So such connections are neither shared between clients nor dialled ahead, moved
//! to, or replaced before they retire. A client's queries go on the connection dialled for it last;
//! at the maximum of connections, that which has been idle for longest gives way.

use super::{Pools, TakeError};
use crate::engine::key::ConnectionId;
use crate::engine::stats::Reason;
use crate::moment::Moment;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Last connection of each client address, by the number of its pool when it was dialled. A
/// connection that is closed, or whose pool has another number now, does not match.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<(u32, IpAddr), ConnectionId>);

impl Pools {
    /// Finds a TCP connection of `pool` for one query of the client address `owner`.
    ///
    /// # Errors
    /// [`TakeError`]; nothing has changed then.
    pub(crate) fn take_owned(
        &mut self,
        pool: usize,
        owner: IpAddr,
        now: Moment,
        random: u32,
        waits: impl Fn(ConnectionId, Duration) -> bool,
    ) -> Result<ConnectionId, TakeError> {
        self.now = self.now.max(now);
        if self.stopped {
            return Err(TakeError::Stopped);
        }
        self.retire_overdue(pool, now, random);
        self.pools[pool].pace.forget_old(now);
        let known = self.owners.0.get(&(pool as u32, owner)).and_then(|id| self.slot(*id));
        let slot = match known.filter(|slot| self.is_usable(*slot, pool, now, &waits)) {
            Some(slot) => slot,
            None => self.dial_owned(pool, owner, now, random)?,
        };
        Ok(self.put_on(slot, now, random))
    }

    /// Returns true if the connection in `slot` belongs to `pool` and takes another query.
    fn is_usable(
        &self,
        slot: u32,
        pool: usize,
        now: Moment,
        waits: &impl Fn(ConnectionId, Duration) -> bool,
    ) -> bool {
        let member = &self.connections[slot as usize];
        member.pool as usize == pool
            && member.retiring.is_none()
            && self.has_room(slot)
            && !self.is_blocked(slot, now, waits)
    }

    fn dial_owned(
        &mut self,
        pool: usize,
        owner: IpAddr,
        now: Moment,
        random: u32,
    ) -> Result<u32, TakeError> {
        let state = &self.pools[pool];
        if state.dials.are_paused(now) {
            return Err(TakeError::Paused);
        }
        if state.len() >= state.settings.max_conns {
            let idle = state.idle.front().ok_or(TakeError::Exhausted)?;
            self.close(idle, Reason::Spare);
        }
        let slot = self.dial(pool, now, random);
        if self.owners.0.len() >= 2 * self.capacity {
            let mut owners = std::mem::take(&mut self.owners.0);
            owners.retain(|_, id| self.slot(*id).is_some());
            self.owners.0 = owners;
        }
        self.owners.0.insert((pool as u32, owner), self.id(slot));
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PoolSettings, Pools, TakeError, TrustSettings};
    use crate::engine::key::ConnectionId;
    use crate::moment::Moment;
    use std::net::IpAddr;
    use std::time::Duration;

    const SETTINGS: PoolSettings = PoolSettings {
        expire: Duration::from_secs(10),
        max_age: None,
        jitter: 0,
        max_idle: None,
        spread: 1,
        max_conns: 2,
        max_inflight: 8,
        tcp: true,
        owned: true,
        trust: TrustSettings { distrust: None, rebalance: false },
    };

    fn take(pools: &mut Pools, owner: u8) -> Result<ConnectionId, TakeError> {
        let taken = pools.take(0, Moment::ZERO, || 0, |_, _| false);
        assert_eq!(taken, Err(TakeError::Owned));
        let owner: IpAddr = [192, 0, 2, owner].into();
        let taken = pools.take_owned(0, owner, Moment::ZERO, 0, |_, _| false)?;
        pools.connected(taken, Moment::ZERO);
        Ok(taken)
    }

    #[test]
    fn a_connection_is_reused_by_its_client_alone_and_gives_way_when_it_is_idle() {
        let mut pools = Pools::new([SETTINGS]);
        let first = take(&mut pools, 1).unwrap();
        let other = take(&mut pools, 2).unwrap();
        assert_ne!(first, other);
        assert_eq!(take(&mut pools, 1), Ok(first));
        // Both are busy, and a third is not allowed.
        assert_eq!(take(&mut pools, 3), Err(TakeError::Exhausted));
        pools.release(other, Moment::ZERO, false);
        assert_eq!(take(&mut pools, 2), Ok(other));
        pools.release(other, Moment::ZERO, false);
        let third = take(&mut pools, 3).unwrap();
        assert_eq!(pools.next_closed(), Some(other));
        assert!(third != first && third != other);
        // The client of the closed connection does not get that in its slot.
        assert_eq!(take(&mut pools, 2), Err(TakeError::Exhausted));
        pools.stop();
        assert_eq!(pools.take(0, Moment::ZERO, || 0, |_, _| false), Err(TakeError::Stopped));
    }

    #[test]
    fn clients_that_come_and_go_leave_nothing_behind() {
        let mut pools = Pools::new([SETTINGS]);
        for owner in 0..=255 {
            let taken = take(&mut pools, owner).unwrap();
            pools.release(taken, Moment::ZERO, false);
        }
        assert!(pools.owners.0.len() <= 4, "{} owners", pools.owners.0.len());
    }
}
