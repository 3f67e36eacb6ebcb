//! How much memory the engine's tables have reserved, so that an operator can be told beforehand.
//!
//! Nothing is reckoned: each table tells what it holds, beside its own fields, and a test compares
//! the sums with what an allocator counts. What is reserved is not what is used: the kernel gives
//! a page when it is first written to, and tables fill from their beginning.

pub use crate::sys::memory::prefetch;
use std::collections::HashMap;

/// What one worker's engine has reserved, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineMemory {
    /// Outstanding queries and the clients who wait for them.
    pub exchanges: usize,
    /// The pools and their connections.
    pub pools: usize,
    /// The caches of server blocks.
    pub caches: usize,
    /// Zones, stanzas and the names that they except.
    pub routes: usize,
    /// What a turn hands to the shell.
    pub queues: usize,
}

/// Bytes behind a vector.
pub fn reserved<T>(table: &Vec<T>) -> usize {
    table.capacity() * size_of::<T>()
}

/// Where a table lies: its address and its bytes, for who knows about pages.
pub type Place = (usize, usize);

/// Where the elements of a slice lie.
pub fn place_of<T>(table: &[T]) -> Place {
    (table.as_ptr().addr(), size_of_val(table))
}

/// Where the elements of a vector lie, and those that it has room for.
pub fn place_of_vec<T>(table: &Vec<T>) -> Place {
    (table.as_ptr().addr(), reserved(table))
}

/// Bytes behind a map, as the standard library lays it out: a byte of control for each bucket, of
/// which an eighth stays free, and a group of them more.
pub fn reserved_map<K, V, S>(map: &HashMap<K, V, S>) -> usize {
    const GROUP: usize = 16;
    match map.capacity() {
        0 => 0,
        capacity => {
            let buckets = (capacity + capacity.div_ceil(7)).next_power_of_two();
            buckets * (size_of::<(K, V)>() + 1) + GROUP
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{reserved, reserved_map};
    use std::collections::HashMap;

    #[test]
    fn a_vector_has_reserved_its_capacity() {
        assert_eq!(reserved(&Vec::<u32>::with_capacity(10)), 40);
    }

    #[test]
    fn a_map_has_an_eighth_of_its_buckets_free() {
        let with = |entries| reserved_map(&HashMap::<u64, u64>::with_capacity(entries));
        assert_eq!(with(0), 0);
        assert_eq!(with(3), 4 * 17 + 16);
        assert_eq!(with(7), 8 * 17 + 16);
        assert_eq!(with(14), 16 * 17 + 16);
        assert_eq!(with(15), 32 * 17 + 16);
    }
}
