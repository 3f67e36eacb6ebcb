//! Memory of the engine's tables: how much they have reserved, and how tables grow.
//!
//! Each table tells what it holds, beside its own fields, and a test compares the sums with what an
//! allocator counts. Most tables are reserved at the start. Those of caches grow ([`grow`]),
//! because there may be thousands of caches and most of them stay small. Reserved memory is not
//! used memory: the kernel gives a page when it is first written to, and tables fill from their
//! beginning.

use crate::sys::memory::prefer_huge_pages;
pub use crate::sys::memory::prefetch;
use std::collections::HashMap;

/// Elements of a growing table that has any.
pub const GROWN_MIN: usize = 16;
/// Bytes of the largest table that is copied to another place; what would be larger is reserved at
/// its full size. So no growth takes longer than a copy of this, and large tables never move.
const COPIED_MAX: usize = 256 << 10;

/// What one worker's engine has reserved, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineMemory {
    /// Outstanding queries and the clients who wait for them.
    pub exchanges: usize,
    /// The pools and their connections.
    pub pools: usize,
    /// The caches of server blocks, as they are now.
    pub caches: usize,
    /// The same when all of them are full.
    pub caches_max: usize,
    /// Zones, stanzas and the names that they except.
    pub routes: usize,
    /// What a turn hands to the shell.
    pub queues: usize,
    /// Additional bytes that parked queries can come to reserve; zero where nothing is parked.
    pub parked_max: usize,
}

/// Bytes behind a vector.
pub fn reserved<T>(table: &Vec<T>) -> usize {
    table.capacity() * size_of::<T>()
}

/// The bytes that `table` and what its boxes hold have reserved.
pub fn reserved_boxes<T>(table: &Vec<Box<T>>) -> usize {
    reserved(table) + table.len() * size_of::<T>()
}

/// Where a table lies: its address and its bytes, for who knows about pages.
pub type Place = (usize, usize);

/// Returns the memory of the elements of a slice.
pub fn place_of<T>(table: &[T]) -> Place {
    (table.as_ptr().addr(), size_of_val(table))
}

/// Returns the memory of the elements of a vector, spare room included.
pub fn place_of_vec<T>(table: &Vec<T>) -> Place {
    (table.as_ptr().addr(), reserved(table))
}

/// Makes room in a full table that may have `max` elements: twice the room it has, or all of it
/// where twice would be much to copy.
///
/// # Panics
/// When the table has `max` elements already.
#[cold]
pub fn grow<T>(table: &mut Vec<T>, max: usize) {
    assert!(table.len() < max, "a table does not grow beyond its bound");
    let room = grown(table.capacity(), size_of::<T>(), max);
    table.reserve_exact(room - table.len());
    if room == max {
        let (address, len) = place_of_vec(table);
        prefer_huge_pages(address, len);
    }
}

/// Elements of a table after its growth from `before`.
fn grown(before: usize, element_bytes: usize, max: usize) -> usize {
    let doubled = (2 * before).max(GROWN_MIN);
    if doubled * element_bytes > COPIED_MAX { max } else { doubled.min(max) }
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
    use super::{COPIED_MAX, grow, reserved, reserved_map};
    use std::collections::HashMap;

    #[test]
    fn a_table_doubles_until_that_would_be_much_to_copy() {
        let rooms = |max: usize| {
            let mut table = Vec::<[u64; 8]>::new();
            let mut rooms = Vec::new();
            for _ in 0..max {
                if table.len() == table.capacity() {
                    assert!(reserved(&table) <= COPIED_MAX, "{} are moved", table.len());
                    grow(&mut table, max);
                    rooms.push(table.capacity());
                }
                table.push([0; 8]);
            }
            assert_eq!(table.capacity(), max);
            rooms
        };
        assert_eq!(rooms(1), [1]);
        assert_eq!(rooms(100), [16, 32, 64, 100]);
        let up = [16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 70_000];
        assert_eq!(rooms(70_000), up);
    }

    #[test]
    #[should_panic(expected = "beyond its bound")]
    fn a_table_at_its_bound_does_not_grow() {
        grow(&mut vec![1_u8; 4], 4);
    }

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
