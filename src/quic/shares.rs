//! Numbers of handshakes by client address.
//!
//! An address is in the table as long as it has a handshake under way or waiting, so the bound on
//! all handshakes is that of the table.

use quinn_proto::Incoming;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Maximum number of handshakes of an address: an eighth of all. It is more than may begin without
/// a proof of the address, so that forged packets cannot use up the share of its owner.
const HANDSHAKES_OF_ONE_MAX: u32 = 128;

/// A client that begins a connection.
pub(super) struct Newcomer {
    pub(super) incoming: Incoming,
    /// Address of the client, if a proxy has named it.
    pub(super) client: Option<SocketAddr>,
}

impl Newcomer {
    /// Returns the address of the client.
    pub(super) fn address(&self) -> IpAddr {
        self.client.unwrap_or_else(|| self.incoming.remote_address()).ip()
    }
}

/// Addresses with handshakes, and their numbers.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<IpAddr, u32>);

impl Shares {
    /// Counts another handshake of `client`. Returns false if it has its share already.
    pub(super) fn take(&mut self, client: IpAddr) -> bool {
        let count = self.0.entry(client).or_default();
        let is_left = *count < HANDSHAKES_OF_ONE_MAX;
        *count += u32::from(is_left);
        is_left
    }

    /// Counts a handshake of `client` as ended.
    pub(super) fn give_back(&mut self, client: IpAddr) {
        if let Some(count) = self.0.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&client);
            }
        }
    }

    /// Returns the number of all handshakes.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        assert!(self.0.values().all(|count| *count > 0), "{self:?}");
        self.0.values().sum::<u32>() as usize
    }
}
