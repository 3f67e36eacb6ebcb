//! Memory latency: huge pages, and prefetches of cache lines.
//!
//! Random reads in a large table wait for address translation as often as for the memory. With huge
//! pages there are so few translations that the processor keeps them in its TLB. If the next
//! address is known in advance, a prefetch overlaps the wait with other work.

use super::cvt;

/// A multiple of the page size on supported processors.
const PAGE: usize = 64 << 10;
/// The size of a huge page on supported processors.
const HUGE: usize = 2 << 20;
/// Minimum number of huge pages: fewer are not worth the pause at the first write to each, when the
/// kernel clears all of it.
const WORTH: usize = 8;

/// Asks the kernel for huge pages under a table of `len` bytes at `address`, as far as whole ones
/// fit and if they are more than a few. The kernel may decline, or huge pages may be disabled
/// (`transparent_hugepage`): that costs only time.
pub(crate) fn prefer_huge_pages(address: usize, len: usize) {
    let start = address.next_multiple_of(HUGE);
    let end = (address + len) / HUGE * HUGE;
    if start + WORTH * HUGE <= end {
        let place = std::ptr::without_provenance_mut(start);
        // SAFETY: this advice changes no byte and no mapping, whatever is at the address.
        let _ = cvt(|| unsafe { libc::madvise(place, end - start, libc::MADV_HUGEPAGE) });
    }
}

/// Frees `values`, and returns their pages to the kernel even if the allocator keeps the addresses.
pub(crate) fn release<T: Copy>(values: Vec<T>) {
    give_back(values.as_ptr().addr(), values.capacity() * size_of::<T>());
}

/// Returns the whole pages among `len` bytes at `address` to the kernel; later reads return zeros.
fn give_back(address: usize, len: usize) {
    let start = address.next_multiple_of(PAGE);
    let end = (address + len) / PAGE * PAGE;
    if start < end {
        let place = std::ptr::without_provenance_mut(start);
        // SAFETY: the bytes belong to the caller, which expects zeros if it reads them again.
        let _ = cvt(|| unsafe { libc::madvise(place, end - start, libc::MADV_DONTNEED) });
    }
}

/// Size of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Prefetches `value`, which will be read soon. The processor may ignore it, which costs only time.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = (&raw const *value).cast::<i8>();
        for offset in (0..size_of_val(value)).step_by(LINE) {
            // SAFETY: a prefetch reads nothing and never faults, whatever is at the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::{HUGE, PAGE, WORTH, give_back, prefer_huge_pages, release};

    /// Returns true if the kernel has accepted the advice for the mapping that contains `address`.
    fn is_advised(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds = range.and_then(|(low, high)| {
                let parse = |text| usize::from_str_radix(text, 16).ok();
                parse(low).zip(parse(high))
            });
            match (bounds, line.strip_prefix("VmFlags:")) {
                (Some((low, high)), _) => inside = (low..high).contains(&address),
                (_, Some(flags)) if inside => return flags.split(' ').any(|flag| flag == "hg"),
                _ => {}
            }
        }
        false
    }

    #[test]
    fn returned_pages_are_empty() {
        let mut values = std::hint::black_box(vec![1_u8; 64 * PAGE]);
        give_back(values.as_ptr().addr(), values.len());
        values = std::hint::black_box(values);
        let empty = values.iter().filter(|value| **value == 0).count();
        assert!((62 * PAGE..=64 * PAGE).contains(&empty) && empty.is_multiple_of(PAGE), "{empty}");
        release(values);
        release(vec![1_u64; 3]);
    }

    #[test]
    fn huge_pages_are_requested_for_large_tables_only() {
        let table: Vec<u8> = Vec::with_capacity((WORTH + 1) * HUGE);
        let address = table.as_ptr().addr();
        prefer_huge_pages(address, WORTH * HUGE - 1);
        assert!(!is_advised(address.next_multiple_of(HUGE)), "that is too little");
        prefer_huge_pages(address, table.capacity());
        if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            assert!(is_advised(address.next_multiple_of(HUGE)));
        }
    }
}
