//! Memory that is far: pages, and lines of a processor's cache.
//!
//! A reader of large tables at any place waits for the translation of addresses as often as for
//! the memory. With huge pages there are so few translations that the processor has them at hand.
//! And who knows what will be read next can have it fetched meanwhile.

use super::cvt;

/// A multiple of the size of a page on the processors that we know.
const PAGE: usize = 64 << 10;
/// The size of a huge page on the processors that we know.
const HUGE: usize = 2 << 20;
/// Fewer pages are not worth the pause that each takes when it is first written to: the kernel
/// clears all of it.
const WORTH: usize = 8;

/// Asks the kernel for huge pages behind a table of `len` bytes at `address`, from now on, as far
/// as whole ones fit and if they are more than a few. The kernel may decline, or be told never to
/// (`transparent_hugepage`): nothing depends on it but the time that reading takes.
pub(crate) fn prefer_huge_pages(address: usize, len: usize) {
    let start = address.next_multiple_of(HUGE);
    let end = (address + len) / HUGE * HUGE;
    if start + WORTH * HUGE <= end {
        let place = std::ptr::without_provenance_mut(start);
        // SAFETY: this advice changes no byte and no mapping, whatever lies there or does not.
        let _ = cvt(|| unsafe { libc::madvise(place, end - start, libc::MADV_HUGEPAGE) });
    }
}

/// Frees `values`. Their pages are the kernel's again even if the allocator keeps the addresses.
pub(crate) fn release<T: Copy>(values: Vec<T>) {
    give_back(values.as_ptr().addr(), values.capacity() * size_of::<T>());
}

/// Gives whole pages among `len` bytes at `address` back to the kernel: they are zero if they are
/// read again.
fn give_back(address: usize, len: usize) {
    let start = address.next_multiple_of(PAGE);
    let end = (address + len) / PAGE * PAGE;
    if start < end {
        let place = std::ptr::without_provenance_mut(start);
        // SAFETY: the bytes belong to the caller, who reads none of them again but as zeros.
        let _ = cvt(|| unsafe { libc::madvise(place, end - start, libc::MADV_DONTNEED) });
    }
}

/// The line of a processor's cache.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has the processor fetch `value`, which will be read soon. It may as well not: nothing depends on
/// it but the time that reading takes.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = (&raw const *value).cast::<i8>();
        for offset in (0..size_of_val(value)).step_by(LINE) {
            // SAFETY: this reads nothing and faults nowhere, whatever lies there.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::{HUGE, PAGE, WORTH, give_back, prefer_huge_pages, release};

    /// Returns true if the kernel has taken the advice for the mapping that holds `address`.
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
    fn pages_that_are_given_back_are_empty() {
        let mut values = std::hint::black_box(vec![1_u8; 64 * PAGE]);
        give_back(values.as_ptr().addr(), values.len());
        values = std::hint::black_box(values);
        let empty = values.iter().filter(|value| **value == 0).count();
        assert!((62 * PAGE..=64 * PAGE).contains(&empty) && empty.is_multiple_of(PAGE), "{empty}");
        release(values);
        release(vec![1_u64; 3]);
    }

    #[test]
    fn many_whole_pages_are_asked_for_and_few_are_not() {
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
