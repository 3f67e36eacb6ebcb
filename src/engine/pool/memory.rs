//! Memory of the tables of connections.
//!
//! All of it is reserved at the start and none later; see [`crate::engine::memory`].

use super::Pools;
use crate::engine::memory::{reserved, reserved_boxes};

impl Pools {
    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        let ages: usize = self.pools.iter().map(|pool| pool.ages.reserved()).sum();
        reserved(&self.connections)
            + reserved(&self.free)
            + reserved_boxes(&self.pools)
            + ages
            + reserved(&self.batches)
            + reserved(&self.closed)
            + reserved(&self.rearm)
            + reserved(&self.to_dial)
            + reserved(&self.dialling)
            + self.stalls.reserved()
    }
}
