//! Memory of the tables of outstanding queries.
//!
//! All of it is reserved at the start and none later; see [`crate::engine::memory`].

use super::Exchanges;
use crate::engine::memory::reserved;

impl Exchanges {
    /// Returns the reserved memory in bytes.
    pub fn reserved(&self) -> usize {
        reserved(&self.slots)
            + reserved(&self.free)
            + reserved(&self.queries)
            + reserved(&self.waiters)
            + reserved(&self.waiters_free)
            + self.by_id.reserved()
            + self.by_text.reserved()
            + reserved(&self.timeouts)
            + reserved(&self.on_connection)
            + self.earlier.reserved()
    }
}
