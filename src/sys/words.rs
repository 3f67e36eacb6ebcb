//! An array of words that threads share: anonymous pages, read and written as atomic words.
//!
//! The kernel provides a zeroed page at the first write, so that only the used pages of an array
//! cost memory.
//! Nothing here orders one access against another: the caller does that with fences.

use super::cvt;
use std::io;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Minimum length in bytes for huge pages: fewer are not worth the pause at the first write to
/// each, when the kernel clears all of it.
const HUGE_MIN: usize = 16 << 20;
/// Length of a page in bytes, or a multiple of it.
const PAGE: usize = 64 << 10;

/// Words that are zero at first.
pub(crate) struct Words {
    first: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: all accesses go through atomic words, and the mapping lives as long as the value.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps `len` words. Their pages are counted when they are written.
    ///
    /// # Errors
    /// ENOMEM: the address space of the process is limited, or the kernel refuses to promise more
    /// memory than it has (`vm.overcommit_memory=2`).
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let bytes = bytes_of(len)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses the address, so that no existing mapping is replaced.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, kind, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(place.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let words = Self { first, len };
        words.advise(0..len, libc::MADV_NOHUGEPAGE);
        Ok(words)
    }

    /// Asks for huge pages for the words in `range`, which are used in their order: elsewhere, the
    /// first write to each huge page would cost all of it.
    pub(crate) fn prefer_huge_pages(&self, range: Range<usize>) {
        if range.len() * size_of::<AtomicU64>() >= HUGE_MIN {
            self.advise(range, libc::MADV_HUGEPAGE);
        }
    }

    /// Gives an advice about the whole pages within `range`. A kernel without huge pages refuses
    /// it, which costs only time.
    fn advise(&self, range: Range<usize>, advice: libc::c_int) {
        let start = (range.start * size_of::<AtomicU64>()).next_multiple_of(PAGE);
        let end = range.end.min(self.len) * size_of::<AtomicU64>();
        let Some(bytes) = end.checked_sub(start).filter(|bytes| *bytes > 0) else { return };
        // SAFETY: `start` lies within the mapping.
        let first = unsafe { self.first.as_ptr().byte_add(start) };
        // SAFETY: the range is this value's own; the advice changes none of its bytes.
        let _ = cvt(|| unsafe { libc::madvise(first.cast(), bytes, advice) });
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds `len` words, aligned to a page; all bit patterns are valid, and
        // it stays until the value is dropped.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let bytes = bytes_of(self.len).unwrap_or(0);
        // SAFETY: the mapping is this value's own, and no borrow of it outlives the value.
        let _ = cvt(|| unsafe { libc::munmap(self.first.as_ptr().cast(), bytes) });
    }
}

/// Length of the mapping of `len` words, which may not be empty.
fn bytes_of(len: usize) -> io::Result<usize> {
    len.max(1).checked_mul(size_of::<AtomicU64>()).ok_or(io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::Words;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn words_are_zero_and_keep_what_threads_store() {
        let words = Words::new(5_000).unwrap();
        assert!(words.iter().all(|word| word.load(Relaxed) == 0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let words = &words;
                scope.spawn(move || {
                    for word in words.iter().skip(thread).step_by(4) {
                        word.fetch_add(1 + thread as u64, Relaxed);
                    }
                });
            }
        });
        let expected = |place: usize| 1 + place as u64 % 4;
        assert!((0..5_000).all(|place| words[place].load(Relaxed) == expected(place)));
    }

    #[test]
    fn what_does_not_fit_into_the_address_space_is_refused() {
        assert!(Words::new(usize::MAX / 16).is_err());
        assert!(Words::new(usize::MAX).is_err());
        assert_eq!(Words::new(0).unwrap().len(), 0);
    }
}
