//! Numbers of connections by client address.
//!
//! An address is in the table as long as it has a connection. A connection whose header of the
//! PROXY protocol is to come has no address yet. The limits are in [`super::Clients`].

use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses with at least one connection, and their numbers of connections.
pub(super) struct Addresses(pub(super) HashMap<IpAddr, u32, ahash::RandomState>);

impl Addresses {
    /// Creates an empty table. `hasher` is keyed because strangers choose their addresses.
    pub(super) fn new(hasher: ahash::RandomState) -> Self {
        Self(HashMap::with_hasher(hasher))
    }

    /// Returns the number of connections of `address`.
    pub(super) fn count(&self, address: IpAddr) -> u32 {
        self.0.get(&address).copied().unwrap_or(0)
    }

    /// Counts another connection of `address`.
    pub(super) fn add(&mut self, address: IpAddr) {
        *self.0.entry(address).or_default() += 1;
    }

    /// Counts a connection of `address` that has ended.
    pub(super) fn remove(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(count) = self.0.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&address);
            }
        }
    }
}
