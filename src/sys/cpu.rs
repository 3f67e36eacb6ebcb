//! Cores: which there are, and pinning a thread to one.
//!
//! A worker that the scheduler may move loses its caches at every move, and two on one core wait
//! for each other; so each is pinned before it touches its memory.

use std::io;

/// The cores this process may run on, ascending. Empty when the kernel will not say.
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Pins the calling thread to `core`.
///
/// # Errors
/// The kernel refused: there is no such core, or this process may not run on it.
pub fn pin(core: usize) -> io::Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::{cores, pin};

    #[test]
    fn a_thread_is_pinned_to_a_core_that_exists_and_to_no_other() {
        let last = *cores().last().unwrap();
        std::thread::spawn(move || {
            pin(last).unwrap();
            assert_eq!(cores(), [last]);
            pin(1_000).unwrap_err();
        })
        .join()
        .unwrap();
    }
}
