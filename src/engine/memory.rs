//! Memory of the engine's tables: reserved sizes, and growth.
//!
//! Each table counts its own memory, and a test compares the sums with the allocator. Most tables
//! are reserved at the start. Those of caches grow ([`grow`]), because there may be thousands of
//! caches and most stay small. Reserved memory is not used memory: the kernel provides a page on
//! the first write, and tables fill from their beginning.

use crate::sys::memory::prefer_huge_pages;
pub(crate) use crate::sys::memory::{prefetch, release};
use std::collections::HashMap;

/// Initial number of elements of a growing table.
pub(crate) const GROWN_MIN: usize = 16;
/// Maximum size in bytes of a table that is copied when it grows; a larger one is reserved at its
/// full size. So no growth takes longer than such a copy, and large tables never move.
const COPIED_MAX: usize = 256 << 10;

/// Reserved memory of one worker's engine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineMemory {
    /// Outstanding queries and their waiting clients.
    pub(crate) exchanges: usize,
    /// The pools and their connections.
    pub(crate) pools: usize,
    /// The worker's access to the caches of server blocks.
    pub(crate) caches: usize,
    /// The same with all buffers.
    pub(crate) caches_max: usize,
    /// Entries of the caches, which all workers share, at their present size.
    pub(crate) shared_caches: usize,
    /// The same if all caches are full.
    pub(crate) shared_caches_max: usize,
    /// Accounts of clients, for limits.
    pub(crate) limits: usize,
    /// Zones, stanzas and their excepted names.
    pub(crate) routes: usize,
    /// Queues to the shell.
    pub queues: usize,
    /// Maximum of additional bytes for parked queries; zero if no query can be parked.
    pub(crate) parked_max: usize,
    /// Maximum of additional bytes for late replies that are held back.
    pub(crate) held_max: usize,
}

/// Memory of a vector's elements, in bytes.
pub(crate) fn reserved<T>(table: &Vec<T>) -> usize {
    table.capacity() * size_of::<T>()
}

/// Memory of a vector of boxes and their contents, in bytes.
pub(crate) fn reserved_boxes<T>(table: &Vec<Box<T>>) -> usize {
    reserved(table) + table.len() * size_of::<T>()
}

/// Address and length in bytes of a table, for page settings.
pub(crate) type Place = (usize, usize);

/// Returns the memory of the elements of a vector, spare room included.
pub(crate) fn place_of_vec<T>(table: &Vec<T>) -> Place {
    (table.as_ptr().addr(), reserved(table))
}

/// Makes room in a full table of at most `max` elements: doubles it, or reserves the maximum if the
/// copy would be large.
///
/// # Panics
/// If the table has `max` elements already.
#[cold]
pub(crate) fn grow<T>(table: &mut Vec<T>, max: usize) {
    assert!(table.len() < max, "a table does not grow beyond its bound");
    let room = grown(table.capacity(), size_of::<T>(), max);
    table.reserve_exact(room - table.len());
    if room == max {
        let (address, len) = place_of_vec(table);
        prefer_huge_pages(address, len);
    }
}

/// Number of elements of a table after its growth from `before`.
fn grown(before: usize, element_bytes: usize, max: usize) -> usize {
    let doubled = (2 * before).max(GROWN_MIN);
    if doubled * element_bytes > COPIED_MAX { max } else { doubled.min(max) }
}

/// Memory of a map in the layout of the standard library: a control byte for each bucket, of which
/// an eighth stays free, and an additional group of them.
pub(crate) fn reserved_map<K, V, S>(map: &HashMap<K, V, S>) -> usize {
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
    fn a_table_doubles_until_the_copy_would_be_large() {
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
