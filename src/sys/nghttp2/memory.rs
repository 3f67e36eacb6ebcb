//! Memory of one session: counted, and bounded.
//!
//! The library is given these functions instead of `malloc` and its kin, so that no peer makes a
//! session hold more than its bound. Beyond it an allocation fails, which ends the session. A
//! block's size is the size that the allocator reports for it, so that both sides of the account
//! agree.

use libnghttp2_sys::nghttp2_mem;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

/// Account of the memory of one session.
#[derive(Debug)]
pub(super) struct Memory {
    used: Cell<usize>,
    peak: Cell<usize>,
    max: usize,
}

impl Memory {
    /// Creates an empty account with a bound of `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { used: Cell::new(0), peak: Cell::new(0), max }
    }

    /// Bytes held now.
    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    /// Maximum number of bytes held so far.
    pub(super) fn peak(&self) -> usize {
        self.peak.get()
    }

    fn has_room(&self, len: usize) -> bool {
        len <= self.max.saturating_sub(self.used.get())
    }

    fn add(&self, len: usize) {
        self.used.set(self.used.get().saturating_add(len));
        self.peak.set(self.peak.get().max(self.used.get()));
    }

    fn remove(&self, len: usize) {
        debug_assert!(len <= self.used.get(), "more was freed than allocated");
        self.used.set(self.used.get().saturating_sub(len));
    }
}

/// Returns the functions for a session whose account is at `memory`.
pub(super) fn functions(memory: *const Memory) -> nghttp2_mem {
    nghttp2_mem {
        mem_user_data: memory.cast_mut().cast(),
        malloc: Some(allocate),
        free: Some(free),
        calloc: Some(allocate_zeroed),
        realloc: Some(reallocate),
    }
}

/// Returns the account behind the pointer that the library hands to each function.
///
/// # Safety
/// `memory` is the pointer given to [`functions`], and its account is alive.
unsafe fn account<'a>(memory: *mut c_void) -> &'a Memory {
    // SAFETY: by the caller's promise; the account is only used through shared references.
    unsafe { &*memory.cast::<Memory>() }
}

/// Returns the size of a block, 0 for the null pointer.
///
/// # Safety
/// `block` is null or was allocated by one of these functions and not freed.
unsafe fn size(block: *mut c_void) -> usize {
    // SAFETY: by the caller's promise.
    unsafe { libc::malloc_usable_size(block) }
}

unsafe extern "C" fn allocate(len: usize, memory: *mut c_void) -> *mut c_void {
    // SAFETY: the library passes the pointer of `functions`; the account outlives the session.
    let memory = unsafe { account(memory) };
    if !memory.has_room(len) {
        return null_mut();
    }
    // SAFETY: any length may be asked for.
    let block = unsafe { libc::malloc(len) };
    // SAFETY: the block is new or null.
    memory.add(unsafe { size(block) });
    block
}

unsafe extern "C" fn allocate_zeroed(count: usize, len: usize, memory: *mut c_void) -> *mut c_void {
    // SAFETY: the library passes the pointer of `functions`; the account outlives the session.
    let memory = unsafe { account(memory) };
    if !memory.has_room(count.saturating_mul(len)) {
        return null_mut();
    }
    // SAFETY: any number and length may be asked for.
    let block = unsafe { libc::calloc(count, len) };
    // SAFETY: the block is new or null.
    memory.add(unsafe { size(block) });
    block
}

unsafe extern "C" fn reallocate(
    block: *mut c_void,
    len: usize,
    memory: *mut c_void,
) -> *mut c_void {
    // SAFETY: the library passes the pointer of `functions`; the account outlives the session.
    let memory = unsafe { account(memory) };
    // SAFETY: the library passes null or a block that it holds.
    let before = unsafe { size(block) };
    if !memory.has_room(len.saturating_sub(before)) {
        return null_mut();
    }
    // SAFETY: as above; the old block is not used any more if this succeeds.
    let moved = unsafe { libc::realloc(block, len) };
    if !moved.is_null() {
        memory.remove(before);
        // SAFETY: the block has just been allocated.
        memory.add(unsafe { size(moved) });
    }
    moved
}

unsafe extern "C" fn free(block: *mut c_void, memory: *mut c_void) {
    // SAFETY: the library passes the pointer of `functions`; the account outlives the session.
    let memory = unsafe { account(memory) };
    // SAFETY: the library passes null or a block that it holds.
    memory.remove(unsafe { size(block) });
    // SAFETY: as above; the library does not use the block afterwards.
    unsafe { libc::free(block) };
}

#[cfg(test)]
mod tests {
    use super::{Memory, allocate, allocate_zeroed, free, reallocate};
    use std::ffi::c_void;

    #[test]
    fn the_bound_holds_and_all_that_is_freed_can_be_had_again() {
        let memory = Memory::new(4_096);
        let place: *mut c_void = (&raw const memory).cast_mut().cast();
        for _ in 0..3 {
            // SAFETY: `place` is an account that outlives the blocks.
            let block = unsafe { allocate(1_000, place) };
            // SAFETY: as above.
            let zeroed = unsafe { allocate_zeroed(100, 10, place) };
            // SAFETY: `block` was allocated above.
            let grown = unsafe { reallocate(block, 2_000, place) };
            assert!(!grown.is_null() && !zeroed.is_null());
            assert!((3_000..=4_096).contains(&memory.used()), "{memory:?}");
            // SAFETY: as above.
            assert!(unsafe { allocate(2_000, place) }.is_null());
            // SAFETY: as above.
            assert!(unsafe { allocate_zeroed(usize::MAX, 2, place) }.is_null());
            // SAFETY: as above; a block that cannot grow stays.
            assert!(unsafe { reallocate(grown, 4_000, place) }.is_null());
            // SAFETY: it was allocated above.
            unsafe { free(grown, place) };
            // SAFETY: as above.
            unsafe { free(zeroed, place) };
            assert_eq!(memory.used(), 0);
        }
        assert!(memory.peak() <= 4_096);
    }
}
