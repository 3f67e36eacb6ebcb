//! Words that one worker writes while others read them: the protocol of sequence numbers.
//!
//! Each entry has a sequence number, which is odd while a writer changes the entry or the blocks of
//! its chain. A reader copies what it needs between two looks at the number ([`begun`],
//! [`is_unchanged`]); if the number was odd or has changed, the copy is torn and not used. Readers
//! write nothing and wait for nothing. Writers of one entry exclude each other by a lock.
//!
//! All words are atomic, so that a torn copy is no data race. The fences order them: a reader that
//! has read a word of a later write also sees the sequence number of that write.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

/// Reads a word that may be written meanwhile.
#[inline(always)]
pub(super) fn read(word: &AtomicU64) -> u64 {
    #[cfg(test)]
    steps::step();
    word.load(Relaxed)
}

/// Writes a word that may be read meanwhile. The caller excludes other writers, or the word may
/// have the value of any of them.
#[inline(always)]
pub(super) fn write(word: &AtomicU64, value: u64) {
    #[cfg(test)]
    steps::step();
    word.store(value, Relaxed);
}

/// Returns the sequence number before a copy; `None`: the entry is being written.
#[inline(always)]
pub(super) fn begun(sequence: &AtomicU64) -> Option<u64> {
    #[cfg(test)]
    steps::step();
    let number = sequence.load(Acquire);
    (number & 1 == 0).then_some(number)
}

/// Returns true if the words that were read since [`begun`] returned `number` belong together.
#[inline(always)]
pub(super) fn is_unchanged(sequence: &AtomicU64, number: u64) -> bool {
    #[cfg(test)]
    steps::step();
    fence(Acquire);
    sequence.load(Relaxed) == number
}

/// Begins to write an entry, which may be left half-written by a writer that has panicked.
pub(super) fn open(sequence: &AtomicU64) {
    write(sequence, sequence.load(Relaxed) | 1);
    fence(Release);
}

/// Ends the write; returns the new sequence number.
pub(super) fn close(sequence: &AtomicU64) -> u64 {
    #[cfg(test)]
    steps::step();
    let number = (sequence.load(Relaxed) | 1).wrapping_add(1);
    sequence.store(number, Release);
    number
}

/// A hook of tests into each access of a thread.
#[cfg(test)]
pub(super) mod steps {
    use std::cell::RefCell;

    type Hook = Box<dyn FnMut()>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Calls the hook of this thread, which is absent meanwhile.
    pub(super) fn step() {
        if let Some(mut hook) = HOOK.take() {
            hook();
            HOOK.set(Some(hook));
        }
    }

    /// Has `hook` called before each access that `act` makes on this thread.
    pub(crate) fn with<T>(hook: impl FnMut() + 'static, act: impl FnOnce() -> T) -> T {
        HOOK.set(Some(Box::new(hook)));
        let outcome = act();
        HOOK.set(None);
        outcome
    }
}
